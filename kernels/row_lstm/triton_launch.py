"""row_lstm in Triton: the scan of kernels/lstm over rows. Importing this file imports triton."""

from torch import Tensor

from genfast.kernels.lstm import triton_launch
from genfast.kernels.row_lstm.scan import row_scan


def forward(x: Tensor, weight: Tensor, h0: Tensor, c0: Tensor, keep: bool) -> tuple[Tensor, Tensor, Tensor]:
    return triton_launch.forward(x, weight, h0, c0, row_scan(weight.shape[2]), keep)


def backward(
    grad: Tensor, h: Tensor, gates: Tensor, c: Tensor, weight: Tensor, h0: Tensor, c0: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    return triton_launch.backward(grad, h, gates, c, weight, h0, c0, row_scan(weight.shape[2]))
