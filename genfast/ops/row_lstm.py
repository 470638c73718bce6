"""genfast::row_lstm: the schema and the function; ops/lstm.py makes an operator of it, and the arithmetic is in
kernels/row_lstm."""

import torch
from torch import Tensor

from genfast.kernels.row_lstm import reference
from genfast.kernels.row_lstm.scan import row_scan
from genfast.ops import lstm
from genfast.ops.autocast import cast_to_autocast
from genfast.ops.backends import BACKENDS, choose

# Backends travel as their positions in BACKENDS: in the stable ABI of torch 2.11 to 2.13 strings leak.
_library = torch.library.Library("genfast", "FRAGMENT")
_library.define(
    "row_lstm(Tensor x, Tensor weight, Tensor h0, Tensor c0, bool keep, int backend) -> (Tensor, Tensor, Tensor)"
)
_library.define(
    "row_lstm_bwd(Tensor grad, Tensor h, Tensor gates, Tensor c, Tensor weight, Tensor h0, Tensor c0, int backend)"
    " -> (Tensor, Tensor, Tensor, Tensor)"
)


def row_lstm(x: Tensor, weight: Tensor, h0: Tensor, c0: Tensor, backend: str = "auto") -> Tensor:
    """The recurrence of the Row LSTM, down the image: van den Oord et al. 2016, "Pixel Recurrent Neural Networks",
    section 3.1 and equation 3.

    x [B, 4h, H, W] is the input-to-state map, bias included, in four blocks of h channels: gates i, f, g, o as in
    nn.LSTM. weight [4h, h, k], laid out as in nn.Conv1d, k odd, is the unmasked state-to-state convolution along the
    row above, with zeros beyond its ends:

        gates(y) = x[:, :, y] + F.conv1d(h(y - 1), weight, padding=k // 2)
        c(y) = sigmoid(f) * c(y - 1) + sigmoid(i) * tanh(g);  h(y) = sigmoid(o) * tanh(c(y))

    h0 and c0 [h] are the state of the row above the image, the same at every x. -> h [B, h, H, W] in the memory format
    of x; channels_last is the fast one. float32, float64, bfloat16 and, on a GPU, float16: h is stored in 16 bits, and
    sums, gates and c are float32. Differentiable once in x, weight, h0 and c0.

    Raises ValueError for shapes or dtypes that do not fit, RuntimeError for a backend asked for by name that is not
    there.
    """
    x, weight, h0, c0 = cast_to_autocast(x, weight, h0, c0)
    lstm.check_inputs(x, weight, h0, c0)
    if weight.shape[2] % 2 == 0:
        raise ValueError(f"weight must have an odd number of taps, but has {weight.shape[2]}.")
    keep = lstm.keep_for_backward(x, weight, h0, c0)
    how = BACKENDS.index(choose(backend, x.device, "row_lstm"))
    h: Tensor = torch.ops.genfast.row_lstm(x, weight, h0, c0, keep, how)[0]
    return h


lstm.register(_library, "row_lstm", reference, row_scan)
