"""Attention of single queries in plain PyTorch: any device and dtype."""

import torch
from torch import Tensor


def attend(
    query: Tensor, key: Tensor, value: Tensor, seen: Tensor, heads: int, scale: float, bias: Tensor | None = None
) -> Tensor:
    """query [Q, B, heads * depth], key [Q, J, B, heads * depth], value [Q, J, B, heads * width], seen bool [Q, J],
    bias [Q, heads, J] or None -> [Q, B, heads * width]."""
    q, k, v = (x.unflatten(-1, (heads, -1)) for x in (query, key, value))
    scores = torch.einsum("qbhd,qjbhd->qbhj", q, k) * scale
    if bias is not None:
        scores = scores + bias[:, None]
    hidden = ~seen[:, None, None]  # [Q, 1, 1, J]
    scores = scores.masked_fill(hidden, -torch.inf)
    weights = scores.softmax(-1).masked_fill(hidden, 0)  # a row of -inf only would be NaN
    return torch.einsum("qbhj,qjbhw->qbhw", weights, v).flatten(-2)
