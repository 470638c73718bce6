"""genfast::logistic_mixture on CUDA tensors: the Triton kernels."""

import torch
from torch import Tensor

from genfast.ops.backends import BACKENDS


def forward(params: Tensor, images: Tensor, components: int, levels: int, min_log_scale: float, backend: int) -> Tensor:
    _check(backend)
    from genfast.kernels.logistic_mixture import triton_launch

    return triton_launch.logistic_mixture(params, images, components, levels, min_log_scale)


def backward(
    grad: Tensor, params: Tensor, images: Tensor, components: int, levels: int, min_log_scale: float, backend: int
) -> Tensor:
    _check(backend)
    from genfast.kernels.logistic_mixture import triton_launch

    return triton_launch.logistic_mixture_bwd(grad, params, images, components, levels, min_log_scale)


def _check(backend: int) -> None:
    if BACKENDS[backend] != "triton":
        raise RuntimeError(f"logistic_mixture has no {BACKENDS[backend]} kernel for CUDA tensors.")


def register(library: torch.library.Library) -> None:
    library.impl("logistic_mixture", forward, "CUDA")
    library.impl("logistic_mixture_bwd", backward, "CUDA")
