"""genfast::gated_activation: schema, shapes, autograd. The arithmetic is in kernels/gated_activation."""

from typing import Any

import torch
from torch import Tensor

from genfast.kernels.gated_activation.reference import gated_activation as reference
from genfast.kernels.gated_activation.reference import second_derivative
from genfast.ops.backends import BACKENDS, choose
from genfast.ops.layout import empty_as

# Backends travel as their positions in BACKENDS: in the stable ABI of torch 2.11 to 2.13 strings leak. The kernels for
# CPU tensors register themselves with the extension.
_library = torch.library.Library("genfast", "FRAGMENT")
_library.define("gated_activation(Tensor x, int color_groups, int backend) -> Tensor")
_library.define("gated_activation_bwd(Tensor grad, Tensor x, int color_groups, int backend) -> Tensor")


def gated_activation(x: Tensor, color_groups: int = 1, backend: str = "auto") -> Tensor:
    """tanh(f) * sigmoid(g) of the two halves of x: van den Oord et al. 2016, "Conditional Image Generation with
    PixelCNN Decoders", equation 2.

    x [B, 2h, H, W]: h channels of f, then h of g; with color_groups, each of so many groups holds its f, then its g.
    -> [B, h, H, W] in the memory format of x; strides other than those of the two formats cost a copy. One pass over
    memory each way, and x is all that is kept for backward. float32, float64, bfloat16 and, on a GPU, float16: 16-bit
    floats are computed with in float32. Differentiable twice and more.

    Under torch.compile and torch.export "auto" is the formula in plain PyTorch, which the compiler fuses with whatever
    is around it; a backend asked for by name stays what it is.

    Raises ValueError for shapes that do not fit, RuntimeError for dtypes that do not, or for a backend asked for by
    name that is not there.
    """
    if x.dim() != 4:
        raise ValueError(f"x must be [B, 2h, H, W], but has {x.dim()} dimensions.")
    if color_groups < 1 or x.shape[1] < 2 or x.shape[1] % (2 * color_groups):
        raise ValueError(
            f"x must hold two halves for each of {color_groups} colour groups, but has {x.shape[1]} channels."
        )
    if backend == "auto" and torch.compiler.is_compiling():
        return reference(x, color_groups)
    backend = choose(backend, x.device, "gated_activation")
    if backend == "reference":
        return reference(x, color_groups)
    out: Tensor = torch.ops.genfast.gated_activation(x, color_groups, BACKENDS.index(backend))
    return out


def _forward_on_gpu(x: Tensor, color_groups: int, backend: int) -> Tensor:
    from genfast.kernels.gated_activation import triton_launch

    return triton_launch.gated_activation(x, color_groups)


def _backward_on_gpu(grad: Tensor, x: Tensor, color_groups: int, backend: int) -> Tensor:
    from genfast.kernels.gated_activation import triton_launch

    return triton_launch.gated_activation_bwd(grad, x, color_groups)


_library.impl("gated_activation", _forward_on_gpu, "CUDA")
_library.impl("gated_activation_bwd", _backward_on_gpu, "CUDA")


@torch.library.register_fake("genfast::gated_activation", lib=_library)
def _(x: Tensor, color_groups: int, backend: int) -> Tensor:
    return empty_as(x, x.shape[1] // 2)


@torch.library.register_fake("genfast::gated_activation_bwd", lib=_library)
def _(grad: Tensor, x: Tensor, color_groups: int, backend: int) -> Tensor:
    return empty_as(x, x.shape[1])


def _setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, *ctx.how = inputs
    ctx.save_for_backward(x)


def _backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
    (x,) = ctx.saved_tensors
    return torch.ops.genfast.gated_activation_bwd(grad, x, *ctx.how), None, None


def _setup_bwd(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    grad, x, ctx.color_groups, _ = inputs
    ctx.save_for_backward(grad, x)


def _backward_bwd(ctx: Any, v: Tensor) -> tuple[Any, ...]:
    grad, x = ctx.saved_tensors
    return *second_derivative(v, grad, x, ctx.color_groups), None, None


torch.library.register_autograd("genfast::gated_activation", _backward, setup_context=_setup, lib=_library)
torch.library.register_autograd("genfast::gated_activation_bwd", _backward_bwd, setup_context=_setup_bwd, lib=_library)
