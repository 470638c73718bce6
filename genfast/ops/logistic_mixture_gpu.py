"""genfast::logistic_mixture on CUDA tensors: the Triton kernels, or the CUDA C++ one where the extension was built
with nvcc."""

import torch
from torch import Tensor

from genfast.ops.backends import BACKENDS


def forward(params: Tensor, images: Tensor, components: int, levels: int, min_log_scale: float, backend: int) -> Tensor:
    if BACKENDS[backend] == "triton":
        from genfast.kernels.logistic_mixture import triton_launch

        return triton_launch.logistic_mixture(params, images, components, levels, min_log_scale)
    out: Tensor = torch.ops.genfast.logistic_mixture_cuda(params, images, components, levels, min_log_scale)
    return out


def backward(
    grad: Tensor, params: Tensor, images: Tensor, components: int, levels: int, min_log_scale: float, backend: int
) -> Tensor:
    if BACKENDS[backend] == "triton":
        from genfast.kernels.logistic_mixture import triton_launch

        return triton_launch.logistic_mixture_bwd(grad, params, images, components, levels, min_log_scale)
    how = (components, levels, min_log_scale)
    out: Tensor = torch.ops.genfast.logistic_mixture_bwd_cuda(grad, params, images, *how)
    return out


def register(library: torch.library.Library) -> None:
    library.impl("logistic_mixture", forward, "CUDA")
    library.impl("logistic_mixture_bwd", backward, "CUDA")
