"""What the cuda engine is tried on: tiny models of every family, and programs by hand."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from genfast.compiler.program import Program
from genfast.likelihoods import make_likelihood
from genfast.models import (
    GatedPixelCNN,
    GatedPixelCNNConfig,
    PixelCNN,
    PixelCNNConfig,
    PixelCNNPP,
    PixelCNNPPConfig,
    PixelRNN,
    PixelRNNConfig,
    PixelSNAIL,
    PixelSNAILConfig,
)
from genfast.nn import MaskedConv2d
from tests.sampling.conftest import TinyModel
from tests.sampling.programs import attends_to_all, every_kind

N = 3  # images that are drawn of each


class Oddities(nn.Module):
    """All kinds of heads and phases: an embedding of levels, normalised channels, a softmax, concatenation, a constant
    for every place; widths that are no multiple of four, and one that takes several slices."""

    def __init__(self, shape: tuple[int, int, int], levels: int) -> None:
        super().__init__()
        self.image_shape, self.levels = shape, levels
        self.likelihood = make_likelihood("categorical", shape[0], levels)
        self.table = nn.Embedding(levels, 5)
        self.first = MaskedConv2d(5 * shape[0], 7, 3, "A")
        self.place = nn.Parameter(torch.randn(1, 7, *shape[1:]))
        self.norm = nn.LayerNorm(7)
        self.middle = MaskedConv2d(14, 8, 3, "B")
        self.last = MaskedConv2d(8, levels * shape[0], 3, "B")
        for parameter in self.parameters():
            nn.init.normal_(parameter, std=0.8)

    def forward(self, images: Tensor, condition: None = None) -> Tensor:
        x = self.table(images.long()).permute(0, 1, 4, 2, 3).flatten(1, 2)
        x = self.first(x) + self.place
        x = self.norm(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        x = self.middle(torch.cat([x, x.softmax(1)], 1))
        left, right = x.chunk(2, 1)
        x = torch.cat([left.tanh() * right.sigmoid(), torch.maximum(left, right[:, :1])], 1)
        return self.likelihood.unpack(self.last(x) + x.amax(1, keepdim=True))


class Plain(TinyModel):
    """A convolution reads the levels as they are, as soon as they are drawn."""

    def forward(self, images: Tensor, condition: None = None) -> Tensor:
        return self.likelihood.unpack(self.last(torch.tanh(self.first(images.float()))))


@dataclass
class Case:
    model: Any
    condition: Tensor | None = None


def seeded(build: Callable[[], Any]) -> Any:
    torch.manual_seed(0)
    return build().eval()


def sharpened(model: Any) -> Any:
    """Fresh models are nearly uniform whatever they have seen: larger weights make every number count."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(2)
    return model


def plus_plus(shape: tuple[int, int, int] = (3, 2, 3)) -> Any:
    model = PixelCNNPP(PixelCNNPPConfig(shape, 256, filters=4, resnets=1, components=3, scales=2))
    model.initialize(torch.randint(0, 256, (16, *shape)))
    return model


def snail() -> Any:
    sizes = {"filters": 4, "blocks": 1, "resnets": 1, "key_channels": 4, "value_channels": 6, "components": 2}
    model = PixelSNAIL(PixelSNAILConfig((1, 3, 4), 17, heads=2, **sizes))
    model.initialize(torch.randint(0, 17, (16, 1, 3, 4)))
    return model


def vectors() -> Tensor:
    return torch.randn(N, 4, generator=torch.Generator().manual_seed(1))


def pixelrnn(variant: str, shape: tuple[int, int, int]) -> Case:
    return Case(seeded(lambda: PixelRNN(PixelRNNConfig(shape, 4, variant=variant, hidden=3, layers=1))))


def gated() -> Any:
    return sharpened(GatedPixelCNN(GatedPixelCNNConfig((1, 3, 4), 4, hidden=8, layers=2)))


MODELS: dict[str, Callable[[], Case]] = {
    "bernoulli": lambda: Case(Plain((1, 4, 5), 2, "bernoulli").eval()),
    "colours": lambda: Case(TinyModel((3, 3, 4), 5).eval()),
    "labels": lambda: Case(TinyModel((1, 3, 4), 4).eval(), torch.tensor([4, 0, 2])),
    "vectors": lambda: Case(TinyModel((1, 3, 4), 4).eval(), vectors()),
    "pixelcnn": lambda: Case(seeded(lambda: sharpened(PixelCNN(PixelCNNConfig((3, 3, 3), 4, hidden=6, blocks=1))))),
    "gated": lambda: Case(seeded(gated)),
    "row": lambda: pixelrnn("row", (1, 3, 4)),
    "diagonal": lambda: pixelrnn("diagonal", (1, 4, 3)),
    "pixelcnn++": lambda: Case(seeded(plus_plus)),
    "pixelsnail": lambda: Case(seeded(snail)),
    "oddities": lambda: Case(seeded(lambda: Oddities((2, 3, 4), 5))),
    "many levels": lambda: Case(TinyModel((1, 2, 3), 100).eval()),
}


# Programs by hand, and what draws from them. In the last, keys are scored in three rounds, by vectors.
PROGRAMS: dict[str, Callable[[], Program]] = {
    "every kind": lambda: every_kind(0, (1, 3, 4), 5),
    "every kind, colours": lambda: every_kind(1, (2, 2, 3), 4),
    "all earlier pixels": lambda: attends_to_all(0, (1, 6, 6), heads=64, depth=4, width=4),
}
