"""A row of a masked convolution is one tap_gemm: the identity that the CPU kernel is built on."""

import pytest
import torch
import torch.nn.functional as F

from genfast import ops
from genfast.kernels.masked_conv2d.mask import num_taps
from genfast.kernels.tap_gemm.reference import tap_gemm


@pytest.mark.parametrize("mask_type", ["A", "B", "VA", "VB"])
def test_a_row_of_a_masked_convolution_is_a_tap_gemm(mask_type: str) -> None:
    channels, outputs, height, width, kh, kw = 3, 5, 6, 7, 5, 3
    x = torch.randn(1, channels, height, width, dtype=torch.float64)
    weight = torch.randn(outputs, channels, kh, kw, dtype=torch.float64)
    bias = torch.randn(outputs, dtype=torch.float64)
    y = ops.masked_conv2d(x, weight, bias, mask_type)
    padded = F.pad(x, (kw // 2, kw // 2, kh // 2, kh // 2))[0]
    taps = [divmod(t, kw) for t in range(num_taps((kh, kw), mask_type, 1))]
    for row in range(height):
        read = [padded[:, row + i, j : j + width].T for i, j in taps]  # [W, I] for each tap
        weights = [weight[:, :, i, j].T for i, j in taps]  # [I, O]
        torch.testing.assert_close(tap_gemm(read, weights, bias), y[0, :, row].T)


def test_no_taps_leave_the_bias() -> None:
    bias = torch.randn(4)
    assert torch.equal(tap_gemm([torch.zeros(3, 0)], [torch.zeros(0, 4)], bias), bias.expand(3, 4))
