"""Autocast, for every operator alike: floating inputs become the dtype that torch.autocast asks for on their device."""

from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor


def cast_to_autocast(*tensors: Tensor | None) -> tuple[Any, ...]:
    """The tensors in the autocast dtype of the first one's device, or unchanged outside autocast; None stays None.

    float64 is left alone, as in PyTorch.
    """
    kind = next(t.device.type for t in tensors if t is not None)
    if not torch.is_autocast_enabled(kind):
        return tensors
    dtype = torch.get_autocast_dtype(kind)
    return tuple(t if t is None or t.dtype == torch.float64 else t.to(dtype) for t in tensors)


def without_autocast(device_type: str) -> AbstractContextManager[None]:
    """Reference code chooses its own dtypes."""
    return torch.autocast(device_type, enabled=False)
