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


def find_images(ids: Ids) -> tuple[int, int] | None:
    """(axis, size) such that the two images of the batch are the halves of that axis, each of ``size``; or None.

    Half 1 must be half 0 with every id one higher: the same cells of the other image.
    """
    for axis, length in enumerate(ids.shape):
        if length % 2:
            continue
        half = length // 2
        first, second = (ids.take(range(i * half, (i + 1) * half), axis) for i in (0, 1))
        dynamic = first >= 0
        if not dynamic.any() or ((first & 1) == 1)[dynamic].any():
            continue
        if np.array_equal(second, np.where(dynamic, first + 1, first)):
            return axis, half
    return None


def row_axes(arrays: Sequence[Ids]) -> list[int]:
    """The axes along which lanes change in any of the arrays, which have one shape. Along others only positions do."""
    axes = []
    for axis in range(arrays[0].ndim):
        for ids in arrays:
            if ids.strides[axis] == 0 or ids.shape[axis] == 1:
                continue
            lanes = lanes_of(ids)
            first, rest = lanes.take(range(lanes.shape[axis] - 1), axis), lanes.take(range(1, lanes.shape[axis]), axis)
            if ((first != rest) & (first >= 0) & (rest >= 0)).any():
                axes.append(axis)
                break
    return axes


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
