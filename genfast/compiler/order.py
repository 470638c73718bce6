"""The order in which sub-pixels are generated: raster order, or another in which a network is causal.

A network is causal in some order exactly if what its outputs read makes no circle; a topological sort then finds one. A
*reordered* network is the same network on images whose sub-pixels are renamed: number i of them is the i-th to be
drawn. It is causal in raster order, so that everything else knows raster order only.
"""

import heapq
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from genfast.compiler.builder import Opaque
from genfast.compiler.footprint import reads
from genfast.compiler.program import Program, in_order
from genfast.errors import GenfastError

Shape = tuple[int, int, int]
MOST_BYTES = 2 << 30  # of bit sets that a search for an order may hold


@dataclass(frozen=True, eq=False)
class Order:
    """shape: of the images, (C, H, W). pixels: int64 [H * W], the pixel y * W + x that is drawn i-th, colours in turn.

    Or sub_pixels: int64 [C * H * W], the sub-pixel (c * H + y) * W + x that is drawn i-th; then renamed images have one
    channel.
    """

    shape: Shape
    pixels: np.ndarray | None = None
    sub_pixels: np.ndarray | None = None

    def __repr__(self) -> str:
        what = "raster" if self.is_raster else "pixels" if self.pixels is not None else "sub-pixels"
        return f"Order({what}, first {self.first_places(4)} ...)"

    @property
    def renamed(self) -> Shape:
        """The shape of renamed images."""
        channels, height, width = self.shape
        return self.shape if self.pixels is not None else (1, channels * height, width)

    @property
    def is_raster(self) -> bool:
        return self.pixels is not None and bool((self.pixels == np.arange(len(self.pixels))).all())

    @cached_property
    def source(self) -> Tensor:
        """For each number of a renamed image, its place in the image.  # int64 [C * H * W]"""
        if self.sub_pixels is not None:
            return torch.from_numpy(self.sub_pixels)
        assert self.pixels is not None
        return torch.from_numpy(
            (np.arange(self.shape[0])[:, None] * len(self.pixels) + self.pixels[None]).reshape(-1).astype(np.int64)
        )

    @cached_property
    def target(self) -> Tensor:
        """The inverse of ``source``."""
        return torch.argsort(self.source)

    def into(self, images: Tensor) -> Tensor:
        """[n, U, H, W] -> renamed; U is C, or anything where whole pixels are renamed."""
        if self.pixels is not None:
            return images.flatten(2)[:, :, torch.from_numpy(self.pixels).to(images.device)].reshape(images.shape)
        return images.flatten(1)[:, self.source.to(images.device)].reshape(-1, *self.renamed)

    def back(self, renamed: Tensor) -> Tensor:
        """[n, ..., C', H', W'] renamed -> [n, ..., C, H, W]"""
        return renamed.flatten(-3)[..., self.target.to(renamed.device)].unflatten(-1, self.shape)

    def rows_done(self, row: int) -> int:
        """How many of the first rows of an image are whole when renamed rows 0 .. row are drawn."""
        return int((self._last_rows <= row).cumprod(0).sum())

    @cached_property
    def _last_rows(self) -> Tensor:
        """The renamed row in which the last sub-pixel of each row is drawn.  # int64 [H]"""
        _, height, width = self.renamed
        return (self.target % (height * width) // width).reshape(self.shape).amax((0, 2))

    def known(self, known: Tensor) -> Tensor:
        """A mask [H, W] or [n, 1, H, W] of known pixels, renamed."""
        mask = known.expand(1, 1, *known.shape) if known.dim() == 2 else known
        if self.pixels is not None:
            return self.into(mask)
        return self.into(mask.expand(-1, self.shape[0], -1, -1))

    def first_places(self, count: int) -> list[tuple[int, ...]]:
        """(y, x), or (c, y, x), of what is drawn first."""
        channels, height, width = self.shape
        if self.pixels is not None:
            return [divmod(int(p), width) for p in self.pixels[:count]]
        assert self.sub_pixels is not None
        places = np.stack(np.unravel_index(self.sub_pixels[:count], (channels, height, width)), 1)
        return [tuple(int(i) for i in place) for place in places]


def raster(shape: Shape) -> Order:
    return Order(shape, np.arange(shape[1] * shape[2], dtype=np.int64))


def given_order(shape: Shape, pixels: object) -> Order:
    """The order in which somebody says that pixels are drawn: H * W numbers y * W + x, each once.

    Raises GenfastError, in one sentence, for anything else.
    """
    size = shape[1] * shape[2]
    try:
        numbers = np.asarray(pixels).reshape(-1)
        ok = numbers.dtype.kind in "iu" and np.array_equal(np.sort(numbers), np.arange(size))
    except (ValueError, TypeError):
        ok = False
    if not ok:
        raise GenfastError(
            f'order must be "auto", "raster", or all the pixels y * {shape[2]} + x in the order in which they are '
            f"drawn, {size} whole numbers from 0 to {size - 1}, each once."
        )
    return Order(shape, numbers.astype(np.int64))


def dependencies(program: Program, outputs: Sequence[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    """What each output reads, as bits.  # uint8 [outputs, ceil(C * H * W / 8)]

    outputs: for each, the values and the positions of its cells. Sub-pixels are numbered (c * H + y) * W + x.
    Raises GenfastError where the bits do not fit into memory.
    """
    channels, height, width = program.image_shape
    size = height * width
    row = (channels * size + 7) // 8
    order = list(in_order(program))
    last_use = {r.value: i for i, (step, _) in enumerate(order) for r in reads(step)}
    keep = {int(v) for values, _ in outputs for v in np.unique(values)}
    if row * max(v.positions for v in program.values) * 8 > MOST_BYTES:
        raise GenfastError(
            f"The network is not causal in raster order, and an image {channels} x {height} x {width} is too large to "
            "look for another: pass order= the pixels in the order in which they are drawn."
        )
    bits: dict[int, np.ndarray] = {}
    for c, value in enumerate(program.inputs):
        own = np.zeros((size, channels * size), bool)
        own[np.arange(size), c * size + np.arange(size)] = True
        bits[value] = np.packbits(own, axis=1)
    for value in program.conditions:
        bits[value] = np.zeros((program.values[value].positions, row), np.uint8)
    for i, (step, positions) in enumerate(order):
        if isinstance(step, Opaque):  # nothing that is asked for needs it
            continue
        out = bits.setdefault(step.out, np.zeros((program.values[step.out].positions, row), np.uint8))
        for read in reads(step):
            at = read.at[positions]
            part = out[positions]
            for one in at.T if at.ndim > 1 else [at]:
                there = one >= 0
                part[there] |= bits[read.value][one[there]]
            out[positions] = part
        for value in {r.value for r in reads(step)} - keep:
            if last_use[value] == i:
                del bits[value]
    found = np.zeros((len(outputs), row), np.uint8)
    for i, (values, positions) in enumerate(outputs):
        for value in np.unique(values):
            found[i] |= np.bitwise_or.reduce(bits[int(value)][positions[values == value]], axis=0)
    return found


def find_order(bits: np.ndarray, shape: Shape, whole: bool) -> Order | None:
    """An order in which every output reads earlier sub-pixels only, as near to raster order as there is; or None.

    bits: uint8 [C * H * W outputs, ceil(C * H * W / 8)]. whole: the colours of a pixel are drawn together.
    """
    channels, height, width = shape
    size, count = height * width, channels * height * width
    seen = np.unpackbits(bits, axis=1, count=count).astype(bool)  # [out, in]
    apart = seen.reshape(channels, size, channels, size)
    pixels: np.ndarray = np.asarray(apart.any((0, 2)))
    within = apart[:, np.arange(size), :, np.arange(size)].any(0)  # [out colour, in colour]
    fine = not within.any() if whole else not np.triu(within).any()
    np.fill_diagonal(pixels, False)
    order = sorted_topologically(pixels, np.arange(size)) if fine else None
    if order is not None:
        return Order(shape, order)
    if whole or channels == 1:
        return None
    rank = (np.arange(size)[None, :] * channels + np.arange(channels)[:, None]).reshape(-1)
    order = sorted_topologically(seen, rank)
    return None if order is None else Order(shape, None, order)


def allows(order: Order, bits: np.ndarray, whole: bool) -> bool:
    """Whether every output reads only what is earlier in an order."""
    count = int(np.prod(order.shape))
    channels, size = order.shape[0], count // order.shape[0]
    rank = np.empty(count, np.int64)
    if order.pixels is not None:
        place = np.argsort(order.pixels)
        colours = np.zeros(channels, np.int64) if whole else np.arange(channels)
        rank = (place[None, :] * channels + colours[:, None]).reshape(-1)
    else:
        rank[order.sub_pixels] = np.arange(count)
    seen = np.unpackbits(bits, axis=1, count=count).astype(bool)
    last = np.where(seen, rank[None, :], -1).max(1) if size else rank
    return bool((last < rank).all())


def sorted_topologically(reads: np.ndarray, rank: np.ndarray) -> np.ndarray | None:
    """Everything after what it reads, the smallest rank first wherever there is a choice; None if there is a circle.

    reads: bool [n, n].  # int64 [n]
    """
    waiting = reads.sum(1)
    ready = [(int(rank[i]), int(i)) for i in np.flatnonzero(waiting == 0)]
    heapq.heapify(ready)
    order = []
    while ready:
        _, i = heapq.heappop(ready)
        order.append(i)
        readers = np.flatnonzero(reads[:, i])
        waiting[readers] -= 1
        for j in readers[waiting[readers] == 0]:
            heapq.heappush(ready, (int(rank[j]), int(j)))
    return np.array(order, np.int64) if len(order) == len(reads) else None
