"""genfast::masked_conv2d: schema, shapes, autograd. The arithmetic is in kernels/masked_conv2d."""

from typing import Any

import torch
from torch import Tensor

from genfast.kernels.masked_conv2d.mask import MASK_TYPES, check_mask
from genfast.kernels.masked_conv2d.reference import masked_conv2d as reference
from genfast.ops import masked_conv2d_gpu
from genfast.ops.autocast import cast_to_autocast, without_autocast
from genfast.ops.backends import BACKENDS, choose
from genfast.ops.layout import empty_as

# Masks and backends travel as their positions in MASK_TYPES and BACKENDS: in the stable ABI of torch 2.11 to 2.13
# every string argument leaks its copy on each call.
_library = torch.library.Library("genfast", "FRAGMENT")
_library.define(
    "masked_conv2d(Tensor x, Tensor weight, Tensor? bias, int mask, int color_groups, int backend) -> Tensor"
)
_library.define(
    "masked_conv2d_bwd_input(Tensor grad, Tensor weight, int mask, int color_groups, int backend) -> Tensor"
)
_library.define(
    "masked_conv2d_bwd_weight(Tensor grad, Tensor x, int kh, int kw, int mask, int color_groups, int backend)"
    " -> (Tensor, Tensor)"
)
masked_conv2d_gpu.register(_library)  # those for CPU tensors registered themselves with the extension


def masked_conv2d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    mask_type: str = "B",
    color_groups: int = 1,
    backend: str = "auto",
) -> Tensor:
    """A causal convolution that never computes a masked tap: ``F.conv2d(x, weight * mask, bias, padding="same")``.

    x [B, I, H, W], weight [O, I, kh, kw], bias [O] -> [B, O, H, W], in the memory format of x. Masks A and B are
    those of van den Oord et al. 2016, "Pixel Recurrent Neural Networks", section 3.4, with the sub-pixel order R, G,
    B for color_groups=3; "VA" and "VB" are the vertical stack of "Conditional Image Generation with PixelCNN
    Decoders", section 2.2. float32, float64 and bfloat16 (accumulated in float32). Differentiable twice; masked
    weights get zero gradients.

    Raises ValueError for a mask that does not exist, RuntimeError for shapes or dtypes that do not fit, or for a
    backend asked for by name that is not there.
    """
    if weight.dim() != 4:
        raise ValueError(f"weight must be [O, I, kh, kw], but has {weight.dim()} dimensions.")
    check_mask((weight.shape[2], weight.shape[3]), mask_type, color_groups)
    x, weight, bias = cast_to_autocast(x, weight, bias)
    backend = choose(backend, x.device, "masked_conv2d")
    if backend == "reference":
        with without_autocast(x.device.type):
            return reference(x, weight, bias, mask_type, color_groups)
    how = (MASK_TYPES.index(mask_type), color_groups, BACKENDS.index(backend))
    out: Tensor = torch.ops.genfast.masked_conv2d(x, weight, bias, *how)
    return out


@torch.library.register_fake("genfast::masked_conv2d", lib=_library)
def _(x: Tensor, weight: Tensor, bias: Tensor | None, mask: int, color_groups: int, backend: int) -> Tensor:
    return empty_as(x, weight.shape[0])


@torch.library.register_fake("genfast::masked_conv2d_bwd_input", lib=_library)
def _(grad: Tensor, weight: Tensor, mask: int, color_groups: int, backend: int) -> Tensor:
    return empty_as(grad, weight.shape[1])


@torch.library.register_fake("genfast::masked_conv2d_bwd_weight", lib=_library)
def _(grad: Tensor, x: Tensor, kh: int, kw: int, mask: int, color_groups: int, backend: int) -> tuple[Tensor, Tensor]:
    return x.new_empty((grad.shape[1], x.shape[1], kh, kw)), x.new_empty((grad.shape[1],))


# The three operators are each other's derivatives, so the operator is differentiable twice for the price of these
# lines. Below, conv is linear in x and in weight; bwd_input and bwd_weight are its transposes.


def _setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, weight, bias, *ctx.how = inputs
    ctx.has_bias = bias is not None
    ctx.save_for_backward(x, weight)


def _backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
    x, weight = ctx.saved_tensors
    dx = dweight = dbias = None
    if ctx.needs_input_grad[0]:
        dx = torch.ops.genfast.masked_conv2d_bwd_input(grad, weight, *ctx.how)
    if ctx.needs_input_grad[1] or (ctx.has_bias and ctx.needs_input_grad[2]):
        dweight, dbias = torch.ops.genfast.masked_conv2d_bwd_weight(grad, x, *weight.shape[2:], *ctx.how)
    return dx, dweight, dbias if ctx.has_bias else None, None, None, None


def _setup_input(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    grad, weight, *ctx.how = inputs
    ctx.save_for_backward(grad, weight)


def _backward_input(ctx: Any, v: Tensor) -> tuple[Any, ...]:
    grad, weight = ctx.saved_tensors
    dgrad = torch.ops.genfast.masked_conv2d(v, weight, None, *ctx.how) if ctx.needs_input_grad[0] else None
    dweight = None
    if ctx.needs_input_grad[1]:
        dweight, _ = torch.ops.genfast.masked_conv2d_bwd_weight(grad, v, *weight.shape[2:], *ctx.how)
    return dgrad, dweight, None, None, None


def _setup_weight(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    grad, x, _, _, *ctx.how = inputs
    ctx.save_for_backward(grad, x)


def _backward_weight(ctx: Any, v: Tensor, v_bias: Tensor) -> tuple[Any, ...]:
    grad, x = ctx.saved_tensors
    dgrad = torch.ops.genfast.masked_conv2d(x, v, v_bias, *ctx.how) if ctx.needs_input_grad[0] else None
    dx = torch.ops.genfast.masked_conv2d_bwd_input(grad, v, *ctx.how) if ctx.needs_input_grad[1] else None
    return dgrad, dx, None, None, None, None, None


torch.library.register_autograd("genfast::masked_conv2d", _backward, setup_context=_setup, lib=_library)
torch.library.register_autograd(
    "genfast::masked_conv2d_bwd_input", _backward_input, setup_context=_setup_input, lib=_library
)
torch.library.register_autograd(
    "genfast::masked_conv2d_bwd_weight", _backward_weight, setup_context=_setup_weight, lib=_library
)
