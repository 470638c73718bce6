"""Ways to mask a convolution, and what else people put into a plain stack."""

import functools
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize

from tests.compiler.pattern import causal_mask, pattern


class DataMask(nn.Conv2d):
    """Writes the mask into the weights on every call."""

    def __init__(self, kind: str, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.register_buffer("mask", causal_mask(self.weight.detach(), kind))

    def forward(self, x: Tensor) -> Tensor:
        self.weight.data *= self.mask
        return super().forward(x)


@pattern("weight.data *= mask, BatchNorm")
class PlainStack(nn.Sequential):
    def __init__(self) -> None:
        super().__init__(
            DataMask("A", 1, 8, 5, padding=2, bias=False), nn.BatchNorm2d(8), nn.ReLU(True),
            DataMask("B", 8, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU(True),
            DataMask("B", 8, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU(True), nn.Conv2d(8, 3, 1),
        )  # fmt: skip


@pattern("mask is a Parameter", encode="signed")
class ParameterMask(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.convs = nn.ModuleList([nn.Conv2d(1, 6, 3, padding=1), nn.Conv2d(6, 3, 3, padding=1)])
        self.masks = nn.ParameterList(
            nn.Parameter(causal_mask(c.weight.detach(), k), requires_grad=False)
            for c, k in zip(self.convs, "AB", strict=True)
        )

    def forward(self, x: Tensor) -> Tensor:
        for conv, mask in zip(self.convs, self.masks, strict=True):
            x = torch.tanh(F.conv2d(x, conv.weight * mask, conv.bias, padding=1))
        return x


@pattern("weight norm, as a hook", shape=(1, 5, 6))
class OldWeightNorm(nn.Module):
    """Padded on the left and above, so that no mask is needed."""

    def __init__(self) -> None:
        super().__init__()
        self.down = torch.nn.utils.weight_norm(nn.Conv2d(1, 6, (2, 3)))
        self.right = torch.nn.utils.weight_norm(nn.Conv2d(1, 6, (1, 2)))
        self.out = torch.nn.utils.weight_norm(nn.Conv2d(6, 3, 1))

    def forward(self, x: Tensor) -> Tensor:
        above = F.pad(self.down(F.pad(x, (1, 1, 2, 0))), (0, 0, 0, 0))[:, :, :-1]
        left = self.right(F.pad(x, (2, 0, 0, 0)))[:, :, :, :-1]
        return self.out(F.elu(above + left))


@pattern("weight norm, as a parametrization", shape=(1, 4, 5))
class NewWeightNorm(nn.Module):
    class Masked(nn.Module):
        def __init__(self, mask: Tensor) -> None:
            super().__init__()
            self.register_buffer("mask", mask)

        def forward(self, weight: Tensor) -> Tensor:
            return weight * self.mask

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(1, 6, 3, padding=1), nn.Conv2d(6, 3, 3, padding=1)
        for conv, kind in ((self.first, "A"), (self.second, "B")):
            parametrizations.weight_norm(conv)
            parametrize.register_parametrization(conv, "weight", self.Masked(causal_mask(conv.weight.detach(), kind)))

    def forward(self, x: Tensor) -> Tensor:
        return self.second(F.softplus(self.first(x)))


@pattern("dilated and grouped", shape=(1, 7, 6))
class DilatedGroups(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = DataMask("A", 1, 8, 3, padding=1)
        self.wide = DataMask("B", 8, 8, 3, padding=2, dilation=2, groups=4)
        self.tall = DataMask("B", 8, 8, (3, 1), padding=(3, 0), dilation=(3, 1), groups=2)
        self.out = nn.Conv2d(8, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = F.leaky_relu(self.first(x), 0.2)
        return self.out(x + F.gelu(self.wide(x)) * F.hardswish(self.tall(x)))


@pattern("a cached mask, channels last", likelihood="bernoulli", levels=2, shape=(1, 5, 5))
class CachedMask(nn.Module):
    @staticmethod
    @functools.lru_cache
    def mask(kind: str, size: int) -> Tensor:
        return causal_mask(torch.empty(1, 1, size, size), kind)

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(1, 6, 5, padding=2), nn.Conv2d(6, 1, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = x.to(memory_format=torch.channels_last)
        x = F.silu(F.conv2d(x, self.a.weight * self.mask("A", 5).to(x), self.a.bias, padding=2))
        return F.conv2d(x, self.b.weight * self.mask("B", 3).to(x), self.b.bias, padding="same")


@torch.jit.script
def gate(x: Tensor, shift: Tensor) -> Tensor:
    a, b = x.chunk(2, 1)
    return torch.tanh(a) * torch.sigmoid(b + shift)


@pattern("TorchScript", shape=(1, 4, 6))
class Scripted(nn.Module):
    class Head(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(4, 3, 1)

        def forward(self, x: Tensor) -> Tensor:
            for _ in range(2):
                x = x + torch.sin(x)
            return self.conv(x)

    def __init__(self) -> None:
        super().__init__()
        self.first = DataMask("A", 1, 8, 3, padding=1)
        self.shift = nn.Parameter(torch.randn(1, 4, 1, 1))
        self.head = torch.jit.script(self.Head())

    def forward(self, x: Tensor) -> Tensor:
        return self.head(gate(self.first(x), self.shift))


@pattern("called functionally")
class Functional(nn.Module):
    """Weights made on the fly and put into a submodule for one call."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Conv2d(1, 6, 3, padding=1), nn.Tanh(), nn.Conv2d(6, 3, 3, padding=1))

    def forward(self, x: Tensor) -> Tensor:
        given = dict(self.net.named_parameters())
        for name, kind in (("0.weight", "A"), ("2.weight", "B")):
            given[name] = given[name] * causal_mask(given[name], kind)
        return torch.func.functional_call(self.net, given, (x,))


@pattern("glu, dropout, residual and skip", shape=(1, 6, 4))
class Skips(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = DataMask("A", 1, 6, 3, padding=1)
        self.layers = nn.ModuleList(DataMask("B", 6, 12, 3, padding=1) for _ in range(2))
        self.skips = nn.ModuleList(nn.Conv2d(6, 5, 1) for _ in range(2))
        self.drop = nn.Dropout2d(0.4)
        self.out = nn.Conv2d(5, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        x, total = self.first(x), 0.0
        for layer, skip in zip(self.layers, self.skips, strict=True):
            h = F.glu(layer(self.drop(x)), 1)
            total = total + skip(h)
            x = x + h
        return self.out(F.mish(total))
