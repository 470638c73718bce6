"""Exponential moving average of the weights: what evaluation and sampling use."""

import copy
from typing import Generic, TypeVar

import torch
from torch import nn

Model = TypeVar("Model", bound=nn.Module)


class AveragedModel(Generic[Model]):
    """Keeps ``model``, a copy whose parameters follow average = d * average + (1 - d) * parameters.

    d is min(decay, (1 + t) / (10 + t)) at update t, so that the random initial weights are forgotten within the first
    few dozen steps whatever the decay (as in TensorFlow's ExponentialMovingAverage). decay 0 copies the last weights.
    Costs one more copy of the model in memory.
    """

    def __init__(self, model: Model, decay: float) -> None:
        self.decay = decay
        self.model = copy.deepcopy(model).eval().requires_grad_(False)

    @torch.no_grad()
    def update(self, model: Model, step: int) -> None:
        """Take in the parameters after step ``step`` (counted from 1); buffers are copied."""
        decay = min(self.decay, (1 + step) / (10 + step))
        average, latest = dict(self.model.named_parameters()), dict(model.named_parameters())
        torch._foreach_lerp_(list(average.values()), [latest[name] for name in average], 1.0 - decay)
        for mine, theirs in zip(self.model.buffers(), model.buffers(), strict=True):
            mine.copy_(theirs)
