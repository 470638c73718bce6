"""Discretized logistic: levels in order, a mean and a scale per sub-pixel."""

import math
from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from genfast import ops
from genfast.errors import GenfastError
from genfast.kernels.logistic_mixture.reference import LOWEST_LOG_SCALE, bin_log_prob
from genfast.likelihoods.base import Likelihood
from genfast.likelihoods.draw import check_draw_options, check_finite, draw_levels

# Temperature 0 is the limit of small ones, at which float64 still tells all levels apart.
COLDEST = 2.0**-40


class Logistics(Likelihood):
    """What likelihoods made of logistics share: a least log-scale, and a temperature that keeps logistics logistic."""

    min_log_scale: float

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.min_log_scale < math.inf:
            raise GenfastError(f"min_log_scale must be a number or minus infinity, not {self.min_log_scale}.")

    def level_logits(self, params: Tensor) -> Tensor:
        """Parameters [B, ..., (rest)] -> ln P of every level, float64.  # [B, levels, (rest)]"""
        return self._level_logits(params, 1.0)

    def draw(
        self,
        params: Tensor,
        uniforms: Tensor,
        temperature: float = 1.0,
        top_k: int | None = None,
        top_p: float | None = None,
    ) -> Tensor:
        """As ``Likelihood.draw``, except that temperature multiplies the scales: a logistic stays one. Temperature 0 is
        the limit of small ones: the level nearest to the mean (of a mixture's heaviest component)."""
        check_draw_options(temperature, top_k, top_p)
        check_finite(params)
        logits = self._level_logits(params, temperature or COLDEST)
        return draw_levels(logits, uniforms, 1.0 if temperature else 0.0, top_k, top_p)

    @abstractmethod
    def _level_logits(self, params: Tensor, temperature: float) -> Tensor:
        """``level_logits`` at a temperature above 0."""

    def _tempered(self, log_scales: Tensor, temperature: float) -> Tensor:
        """ln(temperature * scale), the scale raised to its least value before.  # float64"""
        return log_scales.double().clamp(min=max(self.min_log_scale, LOWEST_LOG_SCALE)) + math.log(temperature)


@dataclass(frozen=True)
class DiscretizedLogistic(Logistics):
    """P(l) = sigmoid((x + h - mean) / s) - sigmoid((x - h - mean) / s), x = 2 l / (levels - 1) - 1,
    h = 1 / (levels - 1): Kingma et al. 2016 (arXiv 1606.04934) and Salimans et al. 2017
    (arXiv 1701.05517), equation 2.

    The network emits C means, in the unit of x (-1 .. 1), then C log-scales ln s. The first and the last bin reach to
    infinity, so these are probabilities of levels, and a VAE's bits/dim compare with a PixelCNN's.
    """

    name: ClassVar[str] = "discretized_logistic"
    min_log_scale: float = -7.0
    """Smaller log-scales are raised to this, as in the published code of PixelCNN++; -inf raises none."""

    @property
    def param_channels(self) -> int:
        return 2 * self.channels

    def unpack(self, out: Tensor) -> Tensor:
        """[B, 2 C, H, W] -> [B, 2, C, H, W]: means, log-scales."""
        self._check_out(out)
        return out.unflatten(1, (2, self.channels))

    def log_prob_map(self, params: Tensor, images: Tensor) -> Tensor:
        """genfast.ops.logistic_mixture, exact however small P is."""
        self._check_params(params)
        self._check_pair(params.shape[:1] + params.shape[2:], images)
        return ops.logistic_mixture(
            params.flatten(1, 2), images.to(torch.uint8), levels=self.levels, min_log_scale=self.min_log_scale
        )

    def _level_logits(self, params: Tensor, temperature: float) -> Tensor:
        self._check_params(params)
        means, log_scales = params.double().unsqueeze(1).unbind(2)  # [B, 1, ...]
        log_scales = self._tempered(log_scales, temperature)
        return bin_log_prob(
            every_level(self.levels, means), means * (self.levels - 1), log_scales, self.levels, -math.inf
        )

    def _check_params(self, params: Tensor) -> None:
        if params.ndim < 2 or params.shape[1] != 2:
            raise GenfastError(
                f"Discretized logistic parameters have the shape [B, 2, ...], not {list(params.shape)}: see unpack."
            )


def every_level(levels: int, like: Tensor) -> Tensor:
    """0 .. levels - 1 along dimension 1, to broadcast against a tensor [B, 1, ...].  # uint8 [1, levels, 1, ...]"""
    return torch.arange(levels, dtype=torch.uint8, device=like.device).view(1, levels, *[1] * (like.ndim - 2))
