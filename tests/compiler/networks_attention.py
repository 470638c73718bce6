"""Attention as people write it: every way in which a query is kept from seeing its own pixel and later ones."""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.compiler.networks_masks import DataMask
from tests.compiler.pattern import pattern

Attention = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]  # q, k, v [B, heads, N, d], earlier bool [N, N]


class Attending(nn.Module):
    """Causal features, and attention to earlier pixels: keys and values read the image too."""

    heads = 2

    def __init__(self) -> None:
        super().__init__()
        self.first, self.query = DataMask("A", 1, 6, 3, padding=1), nn.Conv2d(6, 4, 1)
        self.key_value, self.out = nn.Conv2d(7, 10, 1), nn.Conv2d(12, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        n = x.shape[2] * x.shape[3]
        features = torch.tanh(self.first(x))
        key, value = self.key_value(torch.cat([features, x], 1)).split([4, 6], 1)
        q, k, v = (t.unflatten(1, (self.heads, -1)).flatten(3).mT for t in (self.query(features), key, value))
        seen = self.attend(q, k, v, torch.ones(n, n).tril(-1).bool()).mT.flatten(1, 2)
        return self.out(torch.cat([features, seen.reshape(-1, 6, *x.shape[2:])], 1))

    def attend(self, q: Tensor, k: Tensor, v: Tensor, earlier: Tensor) -> Tensor:
        raise NotImplementedError


def attention(name: str, **call: object) -> Callable[[Attention], Attention]:
    """Decorator: a network with this attention is a pattern."""

    def register(attend: Attention) -> Attention:
        class Network(Attending):
            def attend(self, q: Tensor, k: Tensor, v: Tensor, earlier: Tensor) -> Tensor:
                return attend(q, k, v, earlier)

        pattern(f"attention: {name}", shape=(1, 3, 4), **call)(Network)
        return attend

    return register


@attention("start mask after the softmax")
def _start_mask(q: Tensor, k: Tensor, v: Tensor, earlier: Tensor) -> Tensor:
    start = torch.ones(len(earlier), 1)
    start[0] = 0
    scores = torch.matmul(q, k.mT) / math.sqrt(q.shape[-1])
    return F.dropout(scores.masked_fill(earlier == 0, -1e4).softmax(3) * start, 0.1, False) @ v


@attention("mask multiplied, and again after the softmax")
def _multiplied(q: Tensor, k: Tensor, v: Tensor, earlier: Tensor) -> Tensor:
    mask = earlier.to(q.dtype)
    scores = (q @ k.mT) * q.shape[-1] ** -0.5 * mask - 1e10 * (1 - mask)
    return (scores.softmax(-1) * mask) @ v


@attention("first row masked after the product")
def _result_masked(q: Tensor, k: Tensor, v: Tensor, earlier: Tensor) -> Tensor:
    start = earlier.any(1, keepdim=True).to(q.dtype)
    return (q @ k.mT).masked_fill(~earlier, torch.finfo(q.dtype).min).softmax(-1) @ v * start


@attention("mask added")
def _added(q: Tensor, k: Tensor, v: Tensor, earlier: Tensor) -> Tensor:
    mask = torch.zeros_like(q[0, 0, :, :1]).expand(earlier.shape).masked_fill(~earlier, -1e9)
    return (q @ k.mT + mask).softmax(-1).masked_fill(~earlier, 0) @ v


@attention("minus infinity, NaN taken out")
def _nan(q: Tensor, k: Tensor, v: Tensor, earlier: Tensor) -> Tensor:
    return torch.nan_to_num(torch.where(earlier, q @ k.mT, -torch.inf).softmax(-1)) @ v


@attention("einsum, keys before queries")
def _einsum(q: Tensor, k: Tensor, v: Tensor, earlier: Tensor) -> Tensor:
    scores = torch.einsum("bhqd,bhkd->bhkq", q, k).masked_fill(~earlier.T, -torch.inf)
    return torch.einsum("bhkq,bhkd->bhqd", scores.softmax(-2).nan_to_num(0.0), v)


@attention("scaled_dot_product_attention")
def _fused(q: Tensor, k: Tensor, v: Tensor, earlier: Tensor) -> Tensor:
    return F.scaled_dot_product_attention(q, k, v, earlier)


@attention("scaled_dot_product_attention, mask added")
def _fused_added(q: Tensor, k: Tensor, v: Tensor, earlier: Tensor) -> Tensor:
    mask = torch.zeros(earlier.shape, dtype=q.dtype).masked_fill(~earlier, -torch.inf)
    return F.scaled_dot_product_attention(q, k, v, mask, scale=0.3)


@attention("is_causal, keys moved on by a pixel")
def _moved(q: Tensor, k: Tensor, v: Tensor, earlier: Tensor) -> Tensor:
    later = F.scaled_dot_product_attention(q[:, :, 1:], k[:, :, :-1], v[:, :, :-1], is_causal=True)
    return F.pad(later, (0, 0, 1, 0))


@attention("a bias for each head and distance")
def _biased(q: Tensor, k: Tensor, v: Tensor, earlier: Tensor) -> Tensor:
    places = torch.arange(len(earlier), dtype=q.dtype)
    bias = -(places[:, None] - places).abs() * torch.tensor([0.1, 0.4]).to(q)[:, None, None]
    return (q @ k.mT + bias).masked_fill(~earlier, -torch.inf).softmax(-1).masked_fill(~earlier, 0) @ v


@attention("heads that see different rows")
def _by_head(q: Tensor, k: Tensor, v: Tensor, earlier: Tensor) -> Tensor:
    near = earlier & torch.ones_like(earlier).triu(-4)
    mask = torch.stack([earlier, near])
    return (q @ k.mT).masked_fill(~mask, -1e10).softmax(-1) * mask @ v


@attention("some weights dropped")
def _dropped(q: Tensor, k: Tensor, v: Tensor, earlier: Tensor) -> Tensor:
    """Those weights count in the sum that the others are divided by."""
    kept = earlier & (torch.arange(len(earlier)) % 3 != 1)
    return (q @ k.mT).masked_fill(~earlier, -1e10).softmax(-1) * kept @ v


@pattern("attention: nn.MultiheadAttention over a shifted sequence", shape=(1, 3, 4), encode="integer")
class Sequence(nn.Module):
    """As a language model: a token begins the sequence, and a place sees itself and those before."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.places = nn.Embedding(3, 6), nn.Parameter(torch.randn(12, 6) * 0.3)
        self.begin, self.norm = nn.Parameter(torch.randn(6)), nn.LayerNorm(6)
        self.attend, self.out = nn.MultiheadAttention(6, 2, batch_first=True), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.table(x.flatten(1))
        tokens = torch.cat([self.begin.expand(len(x), 1, 6), tokens[:, :-1]], 1) + self.places
        h, later = self.norm(tokens), torch.ones(12, 12).triu(1).bool()
        tokens = tokens + self.attend(h, h, h, attn_mask=later)[0]
        tokens = tokens + self.attend(tokens, h, tokens, attn_mask=later, need_weights=False)[0]
        return self.out(tokens).mT.reshape(len(x), 3, *x.shape[2:])


@pattern("attention: one head, colours side by side", shape=(3, 2, 3), levels=2, likelihood="bernoulli",
         pick=lambda out, y, x, c: out[:, c : c + 1, y, x])  # fmt: skip
class Colours(Attending):
    """Three colours that know nothing of each other."""

    heads = 1

    def __init__(self) -> None:
        super().__init__()
        self.first = DataMask("A", 3, 6, 3, padding=1)
        self.key_value = nn.Conv2d(9, 10, 1)

    def attend(self, q: Tensor, k: Tensor, v: Tensor, earlier: Tensor) -> Tensor:
        return (q[:, 0] @ k[:, 0].mT).masked_fill(~earlier, -1e10).softmax(-1).mul(earlier).bmm(v[:, 0])[:, None]
