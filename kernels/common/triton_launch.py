"""What the launchers of every operator in Triton share. Importing this file imports triton."""

from contextlib import nullcontext
from typing import Any, NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

INTERPRETED = triton.knobs.runtime.interpret  # TRITON_INTERPRET=1, set before this file is imported


class Launch(NamedTuple):
    """A kernel with its grid and every argument by name: what runs, and what is compiled ahead of time in tests."""

    kernel: Any
    grid: tuple[int, ...]
    args: dict[str, Any]
    options: dict[str, int]

    def run(self, device: torch.device) -> None:
        with torch.cuda.device(device) if device.type == "cuda" else nullcontext():
            self.kernel[self.grid](**self.args, **self.options)

    def constants(self) -> tuple[Any, ...]:
        """The kernel and what is compiled in: launches that agree in it share a compilation."""
        return self.kernel, *(value for name, value in self.args.items() if name.isupper())


def image_like(x: Tensor, channels: int) -> Tensor:
    """An uninitialised [B, channels, H, W] in x's memory format."""
    channels_last = not x.is_contiguous() and x.is_contiguous(memory_format=torch.channels_last)
    memory_format = torch.channels_last if channels_last else torch.contiguous_format
    shape = (x.shape[0], channels, x.shape[2], x.shape[3])
    return torch.empty(shape, dtype=x.dtype, device=x.device, memory_format=memory_format)


def strides(name: str, tensor: Tensor, axes: str) -> dict[str, int]:
    """name_axis -> the stride of that axis."""
    return {f"{name}_{axis}": stride for axis, stride in zip(axes, tensor.stride(), strict=True)}


def index_type(*tensors: Tensor) -> tl.dtype:
    """The integers that offsets into all of these tensors fit."""
    return tl.int64 if any(_reach(tensor) >= 2**31 for tensor in tensors) else tl.int32


def _reach(tensor: Tensor) -> int:
    """One more than the largest offset of an element, or the number of elements if that is larger (strides of zero)."""
    reach = 1 + sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.stride(), strict=True))
    return max(reach, tensor.numel())


def sum_dtype(dtype: torch.dtype) -> tl.dtype:
    """What is computed in: 16-bit floats are only stored."""
    return tl.float64 if dtype == torch.float64 else tl.float32


def dtype_and_precision(dtype: torch.dtype) -> tuple[str, str]:
    """The key of a table of tiles: half, float32 or float64, and what the factors of a float32 product are rounded to:
    TF32 if the user allows that for matrix products (torch.backends.cuda.matmul.fp32_precision, or
    torch.set_float32_matmul_precision)."""
    if dtype in (torch.bfloat16, torch.float16):
        return "half", "ieee"
    if dtype == torch.float64:
        return "float64", "ieee"
    if dtype == torch.float32:
        return "float32", "tf32" if torch.backends.cuda.matmul.fp32_precision == "tf32" else "ieee"
    raise ValueError(f"The Triton kernels take float32, float64, bfloat16 or float16, not {dtype}.")


def side(largest: int, needed: int | None) -> int:
    """One side of a tile, shrunk to the problem: a power of two and at least 16, the least that a product takes."""
    return largest if needed is None else min(largest, max(16, triton.next_power_of_2(needed)))
