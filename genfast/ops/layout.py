"""The memory format of results, for every operator alike."""

import torch
from torch import Tensor


def empty_as(x: Tensor, channels: int) -> Tensor:
    """[B, channels, H, W], dense; channels_last where x is that and nothing else: the rule of every backend."""
    last = x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous()
    memory_format = torch.channels_last if last else torch.contiguous_format
    return x.new_empty((x.shape[0], channels, x.shape[2], x.shape[3])).to(memory_format=memory_format)
