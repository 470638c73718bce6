"""A scan as backends on a GPU see it: which pixels it reads. scan.h says what lines and slots are.

``gradients`` is the part of backward that is no recurrence, in plain PyTorch: dense products of the gradients of the
pre-activations with what each pixel read. Triton and CUDA C++ both end with it.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from genfast.kernels.lstm.reference import wide


class Tap(NamedTuple):
    """One pixel that every pixel reads: the one dy further down and dx further right. Where that lies before the image
    h is h0, or 0 if it does not ``start``; beside the image it is 0."""

    dy: int
    dx: int
    starts: bool = True


class Scan(NamedTuple):
    """Tap t reads slot s + t - reach of the line before."""

    taps: tuple[Tap, ...]
    reach: int
    diagonal: bool = False
    reverse: bool = False

    def lines(self, height: int, width: int) -> int:
        return height + width - 1 if self.diagonal else height

    def slots(self, height: int, width: int) -> int:
        return height if self.diagonal else width


Region = tuple[slice, slice]  # rows and columns of an image


def _between(offset: int, size: int) -> slice:
    """The places whose neighbour at this offset is inside 0 .. size - 1; none for an offset beyond that."""
    start = min(max(0, -offset), size)
    return slice(start, max(start, size - max(0, offset)))


def _moved(places: slice, offset: int) -> slice:
    return places if places.start == places.stop else slice(places.start + offset, places.stop + offset)


def _started(tap: Tap, height: int, width: int) -> Region:
    """The pixels that find h0 there: those of the first row, or of the first column that a scan comes to."""
    if tap.dy:
        return slice(0, -tap.dy), _between(tap.dx, width)
    return slice(0, height), slice(0, 1) if tap.dx < 0 else slice(width - 1, width)


def _read(tap: Tap, h: Tensor, h0: Tensor) -> Tensor:
    """What each pixel read through this tap.  # [B, H, W, h]"""
    _, height, width, _ = h.shape
    rows, columns = _between(tap.dy, height), _between(tap.dx, width)
    shifted = torch.zeros_like(h)
    shifted[:, rows, columns] = h[:, _moved(rows, tap.dy), _moved(columns, tap.dx)]
    if tap.starts:
        shifted[:, *_started(tap, height, width)] = h0
    return shifted


def gradients(
    scan: Scan, dgates: Tensor, dc: Tensor, h: Tensor, weight: Tensor, h0: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """dgates [B, H, W, 4h], the gradients of the pre-activations, dc [.., h], those of the cells before the image, and
    h [B, h, H, W] -> those of x (channels_last), weight [4h, h, taps], h0 and c0 [h]. Sums in the wider type of wide();
    one matrix product a tap."""
    dtype = h.dtype
    h = h.permute(0, 2, 3, 1).to(dgates.dtype)
    _, height, width, hidden = h.shape
    dweight = torch.zeros_like(weight, dtype=wide(weight.dtype))
    dh0 = torch.zeros_like(h0, dtype=wide(h0.dtype))
    if dgates.numel():
        flat = dgates.reshape(-1, 4 * hidden)
        for t, tap in enumerate(scan.taps):
            dweight[:, :, t] = flat.T @ _read(tap, h, h0.to(dgates.dtype)).reshape(-1, hidden)
            if tap.starts:
                of_start = dgates[:, *_started(tap, height, width)].sum((0, 1, 2))
                dh0 += of_start @ weight[:, :, t].to(dgates.dtype)
    dc0 = dc.reshape(-1, hidden).sum(0)
    return dgates.to(dtype).permute(0, 3, 1, 2), dweight.to(dtype), dh0.to(dtype), dc0.to(dtype)
