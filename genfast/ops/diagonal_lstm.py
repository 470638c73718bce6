"""genfast::diagonal_lstm: the schema and the function; ops/lstm.py makes an operator of it, and the arithmetic is in
kernels/diagonal_lstm."""

import torch
from torch import Tensor

from genfast.kernels.diagonal_lstm import reference
from genfast.kernels.diagonal_lstm.scan import diagonal_scan
from genfast.ops import lstm
from genfast.ops.autocast import cast_to_autocast
from genfast.ops.backends import BACKENDS, choose

# Backends travel as their positions in BACKENDS: in the stable ABI of torch 2.11 to 2.13 strings leak.
_library = torch.library.Library("genfast", "FRAGMENT")
_library.define(
    "diagonal_lstm(Tensor x, Tensor weight, Tensor h0, Tensor c0, bool reverse, bool keep, int backend)"
    " -> (Tensor, Tensor, Tensor)"
)
_library.define(
    "diagonal_lstm_bwd(Tensor grad, Tensor h, Tensor gates, Tensor c, Tensor weight, Tensor h0, Tensor c0,"
    " bool reverse, int backend) -> (Tensor, Tensor, Tensor, Tensor)"
)


def diagonal_lstm(
    x: Tensor, weight: Tensor, h0: Tensor, c0: Tensor, reverse: bool = False, backend: str = "auto"
) -> Tensor:
    """One direction of the Diagonal BiLSTM: van den Oord et al. 2016, "Pixel Recurrent Neural Networks", section 3.2
    and equation 3.

    x [B, 4h, H, W] is the input-to-state map, bias included, in four blocks of h channels: gates i, f, g, o as in
    nn.LSTM. weight [4h, h, 2] holds the taps (up, left): the 2 x 1 column convolution of the paper's skewed map.

        gates(y, x) = x[:, :, y, x] + weight[:, :, 0] @ h(y - 1, x) + weight[:, :, 1] @ h(y, x - 1)
        c(y, x) = sigmoid(f) * c(y, x - 1) + sigmoid(i) * tanh(g);  h(y, x) = sigmoid(o) * tanh(c(y, x))

    h0 and c0 [h] are the state left of the image, the same at every y; above the image h is zero. reverse=True is the
    mirror image, from right to left, with h0 and c0 right of the image. -> h [B, h, H, W] in the memory format of x;
    channels_last is the fast one. float32, float64, bfloat16 and, on a GPU, float16: h is stored in 16 bits, and
    sums, gates and c are float32. Differentiable once in x, weight, h0 and c0.

    Raises ValueError for shapes or dtypes that do not fit, RuntimeError for a backend asked for by name that is not
    there.
    """
    x, weight, h0, c0 = cast_to_autocast(x, weight, h0, c0)
    lstm.check_inputs(x, weight, h0, c0)
    if weight.shape[2] != 2:
        raise ValueError(f"weight must have 2 taps, up and left, but has {weight.shape[2]}.")
    keep = lstm.keep_for_backward(x, weight, h0, c0)
    how = BACKENDS.index(choose(backend, x.device, "diagonal_lstm"))
    h: Tensor = torch.ops.genfast.diagonal_lstm(x, weight, h0, c0, reverse, keep, how)[0]
    return h


lstm.register(_library, "diagonal_lstm", reference, lambda taps, reverse: diagonal_scan(reverse))
