"""logistic_mixture in plain PyTorch: any device, any floating dtype, differentiable by autograd.

16-bit floats are stored, never computed in: their log-probabilities are float32.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

LOWEST_LOG_SCALE = (
    -60.0
)  # counts for all below: a step in every dtype, and exp(60) times any sensible mean is a float32
FARTHEST = 1e30  # scales from a mean to an edge; keeps the log-probability of the impossible finite


def wide(dtype: torch.dtype) -> torch.dtype:
    """The dtype that is computed in."""
    return torch.float32 if dtype.itemsize == 2 else dtype


def logistic_mixture(params: Tensor, images: Tensor, components: int, levels: int, min_log_scale: float) -> Tensor:
    """params [B, P, H, W], images uint8 [B, C, H, W] -> nats, [B, C, H, W] for no components, else [B, H, W]."""
    params = params.to(wide(params.dtype))
    if components == 0:
        means, log_scales = params.unflatten(1, (2, images.shape[1])).unbind(1)  # [B, C, H, W]
        return bin_log_prob(images, means * (levels - 1), log_scales, levels, min_log_scale)
    logits, places, log_scales = mixture(params, images, components, levels)
    bins = bin_log_prob(images[:, :, None], places, log_scales, levels, min_log_scale)  # [B, C, K, H, W]
    return torch.logsumexp(F.log_softmax(logits, 1) + bins.sum(1), 1)


def mixture(params: Tensor, images: Tensor, components: int, levels: int) -> tuple[Tensor, Tensor, Tensor]:
    """The layout of the published models: K logits, then for each colour K means, K log-scales and, for three colours,
    K coefficients.

    -> logits [B, K, H, W]; means of each colour given the levels of the earlier ones, in half bins, and log-scales
    [B, C, K, H, W].
    """
    channels = images.shape[1]
    logits = params[:, :components]
    colours = params[:, components:].unflatten(1, (channels, -1, components))  # [B, C, 2 or 3, K, H, W]
    means, log_scales = colours[:, :, 0] * (levels - 1), colours[:, :, 1]
    if channels == 3:
        red, green = (half_bins(images[:, c, None], levels).to(params.dtype) for c in (0, 1))
        c0, c1, c2 = torch.tanh(colours[:, :, 2]).unbind(1)
        of_red, of_green, of_blue = means.unbind(1)
        means = torch.stack([of_red, of_green + c0 * red, of_blue + c1 * red + c2 * green], 1)
    return logits, means, log_scales


def half_bins(images: Tensor, levels: int) -> Tensor:
    """The middle of a level's bin: x (levels - 1), from -(levels - 1) to levels - 1.  # int64, or as floating levels"""
    return 2 * (images if images.is_floating_point() else images.long()) - (levels - 1)


def bin_log_prob(images: Tensor, means: Tensor, log_scales: Tensor, levels: int, min_log_scale: float) -> Tensor:
    """ln(sigmoid(b) - sigmoid(a)) for the edges a < b of each level's bin; means in half bins."""
    log_scales = log_scales.clamp(min=max(min_log_scale, LOWEST_LOG_SCALE))
    inverse = torch.exp(-log_scales) / (levels - 1)  # 1 / s, of half bins
    middle = half_bins(images, levels).to(means.dtype)
    a = ((middle - 1 - means) * inverse).clamp(-FARTHEST, FARTHEST)
    b = ((middle + 1 - means) * inverse).clamp(-FARTHEST, FARTHEST)
    below, above = F.logsigmoid(b), F.logsigmoid(-a)  # ln P(at most this level), ln P(at least this level)
    inside = below + above + log_1mexp(2 * inverse, math.log(2 / (levels - 1)) - log_scales)
    return torch.where(images == 0, below, torch.where(images == levels - 1, above, inside))


def log_1mexp(width: Tensor, log_width: Tensor) -> Tensor:
    """ln(1 - exp(-width)) for width > 0, whose logarithm is known, so that a width that underflows to 0 will do."""
    narrow = width.clamp(1e-30, 1)
    wide_ = width.clamp(min=1)
    return torch.where(
        width < 1, log_width + torch.log(-torch.expm1(-narrow) / narrow), torch.log1p(-torch.exp(-wide_))
    )
