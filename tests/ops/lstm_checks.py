"""What the tests of row_lstm and diagonal_lstm share: inputs, gradients, and nn.LSTM as an oracle."""

import torch
from torch import Tensor, nn

from genfast.testing.cases import arrange

SIZES = [(1, 1), (1, 7), (6, 1), (5, 7), (7, 4)]  # H, W


def make_inputs(
    shape: tuple[int, int, int, int], taps: int, dtype: torch.dtype = torch.float64, layout: str = "contiguous"
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """x, weight, h0, c0 and a gradient of h, for shape (B, h, H, W): normal numbers, recurrent weights that keep the
    state's size."""
    batch, hidden, height, width = shape
    generator = torch.Generator().manual_seed(hidden * height + width)

    def normal(*size: int) -> Tensor:
        return torch.randn(*size, generator=generator, dtype=torch.float64).to(dtype)

    x = arrange(normal(batch, 4 * hidden, height, width), layout)
    weight = normal(4 * hidden, hidden, taps) / (hidden * taps) ** 0.5
    return x, weight, normal(hidden), normal(hidden), arrange(normal(batch, hidden, height, width), layout)


def lstm_over(x: Tensor, weight_hh: Tensor, h0: Tensor, c0: Tensor) -> Tensor:
    """nn.LSTM over sequences of pre-activations x [B, T, 4h], its input-to-state product being the identity."""
    batch, _, four_h = x.shape
    lstm = nn.LSTM(four_h, four_h // 4, batch_first=True, dtype=x.dtype)
    with torch.no_grad():
        lstm.weight_ih_l0.copy_(torch.eye(four_h))
        lstm.weight_hh_l0.copy_(weight_hh)
        lstm.bias_ih_l0.zero_()
        lstm.bias_hh_l0.zero_()
    state = h0.expand(1, batch, -1).contiguous(), c0.expand(1, batch, -1).contiguous()
    return lstm(x, state)[0].detach()


def gradients(function, inputs: tuple[Tensor, ...], grad: Tensor) -> list[Tensor]:
    """The output and the gradients of everything that goes in."""
    leaves = [t.detach().requires_grad_() for t in inputs]  # strides and all
    out = function(*leaves)
    return [out.detach(), *torch.autograd.grad(out, leaves, grad)]
