"""Bernoulli: binary images, one logit per sub-pixel."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from genfast.errors import GenfastError
from genfast.likelihoods.base import Likelihood


@dataclass(frozen=True)
class Bernoulli(Likelihood):
    """P(1) = sigmoid(logit), P(0) = 1 - P(1): van den Oord et al. 2016a use it for binarized MNIST.

    Drawn as the categorical likelihood of two levels with the logits (0, logit), by the same code.
    """

    name: ClassVar[str] = "bernoulli"
    levels: int = 2

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.levels != 2:
            raise GenfastError(
                f"The bernoulli likelihood is for 2 levels, not {self.levels}: use categorical, or binarize the images."
            )

    @property
    def param_channels(self) -> int:
        return self.channels

    def unpack(self, out: Tensor) -> Tensor:
        """[B, C, H, W] -> the same logits.  # [B, C, H, W]"""
        self._check_out(out)
        return out

    def log_prob_map(self, params: Tensor, images: Tensor) -> Tensor:
        """x ln sigmoid(l) + (1 - x) ln sigmoid(-l) = ln sigmoid((2x - 1) l), which no logit can overflow."""
        self._check_pair(params.shape, images)
        logits = params.to(torch.promote_types(params.dtype, torch.float32))
        return F.logsigmoid(torch.where(images == 1, logits, -logits))

    def level_logits(self, params: Tensor) -> Tensor:
        """[B, ...] -> [B, 2, ...]"""
        return torch.stack([torch.zeros_like(params), params], dim=1)
