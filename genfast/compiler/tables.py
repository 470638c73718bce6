"""From an operator's arrays of cells to a table of one image, rows of channels by columns of positions; and from there
to what is read: runs of channels of a value, constants, positions that are computed once.
"""

from collections.abc import Callable, Sequence

import numpy as np

from genfast.compiler.cells import Block, Cells, Ids, find_images, row_axes, unique_rows
from genfast.compiler.program import Constant


class Unsupported(Exception):
    """Raised for a call that cannot be taken apart; the text says why."""


class ImagesMixed(Exception):
    """The two images of the batch are not two halves of one axis: something mixed them, or threw one away.

    The text says what did, if that is known.
    """


class Grid:
    """Axes of an array sorted into rows (along which lanes change) and columns (along which positions do)."""

    def __init__(self, arrays: list[Ids]) -> None:
        self.shape = arrays[0].shape
        rows = row_axes(arrays)
        self.axes = rows + [a for a in range(len(self.shape)) if a not in rows]
        self.rows = int(np.prod([self.shape[a] for a in rows], initial=1))

    def flat(self, array: np.ndarray) -> np.ndarray:
        return np.ascontiguousarray(array.transpose(self.axes).reshape(self.rows, -1))

    def unflat(self, table: np.ndarray) -> np.ndarray:
        return table.reshape([self.shape[a] for a in self.axes]).transpose(np.argsort(self.axes))


def one_image(cells: Sequence[Cells]) -> tuple[list[Cells], Callable[[Ids], Ids]]:
    """Image 0 of arrays of one shape, and a function that puts ids of image 0 back into the batch."""
    found = {find_images(c.ids) for c in cells if not c.constant}
    if len(found) != 1 or None in found:
        raise ImagesMixed
    images = next(f for f in found if f is not None)
    first = [Cells(images.take(c.ids, 0), images.take(c.values, 0)) for c in cells]
    for c, image in zip(cells, first, strict=True):
        if c.values.strides[images.axis] != 0:
            fixed = image.ids < 0
            if fixed.any():
                low, high = image.values[fixed], images.take(c.values, 1)[fixed]
                if not np.array_equal(low, high, equal_nan=low.dtype.kind == "f"):
                    raise Unsupported("it uses constants that differ from image to image")
    return first, images.join


def as_cells(value: "Cells | float | np.ndarray") -> Cells:
    if isinstance(value, Cells):
        return value
    array = np.asarray(value, np.float64)
    return Cells(np.full(array.shape, -1, np.int64), array)


def channel_of_rows(block: Block, rows: np.ndarray) -> np.ndarray:
    """The channel that each of these rows has in the block."""
    order = np.argsort(block.rows)
    return block.channels[order][np.searchsorted(block.rows[order], rows)]


def runs(channels: list[np.ndarray]) -> list[tuple[int, int]]:
    """Ranges of rows in which every operand's channel rises by one, or stays, from row to row."""
    n = len(channels[0])
    steps = np.stack([np.diff(c) for c in channels])  # [operands, n - 1]
    fine = ((steps == 0) | (steps == 1)).all(0)
    out, begin = [], 0
    for i in range(n - 1):
        if not fine[i] or (i > begin and (steps[:, i] != steps[:, i - 1]).any()):
            out.append((begin, i + 1))
            begin = i + 1
    return [*out, (begin, n)]


def make_constant(values: np.ndarray) -> Constant:
    """values [Q, n] with equal rows stored once, and a width of 1 where all channels are equal."""
    if values.shape[1] > 1 and (values == values[:, :1]).all():
        values = values[:, :1]
    first, which = unique_rows(values)
    return Constant(values[first], which)


def positions_once(keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Positions [Q, keys] that read the same things are computed once, where that at least halves them.

    (A few repeats, as at an image's edge, are left alone: positions then stay those of the feature map, which fuses.)
    """
    first, which = unique_rows(keys)
    if 2 * len(first) > len(keys):
        return np.arange(len(keys)), np.arange(len(keys), dtype=np.int32)
    return first, which
