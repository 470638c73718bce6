"""How images and conditions go in, how colours are ordered, and how logits come out."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.compiler.networks_masks import DataMask
from tests.compiler.pattern import causal_mask, pattern


@pattern("embedded levels", encode="integer", levels=4)
class Embedded(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(4, 5)
        self.first, self.out = DataMask("A", 5, 6, 3, padding=1), DataMask("B", 6, 4, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.table(x.squeeze(1)).permute(0, 3, 1, 2)
        return self.out(F.relu(self.first(x)))


@pattern("one-hot levels", encode="integer", levels=4, shape=(1, 4, 4))
class OneHot(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.out = DataMask("A", 4, 6, 3, padding=1), nn.Conv2d(6, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = F.one_hot(x[:, 0], 4).movedim(-1, 1).to(self.out.weight.dtype)
        return self.out(F.relu(self.first(x)))


@pattern("levels as bytes", encode=lambda levels: levels, levels=6, shape=(1, 4, 4))
class Bytes(nn.Module):
    """Scales, centres and one-hot codes its images itself, in whole numbers that wrap."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.out = DataMask("A", 4, 6, 3, padding=1), nn.Conv2d(6, 6, 1)

    def forward(self, x: Tensor) -> Tensor:
        dtype = self.out.weight.dtype
        wrapped = (x * 100 - 7) % 50  # uint8 wraps round at 256
        planes = [x.to(dtype) / 255, (x // 2).to(dtype), (x > 3).to(dtype), wrapped.to(dtype) / 50]
        return self.out(F.relu(self.first(torch.cat(planes, 1))))


class Conditional(nn.Module):
    def __init__(self, extra: nn.Module) -> None:
        super().__init__()
        self.first, self.out = DataMask("A", 1, 8, 3, padding=1), DataMask("B", 4, 3, 3, padding=1)
        self.extra = extra

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        shift = self.extra(condition)
        shift = shift[:, :, None, None] if shift.dim() == 2 else shift
        a, b = (self.first(x) + shift).chunk(2, 1)
        return self.out(torch.tanh(a) * torch.sigmoid(b))


@pattern("conditioned on labels", condition=lambda: torch.tensor([2, 0]))
class Labels(Conditional):
    def __init__(self) -> None:
        super().__init__(nn.Embedding(4, 8))


@pattern("conditioned on vectors", condition=lambda: torch.linspace(-1, 1, 10).reshape(2, 5))
class Vectors(Conditional):
    def __init__(self) -> None:
        super().__init__(nn.Sequential(nn.Linear(5, 8, bias=False), nn.Softmax(1)))


@pattern("conditioned on maps", condition=lambda: torch.sin(torch.arange(80.0)).reshape(2, 2, 5, 4))
class Maps(Conditional):
    """A condition may look anywhere: it is known before the first pixel."""

    def __init__(self) -> None:
        super().__init__(nn.Sequential(nn.Conv2d(2, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 8, 3, padding=1)))


@pattern("conditioned on a small map", condition=lambda: torch.sin(torch.arange(16.0)).reshape(2, 2, 2, 2),
         shape=(1, 4, 4))  # fmt: skip
class SmallMaps(Conditional):
    def __init__(self) -> None:
        super().__init__(nn.Sequential(nn.Conv2d(2, 8, 1), nn.Upsample(scale_factor=2)))


def colour_mask(weight: Tensor, kind: str, interleaved: bool) -> Tensor:
    """causal_mask, whose centre lets each colour read those before it; B also itself."""
    mask = causal_mask(weight, "A")
    outputs, inputs, h, w = weight.shape
    colours = [torch.arange(n) % 3 if interleaved else torch.arange(n) * 3 // n for n in (outputs, inputs)]
    out, into = colours[0][:, None], colours[1][None, :]
    mask[:, :, h // 2, w // 2] = (into < out if kind == "A" else into <= out).to(mask)
    return mask


class ColourConv(nn.Conv2d):
    def __init__(self, kind: str, interleaved: bool, *args: int) -> None:
        super().__init__(*args, padding=args[-1] // 2)
        self.register_buffer("mask", colour_mask(self.weight.detach(), kind, interleaved))

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.weight * self.mask, self.bias, padding=self.padding)


class Colours(nn.Module):
    def __init__(self, interleaved: bool) -> None:
        super().__init__()
        self.first = ColourConv("A", interleaved, 3, 9, 3)
        self.second, self.out = ColourConv("B", interleaved, 9, 9, 3), ColourConv("B", interleaved, 9, 12, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        return self.out(x + torch.tanh(self.second(F.relu(x))))


@pattern("colours one after the other, [B, C * L, H, W]", shape=(3, 3, 4), levels=4)
class Contiguous(Colours):
    def __init__(self) -> None:
        super().__init__(False)


@pattern("colours interleaved, [B, L, C, H, W]", shape=(3, 3, 4), levels=4)
class Interleaved(Colours):
    def __init__(self) -> None:
        super().__init__(True)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).unflatten(1, (4, 3))


@pattern("logits last, a tuple", shape=(3, 3, 3), levels=4, pick=lambda out, y, x, c: out[:, y, x, c])
class LogitsLast(Colours):
    def __init__(self) -> None:
        super().__init__(False)

    def forward(self, x: Tensor) -> tuple[Tensor, None]:
        return super().forward(x).permute(0, 2, 3, 1).unflatten(3, (3, 4)), None


@pattern(
    "colours blind to each other", shape=(2, 3, 3), levels=3, pick=lambda out, y, x, c: out[:, 3 * c : 3 * c + 3, y, x]
)
class Blind(nn.Module):
    """Every colour sees all earlier pixels, none of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.out = DataMask("A", 2, 6, 3, padding=1), nn.Conv2d(6, 6, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(torch.tanh(self.first(x)))
