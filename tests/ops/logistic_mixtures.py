"""What the tests of logistic_mixture share: its shapes, its inputs, and the reference with gradients."""

import torch
from torch import Tensor

from genfast.kernels.logistic_mixture.reference import logistic_mixture as reference
from genfast.testing.cases import arrange

# B, C, H, W, components, levels, layout
CASES = [
    (1, 1, 1, 1, 1, 2, "contiguous"),
    (2, 1, 5, 7, 10, 256, "contiguous"),
    (2, 3, 5, 7, 10, 256, "channels_last"),
    (1, 3, 3, 11, 1, 256, "sliced"),
    (3, 3, 1, 13, 5, 17, "swapped"),
    (9, 3, 13, 1, 2, 3, "contiguous"),
    (2, 1, 9, 9, 3, 2, "channels_last"),
    (2, 3, 17, 19, 4, 256, "contiguous"),
    (2, 1, 5, 7, None, 256, "contiguous"),
    (3, 3, 5, 7, None, 256, "channels_last"),
    (2, 5, 3, 11, None, 2, "sliced"),
    (1, 2, 1, 1, None, 17, "contiguous"),
    (2, 1, 13, 17, None, 256, "channels_last"),
    (1, 4, 7, 11, None, 256, "channels_last"),
]


def param_channels(channels: int, components: int | None) -> int:
    return 2 * channels if components is None else components * (3 if channels == 1 else 10)


def is_log_scale(channels: int, components: int | None) -> Tensor:
    """Which channels of params are log-scales.  # [P] bool"""
    if components is None:
        return torch.arange(2 * channels) >= channels
    rows = torch.arange(param_channels(channels, components)) // components - 1  # -1: the logits
    return (rows >= 0) & (rows % (3 if channels == 3 else 2) == 1)


def make_inputs(case: tuple, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor, Tensor]:
    """params with means over the whole range and log-scales from -5 to 1, images, and a gradient of the result."""
    batch, channels, height, width, components, levels, layout = case
    generator = torch.Generator().manual_seed(levels + width)
    logs = is_log_scale(channels, components)
    params = torch.randn(batch, len(logs), height, width, generator=generator, dtype=torch.float64)
    params[:, logs] = params[:, logs].clamp(-2, 2) * 1.5 - 2
    images = torch.randint(0, levels, (batch, channels, height, width), generator=generator, dtype=torch.uint8)
    images[:, :, 0, 0] = 0
    images[:, :, -1, -1] = levels - 1
    out = (batch, channels, height, width) if components is None else (batch, height, width)
    grad = torch.randn(out, generator=generator, dtype=torch.float64)
    return arrange(params.to(dtype), layout), images, grad.to(dtype)


def run(operator, params: Tensor, images: Tensor, grad: Tensor, case: tuple, min_log_scale: float = -7.0):
    """ln P and the gradient of params."""
    leaf = params.detach().requires_grad_()  # strides and all
    out = operator(leaf, images, case[4], case[5], min_log_scale)
    return [out, torch.autograd.grad(out, leaf, grad)[0]]


def run_reference(params: Tensor, images: Tensor, grad: Tensor, case: tuple, min_log_scale: float = -7.0):
    return run(lambda p, i, k, *rest: reference(p, i, k or 0, *rest), params, images, grad, case, min_log_scale)
