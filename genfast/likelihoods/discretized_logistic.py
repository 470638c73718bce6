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
from genfast.likelihoods.draw import check_draw_options, check_finite, check_uniforms, draw_levels

# Temperature 0 is the limit of small ones, at which float64 still tells all levels apart.
COLDEST = 2.0**-40


class Logistics(Likelihood):
    """What likelihoods made of logistics share: a least log-scale, a temperature that keeps logistics logistic, and a
    distribution function in closed form, which draws invert by halving: 8 looks at it for 256 levels."""

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
        if temperature > 0 and top_k is None and top_p is None:
            return self._invert(params, uniforms, temperature)
        logits = self._level_logits(params, temperature or COLDEST)
        return draw_levels(logits, uniforms, 1.0 if temperature else 0.0, top_k, top_p)

    @abstractmethod
    def _logistics(self, params: Tensor, temperature: float) -> tuple[Tensor, Tensor, Tensor]:
        """ln of each logistic's share, its mean in half bins and its log-scale.  # float64 [B, K, (rest)] each"""

    def _level_logits(self, params: Tensor, temperature: float) -> Tensor:
        """``level_logits`` at a temperature above 0."""
        log_shares, places, log_scales = self._logistics(params, temperature)
        levels = every_level(self.levels, places[:, :1])
        total = None
        for k in range(places.shape[1]):  # one after the other: all at once would hold K times as much
            one = slice(k, k + 1)
            bins = bin_log_prob(levels, places[:, one], log_scales[:, one], self.levels, -math.inf)
            bins = log_shares[:, one] + bins
            total = bins if total is None else torch.logaddexp(total, bins)
        assert total is not None
        return total

    def _invert(self, params: Tensor, uniforms: Tensor, temperature: float) -> Tensor:
        """The smallest level l with u < F(l), F = sum over k of share_k sigmoid((edge(l) - mean_k) / s_k)."""
        log_shares, places, log_scales = self._logistics(params, temperature)
        if uniforms.shape != places[:, 0].shape:
            raise GenfastError(
                f"Each draw needs its own uniform: these parameters want {list(places[:, 0].shape)}, not "
                f"{list(uniforms.shape)}."
            )
        check_uniforms(uniforms)
        shares = log_shares.exp()
        inverse = torch.exp(-log_scales.clamp(min=LOWEST_LOG_SCALE)) / (self.levels - 1)
        target = uniforms.to(shares) * shares.sum(1)
        low = torch.zeros_like(target, dtype=torch.int64)
        high = torch.full_like(low, self.levels - 1)  # at which F is 1
        for _ in range((self.levels - 1).bit_length()):
            middle = (low + high) // 2
            edge = (2 * middle + 1 - (self.levels - 1)).to(places)[:, None]
            passed = (target < (shares * torch.sigmoid((edge - places) * inverse)).sum(1)) | (low == high)
            low, high = torch.where(passed, low, middle + 1), torch.where(passed, middle, high)
        return low

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

    def _logistics(self, params: Tensor, temperature: float) -> tuple[Tensor, Tensor, Tensor]:
        self._check_params(params)
        means, log_scales = params.double().unsqueeze(1).unbind(2)  # [B, 1, ...]
        return torch.zeros_like(means), means * (self.levels - 1), self._tempered(log_scales, temperature)

    def _check_params(self, params: Tensor) -> None:
        if params.ndim < 2 or params.shape[1] != 2:
            raise GenfastError(
                f"Discretized logistic parameters have the shape [B, 2, ...], not {list(params.shape)}: see unpack."
            )


def every_level(levels: int, like: Tensor) -> Tensor:
    """0 .. levels - 1 along dimension 1, to broadcast against a tensor [B, 1, ...].  # uint8 [1, levels, 1, ...]"""
    return torch.arange(levels, dtype=torch.uint8, device=like.device).view(1, levels, *[1] * (like.ndim - 2))
