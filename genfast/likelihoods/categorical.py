"""Categorical: 2 to 16384 levels per sub-pixel, one logit for each."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from genfast.errors import GenfastError
from genfast.likelihoods.base import MOST_LEVELS, Likelihood


@dataclass(frozen=True)
class Categorical(Likelihood):
    """P(l) = exp(logit(l)) / sum over k of exp(logit(k)), the softmax of van den Oord et al. 2016a, section 2.2.

    The network emits its logits grouped by colour (all levels of R, then of G, then of B), so that the colour groups of
    a masked convolution give each colour its own logits: the order of sub-pixels (section 2.1: G sees R, B sees R and
    G) lives in the masks, and nothing here depends on it.
    """

    name: ClassVar[str] = "categorical"
    max_levels: ClassVar[int] = MOST_LEVELS  # code maps of a VQ-VAE are images too

    @property
    def param_channels(self) -> int:
        return self.channels * self.levels

    def unpack(self, out: Tensor) -> Tensor:
        """[B, C * levels, H, W], grouped by colour -> logits [B, levels, C, H, W]."""
        self._check_out(out)
        return out.unflatten(1, (self.channels, self.levels)).transpose(1, 2)

    def log_prob_map(self, params: Tensor, images: Tensor) -> Tensor:
        """logit(x) - ln sum over k of exp(logit(k)), with the greatest logit taken out first."""
        self.level_logits(params)
        self._check_pair(params.shape[:1] + params.shape[2:], images)
        logits = params.to(torch.promote_types(params.dtype, torch.float32))
        # The colours join the batch: for parameters fresh from unpack() this is a view, and the softmax needs no copy.
        logits = logits.transpose(1, 2).flatten(0, 1)  # [B * C, levels, H, W]
        nats = F.cross_entropy(logits, images.flatten(0, 1).to(torch.int64), reduction="none")
        return -nats.view(images.shape)

    def level_logits(self, params: Tensor) -> Tensor:
        """[B, levels, ...], as they are."""
        if params.ndim < 2 or params.shape[1] != self.levels:
            raise GenfastError(
                f"Categorical parameters have the shape [B, {self.levels}, ...], not {list(params.shape)}: see unpack."
            )
        return params
