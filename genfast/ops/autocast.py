"""Autocast, for every operator alike: floating inputs become the dtype that torch.autocast asks for on their device."""

from contextlib import AbstractContextManager

import torch
from torch import Tensor


def cast_to_autocast(x: Tensor, *others: Tensor | None) -> tuple[Tensor, ...]:
    """All tensors (None stays None) in the autocast dtype, or unchanged outside autocast. float64 is left alone, as in PyTorch."""
    tensors = (x, *others)
    kind = x.device.type
    if not torch.is_autocast_enabled(kind):
        return tensors  # type: ignore[return-value]
    dtype = torch.get_autocast_dtype(kind)
    return tuple(
        t.to(dtype) if t is not None and t.is_floating_point() and t.dtype != torch.float64 else t for t in tensors
    )  # type: ignore[return-value]


def without_autocast(device_type: str) -> AbstractContextManager[None]:
    """Reference code chooses its own dtypes."""
    return torch.autocast(device_type, enabled=False)
