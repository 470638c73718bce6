"""Recurrent layers, as scans: groups of ordinary steps that read earlier positions of what they make (program.Scan).

An operator says which pixels its cell reads, in which order the pixels come, and what the state is outside the image;
the cell itself, that of an LSTM, is written once. A learned initial state is known when compiling, so its share of a
product is a bias that differs between positions, and its share of the memory a constant that is zero inside.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from genfast.compiler.builder import Builder
from genfast.compiler.cells import Cells, Ids, make_ids, split
from genfast.compiler.contraction import numbers, sources
from genfast.compiler.frontend import Handled, Tracer, handles
from genfast.compiler.program import Constant, Linear, Pointwise, Read, Scan, Tap
from genfast.compiler.tables import ImagesMixed, Unsupported, make_constant, one_image

GATES = 4  # i, f, g, o


@dataclass(frozen=True, eq=False)
class Direction:
    """What one product of a cell reads of the hidden state: a row of pixels above, or the pixel beside.

    taps: (at [Q], weight [h, 4h]) of each pixel it reads. initial: the initial state's share.  # [Q, 4h]
    """

    taps: list[tuple[np.ndarray, np.ndarray]]
    initial: np.ndarray


@dataclass(frozen=True, eq=False)
class Cell:
    """A recurrent layer. products: computed apart, so that each runs as early as it can (a row above whole).

    previous: where the memory comes from.  # [Q]
    memory: what it is where it comes from nowhere, zero elsewhere.  # [Q, h]
    generation: [Q], see program.Scan.
    """

    products: list[Direction]
    previous: np.ndarray
    memory: np.ndarray
    generation: np.ndarray


def shifted(height: int, width: int, dy: int, dx: int) -> np.ndarray:
    """For each pixel the one dy rows and dx columns further, -1 outside of the image.  # int32 [H * W]"""
    return sources((height, width), (height, width), (0, 0), (1, 1), (-dy, -dx), (1, 1), False).astype(np.int32)


@handles("genfast::row_lstm")
def _row_lstm(tracer: Tracer, func: Any, args: list[Any], kwargs: dict[str, Any], outs: list[Tensor]) -> Handled:
    """The hidden states that a pixel reads are those of k pixels of the row above; the memory is that above it."""
    weight, h0, c0 = constants(tracer, args[1:4])
    (height, width), (hidden, taps) = args[0].shape[2:], weight.shape[1:]
    y, x = np.divmod(np.arange(height * width), width)
    product = Direction([], np.zeros((height * width, GATES * hidden)))
    for t in range(taps):
        dx = t - taps // 2
        product.taps.append((shifted(height, width, -1, dx), weight[:, :, t].T))
        product.initial[(y == 0) & (x + dx >= 0) & (x + dx < width)] += weight[:, :, t] @ h0
    cell = Cell([product], shifted(height, width, -1, 0), np.where((y == 0)[:, None], c0, 0), y)
    return recur(tracer, args[0], cell, hidden, outs)


@handles("genfast::diagonal_lstm")
def _diagonal_lstm(tracer: Tracer, func: Any, args: list[Any], kwargs: dict[str, Any], outs: list[Tensor]) -> Handled:
    """A pixel reads the hidden states above and beside it; the memory is that beside it."""
    weight, h0, c0 = constants(tracer, args[1:4])
    (height, width), hidden, reverse = args[0].shape[2:], weight.shape[1], args[4]
    y, x = np.divmod(np.arange(height * width), width)
    along = width - 1 - x if reverse else x
    beside = shifted(height, width, 0, 1 if reverse else -1)
    edge = (along == 0)[:, None]
    above = Direction([(shifted(height, width, -1, 0), weight[:, :, 0].T)], np.zeros((len(y), GATES * hidden)))
    left = Direction([(beside, weight[:, :, 1].T)], np.where(edge, weight[:, :, 1] @ h0, 0))
    return recur(tracer, args[0], Cell([above, left], beside, np.where(edge, c0, 0), along + y), hidden, outs)


def constants(tracer: Tracer, tensors: list[Any]) -> list[np.ndarray]:
    if any(tracer.tracked(t) for t in tensors):
        raise Unsupported("a recurrence whose weights or initial states are computed from the image is not taken")
    return [numbers(t) for t in tensors]


def recur(tracer: Tracer, x: Tensor, cell: Cell, hidden: int, outs: list[Tensor]) -> Handled:
    """The cells of an operator's results: the hidden state, and what a backward pass would want, which nobody reads."""
    (image,), join = one_image([tracer.cells(x)])
    if image.ids.shape[0] == x.shape[0]:
        raise ImagesMixed
    maps = []  # usually one, as in contraction.convolve
    for m in range(len(image.ids)):
        table = Cells(image.ids[m].reshape(GATES * hidden, -1), image.values[m].reshape(GATES * hidden, -1))
        maps.append(lstm(tracer.builder, table, cell, hidden).reshape(hidden, *x.shape[2:]))
    unread = [tracer.unknown("what its backward pass keeps is not followed", [x], o) for o in outs[1:]]
    return [join(np.stack(maps)), *unread]


def lstm(b: Builder, x: Cells, cell: Cell, hidden: int) -> Ids:
    """One scan: c = sigmoid(f) c' + sigmoid(i) tanh(g), h = sigmoid(o) tanh(c).  # x: [4h, Q] -> ids [h, Q]

    Hidden channels whose gates read different things (those of different colours) are values of their own. Equation 3
    of van den Oord et al. 2016, Pixel Recurrent Neural Networks.
    """
    positions = x.ids.shape[1]
    parts = alike(x, hidden)
    inputs = [gate_inputs(b, x, part, hidden) for part in parts]  # steps of their own, outside of the scan
    before = len(b.values)
    here = np.arange(positions, dtype=np.int32)
    h = [b.new_value(len(part), positions) for part in parts]
    c = [b.new_value(len(part), positions) for part in parts]

    def pointwise(op: str, *args: Read | Constant, out: int | None = None) -> Read:
        """A step, and the read of its result at the same position."""
        width = max(a.width if isinstance(a, Read) else a.rows.shape[1] for a in args)
        out = b.new_value(width, positions) if out is None else out
        b.steps.append(Pointwise(out, op, args))
        return Read(out, 0, width, here)

    columns = np.concatenate([part + k * hidden for part in parts for k in range(GATES)])  # gates of a part together
    sums = []
    for product in cell.products:
        total = b.new_value(GATES * hidden, positions)
        taps = [
            Tap(Read(v, 0, len(part), at), weight[np.ix_(part, columns)])
            for at, weight in product.taps
            for v, part in zip(h, parts, strict=True)
            if (at >= 0).any() and weight[part].any()
        ]
        initial = make_constant(product.initial[:, columns])
        b.steps.append(Linear(total, tuple(taps), initial))
        sums.append(Read(total, 0, GATES * hidden, here))
    recurrent = sums[0] if len(sums) == 1 else pointwise("add", *sums)

    start = 0
    for i, part in enumerate(parts):
        n, first = len(part), start
        start += GATES * n
        if len(inputs[i]) == 1:
            gates = pointwise("add", inputs[i][0], lanes(recurrent, first, GATES * n))
            let = pointwise("sigmoid", lanes(gates, 0, 2 * n))
            enter, keep = lanes(let, 0, n), lanes(let, n, n)
            new, out = (lanes(gates, k * n, n) for k in (2, 3))
        else:
            enter, keep, new, out = (
                pointwise("add", a, lanes(recurrent, first + k * n, n)) for k, a in enumerate(inputs[i])
            )
            enter, keep = pointwise("sigmoid", enter), pointwise("sigmoid", keep)
        old = pointwise("mul", keep, Read(c[i], 0, n, cell.previous))
        if cell.memory[:, part].any():
            old = pointwise("add", old, pointwise("mul", keep, make_constant(cell.memory[:, part])))
        fresh = pointwise("mul", enter, pointwise("tanh", new))
        memory = pointwise("add", old, fresh, out=c[i])
        pointwise("mul", pointwise("sigmoid", out), pointwise("tanh", memory), out=h[i])
    b.scans.append(Scan(tuple(range(before, len(b.values))), cell.generation.astype(np.int32)))
    ids = np.empty((hidden, positions), np.int64)
    for v, part in zip(h, parts, strict=True):
        ids[part] = make_ids(v, np.arange(len(part))[:, None], here[None])
    return ids


def lanes(read: Read, start: int, width: int) -> Read:
    return Read(read.value, read.start + start, width, read.at)


def alike(x: Cells, hidden: int) -> list[np.ndarray]:
    """The hidden channels, those together whose gates read the same values at the same positions.  # x: [4h, Q]"""
    reads: list[list[tuple[int, bytes]]] = [[] for _ in range(GATES * hidden)]
    for block in split(x.ids):
        for row in block.rows:
            reads[row].append((block.value, block.at.tobytes()))
    groups: dict[tuple, list[int]] = {}
    for j in range(hidden):
        groups.setdefault(tuple(tuple(sorted(reads[j + k * hidden])) for k in range(GATES)), []).append(j)
    return [np.array(group) for group in groups.values()]


def gate_inputs(b: Builder, x: Cells, part: np.ndarray, hidden: int) -> list[Read]:
    """What comes from the layer below for some hidden channels: one read of all four gates if they lie side by side in
    a value, or else one for each gate."""
    gates = [x[part + k * hidden] for k in range(GATES)]
    reads = [b.gather(gate) for gate in gates]
    first = reads[0]
    side_by_side = all(
        r.value == first.value and r.start == first.start + k * len(part) and np.array_equal(r.at, first.at)
        for k, r in enumerate(reads)
    )
    return [lanes(first, 0, GATES * len(part))] if side_by_side else reads
