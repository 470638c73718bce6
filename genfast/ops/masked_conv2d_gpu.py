"""genfast::masked_conv2d on CUDA tensors: the Triton kernels, or the CUDA C++ ones where the extension was built with
nvcc."""

import torch
from torch import Tensor

from genfast.kernels.masked_conv2d.mask import MASK_TYPES, num_taps
from genfast.ops.backends import BACKENDS


def _for_cuda(kernel_size: tuple[int, int], mask: int, color_groups: int) -> tuple[int, int, bool]:
    """How the CUDA operators take a mask: how many taps, and whether the pixel itself reads only groups before its
    own."""
    mask_type = MASK_TYPES[mask]
    return num_taps(kernel_size, mask_type, color_groups), color_groups, mask_type == "A"


def forward(x: Tensor, weight: Tensor, bias: Tensor | None, mask: int, color_groups: int, backend: int) -> Tensor:
    if BACKENDS[backend] == "triton":
        from genfast.kernels.masked_conv2d import triton_launch

        return triton_launch.masked_conv2d(x, weight, bias, MASK_TYPES[mask], color_groups)
    kernel_size = (weight.shape[2], weight.shape[3])
    out: Tensor = torch.ops.genfast.masked_conv2d_cuda(x, weight, bias, *_for_cuda(kernel_size, mask, color_groups))
    return out


def bwd_input(grad: Tensor, weight: Tensor, mask: int, color_groups: int, backend: int) -> Tensor:
    if BACKENDS[backend] == "triton":
        from genfast.kernels.masked_conv2d import triton_launch

        return triton_launch.masked_conv2d_bwd_input(grad, weight, MASK_TYPES[mask], color_groups)
    how = _for_cuda((weight.shape[2], weight.shape[3]), mask, color_groups)
    out: Tensor = torch.ops.genfast.masked_conv2d_bwd_input_cuda(grad, weight, *how)
    return out


def bwd_weight(
    grad: Tensor, x: Tensor, kh: int, kw: int, mask: int, color_groups: int, backend: int
) -> tuple[Tensor, Tensor]:
    if BACKENDS[backend] == "triton":
        from genfast.kernels.masked_conv2d import triton_launch

        return triton_launch.masked_conv2d_bwd_weight(grad, x, (kh, kw), MASK_TYPES[mask], color_groups)
    how = _for_cuda((kh, kw), mask, color_groups)
    out: tuple[Tensor, Tensor] = torch.ops.genfast.masked_conv2d_bwd_weight_cuda(grad, x, kh, kw, *how)
    return out


def register(library: torch.library.Library) -> None:
    library.impl("masked_conv2d", forward, "CUDA")
    library.impl("masked_conv2d_bwd_input", bwd_input, "CUDA")
    library.impl("masked_conv2d_bwd_weight", bwd_weight, "CUDA")
