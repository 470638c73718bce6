"""The builder: turns what a handler knows about one operator into values and steps of a Program.

Handlers describe an operator by arrays of cells for the whole traced batch; the builder takes image 0 of it, finds out
which axes hold channels and which positions, gives channels that read different things values of their own, and
returns the cells of the result.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from genfast.compiler import program
from genfast.compiler.cells import VALUE_SHIFT, Block, Cells, Ids, make_ids, split, unique_rows
from genfast.compiler.program import Constant, Copy, Linear, Lookup, Pointwise, Read, Reduce, Scan, Step, Table, Value
from genfast.compiler.scalar import constants_of, dead_elements, pass_through
from genfast.compiler.scores import Facts, Scores, Weights, affine, known
from genfast.compiler.tables import (
    Grid,
    Unsupported,
    as_cells,
    channel_of_rows,
    make_constant,
    one_image,
    positions_once,
    runs,
)


@dataclass(frozen=True, eq=False)
class Opaque:
    """Something the compiler cannot take apart: out depends on all of its reads. Refused if an output needs it."""

    out: int
    reason: str
    reads: tuple[Read, ...]
    mixes_images: bool = False


@dataclass(frozen=True, eq=False)
class Tap:
    """One tap of a contraction: at output position q, input column source[q] (-1: none) times weight.

    source: int [Q]; weight: float64 [input rows, output rows].
    """

    source: np.ndarray
    weight: np.ndarray


@dataclass
class Builder:
    """values, steps and scans so far. layer: where in the module the operator being traced is."""

    values: list[Value] = field(default_factory=list)
    steps: list[Step | Opaque] = field(default_factory=list)
    scans: list[Scan] = field(default_factory=list)
    layer: str = ""
    notes: list[str] = field(default_factory=list)
    opaque_steps: dict[int, Opaque] = field(default_factory=dict)  # by value
    copies: dict[tuple, Read] = field(default_factory=dict)  # what was put together, by what it is made of
    tables: dict[bytes, np.ndarray] = field(default_factory=dict)  # large ones, which many layers have in common
    pairs: Facts = field(default_factory=dict)  # scores and weights of attention, by their opaque values

    def new_value(self, channels: int, positions: int) -> int:
        self.values.append(Value(channels, positions, self.layer))
        return len(self.values) - 1

    def table(self, at: np.ndarray) -> Table:
        """A table of an Attend, one array for all that are equal."""
        at = np.ascontiguousarray(at, np.int32)
        return self.tables.setdefault(repr(at.shape).encode() + hashlib.sha256(at.tobytes()).digest(), at)

    # ---- elementwise ----

    def pointwise(self, op: str, *args: "Cells | float") -> Cells:
        """op of arrays that broadcast against each other, element by element."""
        cells = [as_cells(a) for a in args]
        shape = np.broadcast_shapes(*(c.ids.shape for c in cells))
        passed = pass_through(op, cells, shape)
        if passed is not None:
            return passed
        cells = [c.broadcast(shape) for c in cells]
        values = constants_of(op, cells, shape)
        if all(c.constant for c in cells):
            return Cells(np.full(shape, -1, np.int64), values)
        first, join = one_image(cells)
        if self.pairs:
            ids = self._of_pairs(op, first)
            if ids is not None:
                return Cells(join(ids), values)
        grid = Grid([c.ids for c in first if not c.constant])
        tables = [Cells(grid.flat(c.ids), grid.flat(c.values)) for c in first]
        ids = self._pointwise_table(op, tables, dead_elements(op, tables))
        return Cells(join(grid.unflat(ids)), values)

    def _of_pairs(self, op: str, cells: list[Cells]) -> Ids | None:
        """As pointwise, on cells of one image of which some are scores or weights of attention; else None."""
        computed = [c for c in cells if not c.constant]
        found = [known(self.pairs, c.ids) for c in computed]
        x = next((f for f in found if f is not None), None)
        if x is None:
            return None
        result = affine(op, cells, x) if len(computed) == 1 else None
        if result is None:
            raise Unsupported(self.opaque_steps[x.value].reason)
        ids, facts = result
        if facts is None:
            return ids
        fresh = self.pair_from(facts, x.value) - x.value
        return np.where(ids >= 0, ids + (np.int64(fresh) << VALUE_SHIFT), -1)

    def pair(self, facts: Scores | Weights, reason: str, reads: tuple[Read, ...]) -> int:
        """An opaque value for the cells of scores or weights."""
        n, m, o = facts.shape
        value = self.new_value(o, n * m)
        self.opaque_steps[value] = Opaque(value, reason, reads)
        self.steps.append(self.opaque_steps[value])
        self.pairs[value] = facts
        return value

    def pair_from(self, facts: Scores | Weights, source: int) -> int:
        """The same, where they are made from others."""
        before = self.opaque_steps[source]
        return self.pair(facts, before.reason, before.reads)

    def _pointwise_table(self, op: str, tables: list[Cells], dead: np.ndarray | None) -> Ids:
        """As pointwise, on [R, P] tables of one image, R rows of one channel each. dead: known constants."""
        rows, positions = tables[0].ids.shape
        out = np.full((rows, positions), -1, np.int64)
        blocks = [split(t.ids) for t in tables]
        members = [[[] for _ in range(rows)] for _ in tables]  # type: list[list[list[int]]]
        for t, own in enumerate(blocks):
            for b, block in enumerate(own):
                for row in block.rows:
                    members[t][row].append(b)
            some = (tables[t].ids < 0).any(1)
            for row in np.flatnonzero(some):
                members[t][row].append(-1)
        groups: dict[tuple, list[int]] = {}
        for row in range(rows):
            key = tuple(tuple(m[row]) for m in members) + (() if dead is None else (dead[row].tobytes(),))
            groups.setdefault(key, []).append(row)
        for key, group in groups.items():
            row_index = np.array(group)
            computed = np.logical_or.reduce([t.ids[group[0]] >= 0 for t in tables])
            columns = np.flatnonzero(computed if dead is None else computed & ~dead[group[0]])
            if not len(columns):
                continue
            chosen: list[Block | None] = []
            for t, own in enumerate(key[: len(tables)]):
                part = [b for b in own if b < 0 or (blocks[t][b].at[columns] >= 0).any()]
                here = tables[t].ids[group[0]][columns]
                if len(part) == 1 or (here < 0).all():
                    chosen.append(None if (here < 0).all() else blocks[t][part[0]])
                elif len(part) == 2 and -1 in part and (here >= 0).all():
                    chosen.append(blocks[t][max(part)])
                else:  # pieces of several values, or of one and constants: put together first
                    chosen.append(self._whole(tables[t], row_index, columns))
            self._pointwise_group(op, tables, chosen, row_index, columns, out)
        return out

    def _whole(self, table: Cells, rows: np.ndarray, columns: np.ndarray) -> Block:
        """Rows of a table, at some columns, as channels of one value."""
        part = table[np.ix_(rows, columns)]
        key = (part.ids.shape, part.ids.tobytes(), np.where(part.ids < 0, part.values, 0).tobytes())
        read = self.copies[key] if key in self.copies else self.gather(part)
        self.copies[key] = read
        at = np.full(table.ids.shape[1], -1, np.int32)
        at[columns] = read.at
        return Block(read.value, rows, read.start + np.arange(len(rows)), at)

    def _pointwise_group(
        self, op: str, tables: list[Cells], chosen: list[Block | None], rows: np.ndarray, columns: np.ndarray, out: Ids
    ) -> None:
        """Rows that all read the same blocks at the same columns: one value for every run of channels."""
        channels = [None if b is None else channel_of_rows(b, rows) for b in chosen]
        dynamic = [c for c in channels if c is not None]
        order = np.lexsort(tuple(reversed(dynamic)))
        rows, channels = rows[order], [None if c is None else c[order] for c in channels]
        for begin, end in runs([c for c in channels if c is not None]):
            part = rows[begin:end]
            constants = [
                table.values[part][:, columns].astype(np.float64).T if block is None else None
                for table, block in zip(tables, chosen, strict=True)
            ]  # [columns, rows]
            same = all(c is None or c[begin] == c[end - 1] for c in channels) and all(
                c is None or (c == c[:, :1]).all() for c in constants
            )
            width = 1 if same else len(part)
            keys = [b.at[columns].astype(np.int64) for b in chosen if b is not None]
            kinds = [None if c is None else make_constant(c[:, :width]) for c in constants]
            keys += [c.which.astype(np.int64) for c in kinds if c is not None and len(c.rows) > 1]
            first, which = positions_once(np.stack(keys, 1))
            arguments: list[Read | Constant] = []
            for block, chan, constant in zip(chosen, channels, kinds, strict=True):
                if block is not None and chan is not None:
                    n = 1 if width == 1 or chan[begin] == chan[end - 1] else width
                    arguments.append(Read(block.value, int(chan[begin]), n, block.at[columns][first]))
                elif constant is not None:
                    arguments.append(Constant(constant.rows, constant.which[first]))
            value = self.new_value(width, len(first))
            self.steps.append(Pointwise(value, op, tuple(arguments)))
            lanes = np.zeros(len(part), np.int64) if same else np.arange(width)
            out[np.ix_(part, columns)] = make_ids(value, lanes[:, None], which[None, :])

    # ---- contractions ----

    def linear(self, table: Cells, taps: Sequence[Tap], bias: np.ndarray | None, positions: int) -> Ids:
        """out[o, q] = bias[o] + sum over taps and rows r of table[r, source[q]] * weight[r, o], for one image.

        table: [R, P] cells. Returns ids [O, Q]. Output rows with different zeros in their weights, block by block,
        read different things, and become different values: this is where causality shows.
        """
        outputs = taps[0].weight.shape[1] if taps else len(bias) if bias is not None else 0
        base = np.zeros((positions, outputs)) if bias is None else np.tile(bias.astype(np.float64), (positions, 1))
        fixed = table.ids < 0
        if fixed.any():
            values = np.where(fixed, table.values, 0).astype(np.float64)
            if values.any():
                for tap in taps:
                    inside = tap.source >= 0
                    base[inside] += values[:, tap.source[inside]].T @ tap.weight
        blocks = split(table.ids)
        pairs: list[tuple[Block, Tap, np.ndarray]] = []
        active = []
        for tap in taps:
            inside = tap.source >= 0
            nonzero = tap.weight != 0
            for block in blocks:
                reads = nonzero[block.rows].any(0)
                if not reads.any():
                    continue
                at = np.full(positions, -1, np.int32)
                at[inside] = block.at[tap.source[inside]]
                if (at >= 0).any():
                    pairs.append((block, tap, at))
                    active.append(reads)
        pattern = np.array(active).reshape(len(pairs), outputs).T  # [O, pairs]
        ids = np.full((outputs, positions), -1, np.int64)
        first, which = unique_rows(pattern) if len(pairs) else (np.zeros(1, int), np.zeros(outputs, int))
        for i in range(len(first)):
            members = np.flatnonzero(which == i)
            used = np.flatnonzero(pattern[members[0]])
            ids[members] = self._linear_value([pairs[j] for j in used], members, base[:, members])
        return ids

    def _linear_value(self, pairs: list[tuple[Block, Tap, np.ndarray]], outputs: np.ndarray, base: np.ndarray) -> Ids:
        constant = make_constant(base)
        keys = [at for _, _, at in pairs] + [constant.which]
        first, which = positions_once(np.stack(keys, 1).astype(np.int64))
        taps = []
        for block, tap, at in pairs:
            read = block.read(at[first])
            weight = np.zeros((read.width, len(outputs)))
            np.add.at(weight, block.channels - read.start, tap.weight[np.ix_(block.rows, outputs)])
            taps.append((read, weight))
        value = self.new_value(len(outputs), len(first))
        self.steps.append(
            Linear(value, tuple(program.Tap(r, w) for r, w in taps), Constant(constant.rows, constant.which[first]))
        )
        return make_ids(value, np.arange(len(outputs))[:, None], which[None, :])

    # ---- the rest ----

    def lookup(self, index: Ids, table: np.ndarray) -> Ids:
        """Rows of a table at the numbers that ``index`` [Q] holds, for one image.  # [E, D] -> ids [D, Q]"""
        out = np.full((table.shape[1], len(index)), -1, np.int64)
        for block in split(index[None]):
            columns = np.flatnonzero(block.at >= 0)
            first, which = positions_once(block.at[columns][:, None].astype(np.int64))
            value = self.new_value(table.shape[1], len(first))
            self.steps.append(Lookup(value, block.read(block.at[columns][first]), table.astype(np.float64)))
            out[:, columns] = make_ids(value, np.arange(table.shape[1])[:, None], which[None, :])
        return out

    def gather(self, table: Cells) -> Read:
        """The [R, P] cells of one image as one value of R channels, made by a Copy unless they already are one."""
        rows, positions = table.ids.shape
        blocks = split(table.ids)
        if len(blocks) == 1 and not (table.ids < 0).any():
            block = blocks[0]
            if len(block.rows) == rows and (np.diff(block.channels[np.argsort(block.rows)]) == 1).all():
                return Read(block.value, int(block.channels.min()), rows, block.at)
        starts: list[int] = []
        pieces: list[Read | Constant] = []
        for block in blocks:
            order = np.argsort(block.rows)
            row, channel = block.rows[order], block.channels[order]
            cuts = np.flatnonzero((np.diff(row) != 1) | (np.diff(channel) != 1)) + 1
            for begin, end in zip([0, *cuts], [*cuts, len(row)], strict=True):
                starts.append(int(row[begin]))
                pieces.append(Read(block.value, int(channel[begin]), int(end - begin), block.at))
        fixed = table.ids < 0
        if fixed.any():
            values = np.where(fixed, table.values, 0).astype(np.float64)
            some = np.flatnonzero(fixed.any(1))
            low, high = int(some[0]), int(some[-1]) + 1  # the pieces above overwrite what is not fixed in between
            starts.insert(0, low)
            first, which = unique_rows(values[low:high].T)
            pieces.insert(0, Constant(values[low:high].T[first], which))
        value = self.new_value(rows, positions)
        self.steps.append(Copy(value, tuple(starts), tuple(pieces)))
        return Read(value, 0, rows, np.arange(positions, dtype=np.int32))

    def reduce(self, kind: str, table: Cells, eps: float = 0.0) -> Ids:
        """Over the rows of [R, P] cells of one image: ids [1, P], or [R, P] for the kinds that keep them."""
        read = self.gather(table)
        rows, positions = table.ids.shape
        width = 1 if kind in ("sum", "max", "min") else rows
        first, which = positions_once(read.at[:, None].astype(np.int64))
        value = self.new_value(width, len(first))
        self.steps.append(Reduce(value, kind, (Read(read.value, read.start, read.width, read.at[first]),), eps))
        return make_ids(value, np.arange(width)[:, None], which[None, :])

    def opaque(self, reason: str, inputs: Sequence[Ids], shape: Sequence[int], mixes_images: bool = False) -> Ids:
        """Cells of which nothing is known but what they may depend on. Both images share them."""
        reads: list[Read] = []
        for ids in inputs:
            pair = known(self.pairs, ids) if self.pairs and (ids >= 0).any() else None
            reads += self.opaque_steps[pair.value].reads if pair else [b.read() for b in split(ids.reshape(1, -1))]
        cause = next((self.opaque_steps[r.value] for r in reads if r.value in self.opaque_steps), None)
        layer = self.layer
        if cause is not None:  # the first one is to blame
            reason, mixes_images, layer = cause.reason, cause.mixes_images, self.values[cause.out].layer
        self.values.append(Value(1, 1, layer))
        value = len(self.values) - 1
        self.opaque_steps[value] = Opaque(value, reason, tuple(reads), mixes_images)
        self.steps.append(self.opaque_steps[value])
        return np.broadcast_to(make_ids(value, np.zeros(1, np.int64), np.zeros(1, np.int64))[0], shape)
