"""tap_gemm in plain PyTorch."""

from collections.abc import Sequence

import torch
from torch import Tensor


def tap_gemm(taps: Sequence[Tensor], weights: Sequence[Tensor], bias: Tensor) -> Tensor:
    """taps: [M, K_t] each, weights: [K_t, N] each, bias: [N] -> [M, N]."""
    out = bias.expand(taps[0].shape[0], -1)
    for a, w in zip(taps, weights, strict=True):
        out = torch.addmm(out, a, w)
    return out
