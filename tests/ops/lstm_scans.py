"""What the tests of row_lstm and diagonal_lstm share: the scans themselves, their inputs, and nn.LSTM as an oracle."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor, nn

from genfast import ops
from genfast.kernels.diagonal_lstm.reference import diagonal_lstm as diagonal_reference
from genfast.kernels.row_lstm.reference import row_lstm as row_reference
from genfast.ops.backends import OPERATORS, why_not
from genfast.testing.cases import arrange

Function = Callable[..., Tensor]


@dataclass(frozen=True)
class Scan:
    """One way over the image: an operator and its reference as functions of x, weight [4h, h, taps], h0 and c0."""

    label: str
    name: str  # of the operator
    function: Function  # takes backend= too
    reference: Function
    taps: int
    way: tuple[bool, ...] = ()  # what the operator's schema takes between c0 and keep

    def __str__(self) -> str:
        return self.label

    def on(self, backend: str) -> Function:
        return partial(self.function, backend=backend)


ROW = Scan("row", "row_lstm", ops.row_lstm, row_reference, taps=3)
DIAGONAL = Scan("diagonal", "diagonal_lstm", ops.diagonal_lstm, diagonal_reference, taps=2, way=(False,))
REVERSE = Scan(
    "diagonal from right to left",
    "diagonal_lstm",
    partial(ops.diagonal_lstm, reverse=True),
    partial(diagonal_reference, reverse=True),
    taps=2,
    way=(True,),
)
SCANS = [ROW, DIAGONAL, REVERSE]
WIDTHS = [replace(ROW, label=f"row, {taps} taps", taps=taps) for taps in (1, 5)]

RUNNABLE = [b for b in OPERATORS["row_lstm"] if b in ("reference", "cpu") and not why_not(b)]  # of both operators
SIZES = [(1, 1), (1, 7), (6, 1), (5, 7), (7, 4)]  # H, W
DTYPES = [torch.float32, torch.float64, torch.bfloat16]
# (B, h, H, W), layout: vectors hold 4 (generic), 8 (avx2) or 16 (avx512) floats
CASES = [
    ((1, 1, 1, 1), "contiguous"),
    ((3, 1, 5, 7), "contiguous"),
    ((3, 5, 1, 7), "channels_last"),
    ((3, 16, 6, 1), "sliced"),
    ((3, 19, 5, 7), "channels_last"),
    ((1, 16, 5, 7), "swapped"),
    ((2, 33, 7, 4), "contiguous"),
    ((17, 3, 3, 4), "channels_last"),  # more images than go together
]


def make_inputs(
    shape: tuple[int, int, int, int], taps: int, dtype: torch.dtype = torch.float64, layout: str = "contiguous"
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """x, weight, h0, c0 and a gradient of h, for shape (B, h, H, W): normal numbers, recurrent weights that keep the
    state's size."""
    batch, hidden, height, width = shape
    generator = torch.Generator().manual_seed(hidden * height + width)

    def normal(*size: int) -> Tensor:
        return torch.randn(*size, generator=generator, dtype=torch.float64)

    x = arrange(normal(batch, 4 * hidden, height, width).to(dtype), layout)
    weight = (normal(4 * hidden, hidden, taps) / (hidden * taps) ** 0.5).to(dtype)
    grad = arrange(normal(batch, hidden, height, width).to(dtype), layout)
    return x, weight, normal(hidden).to(dtype), normal(hidden).to(dtype), grad


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


def gradients(function: Function, inputs: Sequence[Tensor], grad: Tensor) -> list[Tensor]:
    """The output and the gradients of everything that goes in."""
    leaves = [t.detach().requires_grad_() for t in inputs]  # strides and all
    out = function(*leaves)
    return [out, *torch.autograd.grad(out, leaves, grad)]
