"""Attention of single queries in plain PyTorch: any device and dtype."""

import torch
from torch import Tensor


def attend(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    seen: Tensor,
    heads: int,
    scale: float,
    bias: Tensor | None = None,
    terms: Tensor | None = None,
) -> Tensor:
    """query [Q, B, heads * depth], key [Q, J, B, heads * depth], value [Q, J, B, heads * width], or both [J, B, ...]
    where all queries have the same; seen bool [Q, J], bias [Q, heads, J] or None -> [Q, B, heads * width].

    terms: bool [Q, J], where it is False a key that is seen counts in the softmax, and its value is left out.
    """
    q, k, v = (x.unflatten(-1, (heads, -1)) for x in (query, key, value))
    own = "q" if k.dim() == 5 else ""
    scores = torch.einsum(f"qbhd,{own}jbhd->qbhj", q, k) * scale
    if bias is not None:
        scores = scores + bias[:, None]
    hidden = ~seen[:, None, None]  # [Q, 1, 1, J]
    scores = scores.masked_fill(hidden, -torch.inf)
    weights = scores.softmax(-1).masked_fill(hidden, 0)  # a row of -inf only would be NaN
    if terms is not None:
        weights = weights.masked_fill(~terms[:, None, None], 0)
    return torch.einsum(f"qbhj,{own}jbhw->qbhw", weights, v).flatten(-2)
