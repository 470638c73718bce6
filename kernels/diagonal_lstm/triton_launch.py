"""diagonal_lstm in Triton: the scan of kernels/lstm over diagonals. Importing this file imports triton."""

from torch import Tensor

from genfast.kernels.diagonal_lstm.scan import diagonal_scan
from genfast.kernels.lstm import triton_launch


def forward(
    x: Tensor, weight: Tensor, h0: Tensor, c0: Tensor, reverse: bool, keep: bool
) -> tuple[Tensor, Tensor, Tensor]:
    return triton_launch.forward(x, weight, h0, c0, diagonal_scan(reverse), keep)


def backward(
    grad: Tensor, h: Tensor, gates: Tensor, c: Tensor, weight: Tensor, h0: Tensor, c0: Tensor, reverse: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    return triton_launch.backward(grad, h, gates, c, weight, h0, c0, diagonal_scan(reverse))
