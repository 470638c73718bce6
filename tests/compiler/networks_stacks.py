"""Several streams: gated stacks, shifts by padding and cropping, strides down and up, writes through views."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.compiler.networks_masks import DataMask
from tests.compiler.pattern import pattern


class GatedLayer(nn.Module):
    """A vertical k x k and a horizontal 1 x k stream, each cropped to what it may see."""

    def __init__(self, inputs: int, hidden: int, kernel: int, first: bool) -> None:
        super().__init__()
        self.half, self.first = kernel // 2, first
        self.vertical = nn.Conv2d(inputs, 2 * hidden, (self.half + 1, kernel), padding=(self.half + 1, self.half))
        self.horizontal = nn.Conv2d(inputs, 2 * hidden, (1, self.half + 1), padding=(0, self.half + 1))
        self.cross, self.back = nn.Conv2d(2 * hidden, 2 * hidden, 1), nn.Conv2d(hidden, hidden, 1)

    def forward(self, v: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        height, width = h.shape[2:]
        feature = self.vertical(v)
        below = feature[:, :, : height + 1]
        down, own = below[:, :, :-1], below[:, :, 1:]
        side = self.horizontal(h)[:, :, :, int(not self.first) : width + int(not self.first)]
        a, b = torch.split(side + self.cross(down), side.shape[1] // 2, 1)
        out = self.back(torch.tanh(a) * torch.sigmoid(b))
        c, d = own.chunk(2, dim=1)
        return torch.tanh(c) * torch.sigmoid(d), out if self.first else out + h


@pattern("two gated streams", shape=(1, 5, 6))
class TwoStreams(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList([GatedLayer(1, 5, 5, True), GatedLayer(5, 5, 3, False), GatedLayer(5, 5, 3, False)])
        self.out = nn.Conv2d(5, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        v = h = x
        for layer in self.layers:
            v, h = layer(v, h)
        return self.out(F.relu(h))


def concat_elu(x: Tensor) -> Tensor:
    return F.elu(torch.cat([x, -x], 1))


def nin(x: Tensor, layer: nn.Linear) -> Tensor:
    """A linear layer over channels, at every pixel."""
    return layer(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class Shifted(nn.Module):
    """Down-shifted (rows above and this one) or right-shifted (also only to the left), at a stride or transposed."""

    def __init__(self, inputs: int, outputs: int, right: bool, stride: int = 1, up: bool = False) -> None:
        super().__init__()
        kernel = (2, 2) if right else (2, 3)
        self.pad, self.up = (1, 0, 1, 0) if right else (1, 1, 1, 0), up
        kind = nn.ConvTranspose2d if up else nn.Conv2d
        more = {"output_padding": 1} if up else {}
        self.conv = torch.nn.utils.weight_norm(kind(inputs, outputs, kernel, stride, **more))
        self.kernel = kernel

    def forward(self, x: Tensor) -> Tensor:
        if not self.up:
            return self.conv(F.pad(x, self.pad))
        x = self.conv(x)
        height, width = x.shape[2:]
        trim = 1 if self.kernel[1] == 3 else 0
        return x[:, :, : height - 1, trim : width - (1 if trim == 0 else trim)]


@pattern("stride 2 down, transposed up, ones channel", shape=(3, 4, 6), levels=2, likelihood="bernoulli",
         encode="signed")  # fmt: skip
class DownAndUp(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.start = Shifted(4, 4, False)
        self.start_left = nn.Conv2d(4, 4, (1, 2))
        self.down_u, self.down = Shifted(8, 4, False, 2), Shifted(8, 4, True, 2)
        self.up_u, self.up = Shifted(8, 4, False, 2, True), Shifted(8, 4, True, 2, True)
        self.mix, self.out = nn.Linear(8, 4), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        ones = torch.ones(x.shape[0], 1, *x.shape[2:], dtype=x.dtype, device=x.device)
        x = torch.cat([x, ones], 1)
        u = F.pad(self.start(x), (0, 0, 1, 0))[:, :, :-1]  # moved down: rows above only
        ul = u + F.pad(self.start_left(F.pad(x, (1, 0, 0, 0))), (1, 0, 0, 0))[:, :, :, :-1]
        u2, ul2 = self.down_u(concat_elu(u)), self.down(concat_elu(ul))
        ul2 = ul2 + nin(concat_elu(u2), self.mix)
        u, ul = u + self.up_u(concat_elu(u2)), ul + self.up(concat_elu(ul2))
        return nin(concat_elu(ul), self.out)


@pattern("writes through overlapping crops")
class Overlap(nn.Module):
    """Two crops of one tensor share memory: activating one in place activates part of the other."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(1, 4, 3, padding=(3, 1)), nn.Conv2d(4, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        height = x.shape[2]
        rows = self.first(x)
        one, two = rows[:, :, :height], rows[:, :, 1 : height + 1]
        one = F.relu_(one)  # seen through two as well
        two[:, 1:] += 0.5
        out = self.second(one * 2 + F.pad(two, (0, 0, 1, 0))[:, :, :-1])
        out[..., 0].mul_(3)
        return out


@pattern("normalised over channels, pixel-major", shape=(1, 4, 5))
class PixelMajor(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = DataMask("A", 1, 6, 3, padding=1)
        self.norm, self.widen, self.narrow = nn.LayerNorm(6), nn.Linear(6, 12), nn.Linear(12, 6)
        self.second = DataMask("B", 6, 6, 3, padding=1)
        self.weight = nn.Parameter(torch.randn(3, 6))

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x).permute(0, 2, 3, 1)  # [B, H, W, 6]
        x = x + self.narrow(F.gelu(self.widen(self.norm(x)), approximate="tanh"))
        x = F.normalize(self.second(x.permute(0, 3, 1, 2)), dim=1)
        x = x - x.mean(1, keepdim=True)
        return torch.einsum("bchw,oc->bohw", x, self.weight)


@pattern("masked linear layers over flat images", shape=(1, 3, 4))
class MaskedLinears(nn.Module):
    """Masks by random degrees, in raster order."""

    def __init__(self) -> None:
        super().__init__()
        n, hidden, levels = 12, 40, 3
        degree = torch.arange(hidden) % (n - 1) + 1
        self.register_buffer("inner", (degree[:, None] >= torch.arange(1, n + 1)[None]).to(torch.get_default_dtype()))
        outer = torch.arange(1, n + 1)[:, None] > degree[None]
        self.register_buffer("outer", outer.repeat(levels, 1).to(torch.get_default_dtype()))
        self.one, self.two = nn.Linear(n, hidden), nn.Linear(hidden, levels * n)

    def forward(self, x: Tensor) -> Tensor:
        h = torch.tanh(F.linear(x.flatten(1), self.one.weight * self.inner, self.one.bias))
        out = F.linear(h, self.two.weight * self.outer, self.two.bias)
        return out.view(-1, 3, 1, 3, 4)


@pattern("a sequence, position first", shape=(1, 3, 4), encode="integer")
class SequenceFirst(nn.Module):
    """Pixels as a sequence [S, B, D], moved on by one and mixed by a lower triangle."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.start = nn.Embedding(3, 6), nn.Parameter(torch.randn(6))
        self.place = nn.Parameter(torch.randn(12, 1, 6))
        self.mix, self.out = nn.Parameter(torch.randn(12, 12) / 4), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        sequence = self.table(x.flatten(1).transpose(0, 1))
        start = self.start.expand(1, sequence.shape[1], -1)
        sequence = torch.cat([start, sequence[:-1]]) + self.place
        mixed = torch.einsum("ts,sbd->tbd", self.mix.tril(), sequence)
        return self.out(torch.relu(mixed) + sequence).permute(1, 2, 0).reshape(x.shape[0], 3, 1, 3, 4)
