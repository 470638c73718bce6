"""genfast::logistic_mixture: schema, shapes, autograd. The arithmetic is in kernels/logistic_mixture."""

from typing import Any

import torch
from torch import Tensor

from genfast.kernels.logistic_mixture.reference import logistic_mixture as reference
from genfast.kernels.logistic_mixture.reference import wide
from genfast.ops import logistic_mixture_gpu
from genfast.ops.autocast import without_autocast
from genfast.ops.backends import BACKENDS, choose
from genfast.ops.layout import empty_as

# Backends travel as their positions in BACKENDS: in the stable ABI of torch 2.11 to 2.13 strings leak. components = 0
# is one logistic a channel. The kernels for CPU tensors register themselves with the extension.
_library = torch.library.Library("genfast", "FRAGMENT")
_library.define(
    "logistic_mixture(Tensor params, Tensor images, int components, int levels, float min_log_scale, int backend)"
    " -> Tensor"
)
_library.define(
    "logistic_mixture_bwd(Tensor grad, Tensor params, Tensor images, int components, int levels, float min_log_scale,"
    " int backend) -> Tensor"
)
logistic_mixture_gpu.register(_library)


def logistic_mixture(
    params: Tensor,
    images: Tensor,
    components: int | None = None,
    levels: int = 256,
    min_log_scale: float = -7.0,
    backend: str = "auto",
) -> Tensor:
    """ln P of levels under discretized logistics, in nats: Salimans et al. 2017, "PixelCNN++" (arXiv 1701.05517),
    equations 2 and 3.

    images: uint8 [B, C, H, W], levels 0 .. levels - 1 (2 to 256 of them), which stand for x = 2 l / (levels - 1) - 1 in
    -1 .. 1, the unit of the means. The bins of the first and the last level reach to infinity, so that the
    probabilities of all levels add up to 1.

    One logistic a channel, for any C (a VAE's decoder): components=None, params [B, 2 C, H, W]: C means, then C
    log-scales. -> [B, C, H, W]

    A mixture of K logistics a pixel, for C = 1 or 3: components=K, params [B, 3 K, H, W] or [B, 10 K, H, W], in the
    order of the published models. Channels 0 .. K - 1 are the logits of the mixture; then come, for C = 1, K means and
    K log-scales; for C = 3, red's K means, K log-scales, K coefficients, then green's, then blue's. The coefficients of
    the three colours, after tanh, are c0, c1, c2: given component k, the mean of green moves by c0 x_red and that of
    blue by c1 x_red + c2 x_green.  -> [B, H, W], of whole pixels: the colours of a pixel share its component

    So: one number for each thing that has a distribution of its own. The published code takes the density at the middle
    of the bin where P < 1e-5; this is exact there too, forward and backward. It also raises log-scales to -7, and so
    does min_log_scale; -inf raises none (below -60 they all count as -60). A raised log-scale has gradient zero.

    Params may be float32, float64, bfloat16 or, on a GPU, float16, in any strides; channels_last and contiguous are the
    fast ones. 16-bit floats are only stored: results are float32, under autocast too. Differentiable once in params
    (the reference backend: twice).

    Raises ValueError for shapes, dtypes, components or levels that do not fit, and RuntimeError for images with a
    level that is not there, or a backend asked for by name that is not there. With less than 256 levels a GPU is
    waited for to look at the levels, but not in a CUDA graph or under torch.compile.
    """
    count = _components(params, images, components, levels)
    backend = choose(backend, params.device, "logistic_mixture")
    if backend != "cpu":  # which looks at them itself
        _check_levels(images, levels)
    if backend == "reference":
        with without_autocast(params.device.type):
            return reference(params, images, count, levels, min_log_scale)
    how = (count, levels, min_log_scale, BACKENDS.index(backend))
    out: Tensor = torch.ops.genfast.logistic_mixture(params, images, *how)
    return out


@torch.library.register_fake("genfast::logistic_mixture", lib=_library)
def _(params: Tensor, images: Tensor, components: int, levels: int, min_log_scale: float, backend: int) -> Tensor:
    batch, channels, height, width = images.shape
    shape = (batch, height, width) if components else (batch, channels, height, width)
    return params.new_empty(shape, dtype=wide(params.dtype))


@torch.library.register_fake("genfast::logistic_mixture_bwd", lib=_library)
def _(
    grad: Tensor, params: Tensor, images: Tensor, components: int, levels: int, min_log_scale: float, backend: int
) -> Tensor:
    return empty_as(params, params.shape[1])


def _setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    params, images, *ctx.how = inputs
    ctx.save_for_backward(params, images)


def _backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
    params, images = ctx.saved_tensors
    return torch.ops.genfast.logistic_mixture_bwd(grad, params, images, *ctx.how), None, None, None, None, None


torch.library.register_autograd("genfast::logistic_mixture", _backward, setup_context=_setup, lib=_library)


def _components(params: Tensor, images: Tensor, components: int | None, levels: int) -> int:
    """K, or 0 for one logistic a channel. Raises ValueError unless everything fits."""
    if params.dim() != 4 or images.dim() != 4:
        raise ValueError(
            f"params and images must be [B, P, H, W] and [B, C, H, W], but have {params.dim()} and {images.dim()} "
            "dimensions."
        )
    if images.dtype != torch.uint8:
        raise ValueError(f"images must hold levels as torch.uint8, not {images.dtype}.")
    gpu = params.device.type == "cuda"
    if params.dtype not in (torch.float32, torch.float64, torch.bfloat16) and not (gpu and params.dtype == torch.half):
        raise ValueError(f"params must be float32, float64 or bfloat16 (on a GPU also float16), not {params.dtype}.")
    if params.device != images.device:
        raise ValueError(f"params and images must be on one device, not {params.device} and {images.device}.")
    if not 2 <= levels <= 256:
        raise ValueError(f"levels must be 2 to 256, not {levels}.")
    if params.shape[0] != images.shape[0] or params.shape[2:] != images.shape[2:]:
        raise ValueError(
            f"params and images must agree in B, H and W, but are {list(params.shape)} and {list(images.shape)}."
        )
    channels = images.shape[1]
    if components is None:
        wanted = 2 * channels
    elif components < 1:
        raise ValueError(f"components must be at least 1, or None for one logistic a channel, not {components}.")
    elif channels not in (1, 3):
        raise ValueError(f"A mixture is for images of 1 or 3 channels, not {channels}: use components=None.")
    else:
        wanted = components * (3 if channels == 1 else 10)
    if params.shape[1] != wanted:
        kind = "one logistic a channel" if components is None else f"{components} components"
        raise ValueError(
            f"params must have {wanted} channels for {kind} and images of {channels} channels, not {params.shape[1]}."
        )
    return components or 0


def _check_levels(images: Tensor, levels: int) -> None:
    """Raises RuntimeError for a level that is not there. Costs a look at the images, except for 256 levels."""
    if levels == 256 or images.numel() == 0 or torch.compiler.is_compiling():
        return
    if images.is_cuda and torch.cuda.is_current_stream_capturing():
        return
    highest = int(images.max())
    if highest >= levels:
        raise RuntimeError(f"images must hold levels 0 to {levels - 1}, but hold {highest}.")
