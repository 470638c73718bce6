"""Cells: which number of which value each element of a tensor is.

An *id* names one number for one image of the traced batch: (value, channel, position, image) packed in an int64; -1 is
a constant. Tensors of ids have the shape of the tensors they describe, so moving ids about moves meaning about.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from genfast.compiler.program import Read

IMAGE_BITS, POSITION_BITS, CHANNEL_BITS = 1, 22, 18
LANE_SHIFT = IMAGE_BITS + POSITION_BITS
VALUE_SHIFT = LANE_SHIFT + CHANNEL_BITS
POSITION_MASK, CHANNEL_MASK = (1 << POSITION_BITS) - 1, (1 << CHANNEL_BITS) - 1

Ids = np.ndarray  # int64


def make_ids(value: int, channels: np.ndarray, positions: np.ndarray) -> Ids:
    """Ids for image 0, broadcast over channels and positions."""
    head = np.int64(value) << VALUE_SHIFT
    return head | (channels.astype(np.int64) << LANE_SHIFT) | (positions.astype(np.int64) << IMAGE_BITS)


def positions_of(ids: Ids) -> np.ndarray:
    """The position of each id, -1 for constants.  # int32"""
    return np.where(ids < 0, -1, (ids >> IMAGE_BITS) & POSITION_MASK).astype(np.int32)


def lanes_of(ids: Ids) -> np.ndarray:
    """(value, channel) of each id as one number, -1 for constants."""
    return ids >> LANE_SHIFT  # -1 stays -1


def value_of_lane(lanes: np.ndarray) -> np.ndarray:
    return lanes >> CHANNEL_BITS


@dataclass(frozen=True, eq=False)
class Cells:
    """An array of numbers: ids where they are computed, values where they are constant (read only there)."""

    ids: Ids
    values: np.ndarray

    @property
    def constant(self) -> bool:
        return bool((self.ids < 0).all())

    def broadcast(self, shape: Sequence[int]) -> "Cells":
        return Cells(np.broadcast_to(self.ids, shape), np.broadcast_to(self.values, shape))

    def __getitem__(self, index: Any) -> "Cells":
        return Cells(self.ids[index], self.values[index])


@dataclass(frozen=True, eq=False)
class Block:
    """Rows of an [R, P] array that read one value at the same positions: row rows[i] is its channel channels[i].

    at: int32 [P], -1 where the rows hold something else.
    """

    value: int
    rows: np.ndarray
    channels: np.ndarray
    at: np.ndarray

    def read(self, at: np.ndarray | None = None) -> Read:
        """All channels between the first and the last, at the block's positions or at others."""
        low, high = int(self.channels.min()), int(self.channels.max())
        return Read(self.value, low, high - low + 1, self.at if at is None else at)


def split(ids: Ids) -> list[Block]:
    """The blocks of an array of ids.  # [R, P]; a row is in several blocks if it holds several lanes."""
    lanes, at = lanes_of(ids), positions_of(ids)
    row_lane = lanes.max(1, initial=-1)
    mixed = ~((lanes == row_lane[:, None]) | (ids < 0)).all(1)
    groups: dict[tuple[int, bytes], tuple[list[int], list[int], np.ndarray]] = {}

    def add(row: int, lane: int, where: np.ndarray) -> None:
        key = (lane >> CHANNEL_BITS, where.tobytes())
        rows, channels, _ = groups.setdefault(key, ([], [], where))
        rows.append(row)
        channels.append(lane & CHANNEL_MASK)

    for row in np.flatnonzero(row_lane >= 0):
        if not mixed[row]:
            add(int(row), int(row_lane[row]), at[row])
            continue
        for lane in np.unique(lanes[row][lanes[row] >= 0]):
            add(int(row), int(lane), np.where(lanes[row] == lane, at[row], np.int32(-1)))
    return [
        Block(value, np.array(rows), np.array(channels), where)
        for (value, _), (rows, channels, where) in groups.items()
    ]


@dataclass(frozen=True)
class Images:
    """Where the two images of the batch are: ``axis`` is [outer, 2 images, inner] in one. (outer is 1 where the batch
    comes first, and the sequence's length where a batch is merged with a sequence that came before it.)"""

    axis: int
    outer: int
    inner: int

    def take(self, array: np.ndarray, image: int) -> np.ndarray:
        """One image's half of an array; a view if outer is 1."""
        before, after = array.shape[: self.axis], array.shape[self.axis + 1 :]
        apart = array.reshape(*before, self.outer, 2, self.inner, *after)
        half = apart[(slice(None),) * (self.axis + 1) + (image,)]
        return half.reshape(*before, self.outer * self.inner, *after)

    def join(self, ids: Ids) -> Ids:
        """The whole batch's ids from those of image 0."""
        before, after = ids.shape[: self.axis], ids.shape[self.axis + 1 :]
        apart = ids.reshape(*before, self.outer, self.inner, *after)
        both = np.stack([apart, apart + (apart >= 0)], self.axis + 1)
        return both.reshape(*before, 2 * self.outer * self.inner, *after)


def find_images(ids: Ids) -> Images | None:
    """Where the two images are, if one axis holds both and image 1 is image 0 with every id one higher."""
    flat = ids.reshape(-1) if ids.flags.c_contiguous else ids.ravel()
    dynamic = flat >= 0
    place = int(dynamic.argmax()) if dynamic.size else 0
    if not dynamic.size or not dynamic[place] or flat[place] & 1:
        return None
    corner = np.unravel_index(place, ids.shape)
    for axis, length in enumerate(ids.shape):
        if length % 2 or ids.strides[axis] == 0:
            continue
        line = np.moveaxis(ids, axis, -1)[tuple(int(c) for a, c in enumerate(corner) if a != axis)]
        start = int(corner[axis])
        for inner in sorted((n for n in range(1, length // 2 + 1) if (length // 2) % n == 0), reverse=True):
            if (start // inner) % 2 or line[start + inner] != line[start] + 1:
                continue
            images = Images(axis, length // (2 * inner), inner)
            first, second = images.take(ids, 0), images.take(ids, 1)
            if not (first & (first >= 0) & 1).any() and np.array_equal(second, first + (first >= 0)):
                return images
    return None


def row_axes(arrays: Sequence[Ids]) -> list[int]:
    """The axes along which channels change in any of the arrays, which have one shape. Along others positions do.

    Where two maps are put side by side, one value ends and another begins; that alone makes no axis of channels.
    """
    return [axis for axis in range(arrays[0].ndim) if any(changes_channel(ids, axis) for ids in arrays)]


def changes_channel(ids: Ids, axis: int) -> bool:
    """Whether neighbours along an axis are other channels of a value, or other values at the same position."""
    if ids.strides[axis] == 0 or ids.shape[axis] == 1:
        return False
    ids = np.moveaxis(ids, axis, 0)
    first, rest = ids[:-1], ids[1:]
    differ = first ^ rest
    both = (first >= 0) & (rest >= 0) & (differ >> LANE_SHIFT != 0)
    if not both.any():
        return False
    same_position = (differ >> IMAGE_BITS) & POSITION_MASK == 0
    same_value = differ >> VALUE_SHIFT == 0
    return bool((both & (same_position | same_value)).any())


def unique_rows(table: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where each different row of a 2-D table stands first, in order, and for every row which of these it equals."""
    if len(table) <= 1 or (table == table[0]).all():
        return np.zeros(min(1, len(table)), np.int64), np.zeros(len(table), np.int32)
    packed = np.ascontiguousarray(table).view(np.dtype((np.void, table.dtype.itemsize * table.shape[1])))[:, 0]
    _, first, which = np.unique(packed, return_index=True, return_inverse=True)
    order = np.argsort(first)
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    return first[order], rank[which.reshape(-1)].astype(np.int32)
