"""Gaussian: a density over levels, two numbers per sub-pixel."""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from genfast.likelihoods.base import Likelihood


@dataclass(frozen=True)
class Gaussian(Likelihood):
    """N(mean, deviation^2) over the levels 0 .. levels - 1, constant included: -ln deviation - ln(2 pi) / 2 - ...

    A density with respect to one level, not a probability: it may exceed 1, and compares with the other likelihoods
    only loosely (levels plus uniform noise would make it a bound). The network emits the mean on the scale -1 .. 1 of
    its inputs, and a number s: deviation = (levels - 1) / 2 * softplus(s), but at least ``FINEST`` levels, for finer
    than the levels themselves a density could grow without bound where a pixel never changes.

    Drawn by inverting the probabilities that are proportional to the density at the levels.
    """

    FINEST: ClassVar[float] = 0.5
    name: ClassVar[str] = "gaussian"

    @property
    def param_channels(self) -> int:
        return 2 * self.channels

    def unpack(self, out: Tensor) -> Tensor:
        """[B, C * 2, H, W], grouped by colour -> (mean, s) [B, 2, C, H, W]."""
        self._check_out(out)
        return out.unflatten(1, (self.channels, 2)).transpose(1, 2)

    def moments(self, params: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and deviation in levels: params [B, 2, ...] -> [B, ...] each, float32 or better."""
        mean, s = params.to(torch.promote_types(params.dtype, torch.float32)).unbind(1)
        half = (self.levels - 1) / 2
        return (mean + 1) * half, (half * F.softplus(s)).clamp(min=self.FINEST)

    def log_prob_map(self, params: Tensor, images: Tensor) -> Tensor:
        """-ln deviation - ln(2 pi) / 2 - ((x - mean) / deviation)^2 / 2, in nats."""
        self._check_pair(params.shape[:1] + params.shape[2:], images)
        mean, deviation = self.moments(params)
        return _log_density((images - mean) / deviation, deviation)

    def level_logits(self, params: Tensor) -> Tensor:
        """[B, 2, ...] -> the log-density at every level, [B, levels, ...]."""
        mean, deviation = (moment[:, None] for moment in self.moments(params))
        levels = torch.arange(self.levels, device=params.device, dtype=mean.dtype)
        levels = levels.view(-1, *[1] * (mean.ndim - 2))
        return _log_density((levels - mean) / deviation, deviation)

    def mean(self, params: Tensor) -> Tensor:
        """The mean of the density, clipped to the levels."""
        return self.moments(params)[0].clamp(0, self.levels - 1)


def _log_density(distance: Tensor, deviation: Tensor) -> Tensor:
    return -deviation.log() - 0.5 * math.log(2 * math.pi) - 0.5 * distance.square()
