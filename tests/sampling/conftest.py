"""Small causal networks that behave like the package's models."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from genfast.likelihoods import make_likelihood
from genfast.nn import MaskedConv2d

torch.set_num_threads(1)

Shape = tuple[int, int, int]


class TinyModel(nn.Module):
    """Mask A, mask B, and a condition: labels [n] or vectors [n, 4]. The logits depend strongly on the context."""

    def __init__(self, image_shape: Shape, levels: int, kind: str = "categorical", seed: int = 0) -> None:
        super().__init__()
        c = image_shape[0]
        self.image_shape, self.levels = image_shape, levels
        self.likelihood = make_likelihood(kind, c, levels)
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.first = MaskedConv2d(c, 12, 3, "A", color_groups=c)
            self.last = MaskedConv2d(12, self.likelihood.param_channels, 3, "B", color_groups=c)
            self.label = nn.Embedding(5, 12)
            self.vector = nn.Linear(4, 12, bias=False)
        self.dropout = nn.Dropout(0.5)
        with torch.no_grad():
            self.last.weight.mul_(6)
        self.seen: list[int] = []  # the batch size of every pass

    def forward(self, images: Tensor, condition: Tensor | None = None) -> Tensor:
        self.seen.append(len(images))
        x = self.first(images.float() * (2 / (self.levels - 1)) - 1)
        if condition is not None:
            shift = self.vector(condition) if condition.is_floating_point() else self.label(condition)
            x = x + shift[:, :, None, None]
        return self.likelihood.unpack(self.last(self.dropout(torch.tanh(2 * x))))


@pytest.fixture
def tiny() -> Callable[..., TinyModel]:
    """tiny(image_shape, levels, kind) makes a TinyModel."""
    return TinyModel


@pytest.fixture
def bernoulli() -> TinyModel:
    return TinyModel((1, 4, 5), 2, "bernoulli")


@pytest.fixture
def rgb() -> TinyModel:
    return TinyModel((3, 3, 4), 5)
