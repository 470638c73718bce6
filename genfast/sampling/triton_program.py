"""A Plan as the triton engine runs it: four buffers, and for each kernel what its launches are made of.

The arena holds the caches of all values, then scratch. Each value has a region of slots * channels numbers for each
image; a number lies at entry * n + image * channels + channel, where the entry, region + slot * channels, is the same
for every batch. So the tables below hold entries, and are made once.
"""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from genfast.compiler.plan import Kernel, Plan
from genfast.compiler.program import Attend, Constant, Copy, Linear, Lookup, Read, Reduce
from genfast.errors import GenfastError, NotSupported
from genfast.kernels.attend import triton_launch as attention
from genfast.kernels.cells import triton_launch as cells
from genfast.kernels.common.triton_launch import Launch
from genfast.sampling.triton_lanes import Lane, Lanes, LaneStore, Scratch, lanes_of

ALIGN = 16  # numbers: where regions and weights start
NARROW = 16  # reads narrower than this share a step of a product


@dataclass
class Pool:
    """Arrays one after the other in what will be one buffer."""

    dtype: type
    arrays: list[np.ndarray] = field(default_factory=list)
    size: int = 0
    known: dict[bytes, int] = field(default_factory=dict)

    def add(self, array: np.ndarray) -> int:
        """Where the array starts; equal ones are held once."""
        with np.errstate(over="ignore"):  # what is too large for float32 becomes infinite, as in the model itself
            flat: np.ndarray = np.ascontiguousarray(array, self.dtype).reshape(-1)
        key = hashlib.sha256(flat.tobytes()).digest()
        if key not in self.known:
            self.known[key] = self.size
            padding = -len(flat) % ALIGN
            self.arrays.append(np.concatenate([flat, np.zeros(padding, self.dtype)]))
            self.size += len(flat) + padding
        return self.known[key]

    def taken(self) -> np.ndarray:
        """All of them, which the pool then holds no longer."""
        arrays, self.arrays = self.arrays, []
        return np.concatenate(arrays) if arrays else np.zeros(ALIGN, self.dtype)


@dataclass(frozen=True)
class Part:
    """Launches of a plan's kernel that differ in begin and cells only."""

    constants: cells.Constants
    table: int
    positions: int
    meta: int
    weight: int

    def launch(self, buffers: cells.Buffers, begin: int, count: int, n: int, precision: str) -> Launch:
        """For entries begin .. begin + count - 1 of the kernel's order, of n images."""
        numbers = cells.Numbers(begin, count, self.table, self.positions, self.meta, self.weight)
        return cells.launch(buffers, self.constants, numbers, n, precision)


@dataclass(frozen=True)
class AttendPart:
    """The same for attention. numbers: of a launch of everything; seen: int [positions], keys that each query sees."""

    constants: attention.Constants
    numbers: attention.Numbers
    seen: np.ndarray

    def launch(self, buffers: cells.Buffers, begin: int, count: int, n: int, precision: str) -> Launch:
        arena, _, floats, tables = buffers
        numbers = self.numbers._replace(begin=begin, cells=count)
        longest = int(self.seen[begin : begin + count].max(initial=0))
        return attention.launch(arena, floats, tables, self.constants, numbers, longest, n)


@dataclass(frozen=True)
class DrawPart:
    """The draws of a channel, in the order of their ticks. table: rows pixel, entry of the parameters, entry of the
    input; ticks: int [draws]."""

    table: int
    positions: int
    ticks: np.ndarray
    stride: int  # of the parameters' value
    column: int


class TritonProgram:
    """Everything that a plan says, packed. Raises NotSupported for a step that has no Triton kernel."""

    def __init__(self, plan: Plan, precision: str) -> None:
        self.plan, self.precision = plan, precision
        self.tables, self.constants, self.weights = Pool(np.int32), Pool(np.float32), Pool(np.float32)
        self.region: list[int] = []
        self.numbers = 0  # of the arena, for each image
        for value, slots in zip(plan.values, plan.slot_count, strict=True):
            self.region.append(self.reserve(value.channels * slots))
        self.parts = [self.pack(kernel, k) for k, kernel in enumerate(plan.kernels)]
        self.draws = [self.draw(c) for c in range(plan.program.image_shape[0])]

    def reserve(self, numbers: int) -> int:
        start = self.numbers
        self.numbers += -(-numbers // ALIGN) * ALIGN
        return start

    def entries(self, value: int, positions: np.ndarray) -> np.ndarray:
        """Where a value's positions lie; -1 for no position, and for one that is not kept."""
        slots = np.where(positions >= 0, self.plan.slots[value][positions], -1)
        return np.where(slots >= 0, self.region[value] + slots * self.plan.values[value].channels, -1)

    def pack(self, kernel: Kernel, k: int) -> list[Part | AttendPart]:
        mine = self.plan.launch_kernel == k
        begin, end = self.plan.launch_begin[mine], self.plan.launch_end[mine]
        order = self.plan.order[k]
        within = np.zeros(len(order), np.int64)  # the place of each entry in its launch
        for b, e in zip(begin, end, strict=True):
            within[b:e] = np.arange(e - b)
        width = 0 if kernel.head is None else self.plan.program.values[kernel.head.out].channels
        launches = lanes_of(kernel, width)
        scratch = self.reserve(int((end - begin).max(initial=0)) * width) if len(launches) > 1 else 0
        return [Packer(self, kernel, lanes, width, order, scratch + within * width).part() for lanes in launches]

    def draw(self, c: int) -> DrawPart:
        plan = self.plan
        read, ticks = plan.draws[c].params, plan.draw_tick[c]
        pixels = np.argsort(ticks, kind="stable")
        rows = np.stack(
            [pixels, self.entries(read.value, read.at[pixels]), self.entries(plan.program.inputs[c], pixels)]
        )
        stride = plan.values[read.value].channels
        return DrawPart(self.tables.add(rows), len(pixels), ticks[pixels], stride, read.start)


class Packer:
    """One launch of a kernel: its tables and its constants."""

    def __init__(
        self, program: TritonProgram, kernel: Kernel, lanes: Lanes, width: int, order: np.ndarray, scratch: np.ndarray
    ) -> None:
        self.program, self.kernel, self.lanes, self.width = program, kernel, lanes, width
        self.order, self.scratch = order, scratch
        self.rows: list[np.ndarray] = []
        self.known: dict[bytes, int] = {}
        self.meta = self.weight = 0

    def part(self) -> Part | AttendPart:
        if self.lanes.has_head and isinstance(self.kernel.head, Attend):
            return self.attend(self.kernel.head)
        constants = self.head() if self.lanes.has_head else cells.Constants("none", (), (), 0)
        heads = [lane.column for lane in self.lanes.heads()]
        body = tuple(self.instruction(lane, heads) for lane in self.lanes.body)
        stores = tuple(self.store(s) for s in self.lanes.stores)
        sums = tuple(heads) if constants.head == "linear" else ()
        constants = constants._replace(body=body, stores=stores, lanes=self.lanes.width, sums=sums)
        return Part(constants, self.table(), len(self.order), self.meta, self.weight)

    def table(self) -> int:
        """Where the rows made so far lie."""
        return self.program.tables.add(np.stack(self.rows) if self.rows else np.zeros((1, len(self.order))))

    def row(self, entries: np.ndarray) -> int:
        """The row of the launch's table that holds these entries."""
        key = entries.astype(np.int32).tobytes()
        if key not in self.known:
            self.known[key] = len(self.rows)
            self.rows.append(entries.astype(np.int32))
        return self.known[key]

    def read(self, read: Read) -> tuple[int, int]:
        """(row of the table, stride)"""
        self.check_kept(read)
        entries = self.program.entries(read.value, read.at[self.order])
        return self.row(entries), self.program.plan.values[read.value].channels

    def check_kept(self, read: Read) -> None:
        at = read.at[self.order]
        if (self.program.plan.slots[read.value][at[at >= 0]] < 0).any():
            raise GenfastError(f"{self.kernel.name} reads positions of value {read.value} that the plan does not keep.")

    def constant(self, constant: Constant) -> tuple[int, bool]:
        """(row of the table, whether positions differ)"""
        which = constant.which[self.order]
        start = self.program.constants.add(constant.rows)
        return self.row(start + which * constant.rows.shape[1]), bool((which != which[:1]).any())

    def unknown(self, what: str) -> NotSupported:
        return NotSupported(
            f"The triton engine has no kernel for the {what} of {self.kernel.name}: use engine='eager' or 'jacobi'."
        )

    def instruction(self, lane: Lane, heads: Sequence[int]) -> tuple[str | int | bool, ...]:
        if lane.op not in cells.OPS:
            raise self.unknown(f"operation {lane.op}")
        if lane.op == "head":
            return "head", heads.index(lane.column), lane.column, lane.one, 0
        if lane.op == "constant":
            assert isinstance(lane.source, Constant)
            row, varies = self.constant(lane.source)
            return "constant", row, varies, lane.column, lane.one
        if lane.op == "read":
            row, stride = (
                (self.row(self.scratch), self.width) if isinstance(lane.source, Scratch) else self.read(lane.source)  # type: ignore[arg-type]
            )
            return "read", row, stride, lane.column, lane.one
        return (lane.op, *lane.registers, *[0] * (3 - len(lane.registers)), 0)

    def store(self, store: LaneStore) -> tuple[int, int, int, int]:
        if store.value is None:
            return store.register, self.row(self.scratch), self.width, store.column
        entries = self.program.entries(store.value, self.order)
        return store.register, self.row(entries), self.program.plan.values[store.value].channels, store.column

    # ---- heads ----

    def head(self) -> cells.Constants:
        empty = cells.Constants("none", (), (), 0)
        match self.kernel.head:
            case Linear() as head:
                return self.linear(head, empty)
            case Lookup() as head:
                row, stride = self.read(head.index)
                assert row == 0
                self.weight = self.program.constants.add(head.table)
                entries, width = head.table.shape
                pieces: tuple[tuple[int, ...], ...] = ((row, stride, head.index.start),)
                return empty._replace(head="lookup", pieces=pieces, columns=width, total=entries)
            case Reduce() as head:
                if head.kind not in cells.KINDS:
                    raise self.unknown(f"reduction {head.kind}")
                total = sum(r.width for r in head.reads)
                k = cells.depth(total, self.program.precision)
                steps = self.gather(head.reads, k)
                return empty._replace(head="reduce", kind=head.kind, eps=float(head.eps), total=total, steps=steps, k=k)
            case Copy() as head:
                pieces = tuple(self.piece(p, start) for p, start in zip(head.pieces, head.starts, strict=True))
                return empty._replace(head="copy", pieces=pieces)
            case unknown:
                raise self.unknown(f"step {type(unknown).__name__}")

    def piece(self, piece: Read | Constant, start: int) -> tuple[int, ...]:
        if isinstance(piece, Read):
            return (*self.read(piece), piece.start, start, piece.width, -1)
        row, varies = self.constant(piece)
        return row, 0, 0, start, piece.rows.shape[1], int(varies)

    def gather(self, reads: Iterable[Read], k: int) -> int:
        """Lays out reads side by side, see tap_gemm's ``gather``, and gives the number of steps of k numbers."""
        columns = []
        for read in reads:
            row, stride = self.read(read)
            columns += [(row, stride, read.start + i) for i in range(read.width)]
        columns += [(-1, 0, 0)] * (-len(columns) % k)
        self.meta = self.program.tables.add(np.array(columns).T)
        return len(columns) // k

    def linear(self, head: Linear, empty: cells.Constants) -> cells.Constants:
        """Weights of each step one after the other, zeros where a step has fewer numbers or columns."""
        precision = self.program.precision
        columns = -(-self.width // ALIGN) * ALIGN
        widths = [tap.read.width for tap in head.taps]
        gathers = bool(widths) and min(widths) < NARROW
        k = cells.depth(sum(widths) if gathers else max(widths, default=16), precision)
        blocks: list[np.ndarray] = []
        regular: tuple[int, ...] = ()
        if gathers:
            steps = self.gather([tap.read for tap in head.taps], k)
            blocks.append(np.concatenate([tap.weight for tap in head.taps]))
            blocks.append(np.zeros((steps * k - sum(widths), self.width)))
        else:
            meta = []
            for tap in head.taps:
                row, stride = self.read(tap.read)
                for first in range(0, tap.read.width, k):
                    weight = tap.weight[first : first + k]
                    meta.append((row, stride, tap.read.start + first, len(weight)))
                    blocks += [weight, np.zeros((k - len(weight), self.width))]
            steps = len(meta)
            regular = regular_taps(meta, k, len(head.taps))
            self.meta = self.program.tables.add(np.array(meta or [(0, 0, 0, 0)]))
        weights = np.zeros((steps * k, columns))
        weights[:, : self.width] = np.concatenate(blocks) if blocks else 0
        self.weight = self.program.weights.add(weights)
        aligned = all(
            tap.read.start % 4 == 0
            and tap.read.width % 4 == 0
            and self.program.plan.values[tap.read.value].channels % 4 == 0
            for tap in head.taps
        )
        return empty._replace(
            head="linear",
            columns=columns,
            steps=steps,
            gathers=gathers,
            aligned=aligned and not gathers,
            regular=regular,
            k=k,
        )

    # ---- attention ----

    def attend(self, head: Attend) -> AttendPart:
        """Lists of slots, for each query one after the other; those of layers that see the same slots are held once."""
        there = head.key.at[self.order] >= 0
        seen = there.sum(1)
        first = np.cumsum(seen) - seen
        keys, values = (self.slots_of(read, there) for read in (head.key, head.value))
        bias = 0
        if head.bias is not None:  # for each query [heads, keys]
            each = [b[:, t].reshape(-1) for b, t in zip(head.bias[self.order], there, strict=True)]
            bias = self.program.constants.add(np.concatenate(each))
        row, stride = self.read(head.query)
        constants = attention.Constants(
            head.heads,
            head.key.width // head.heads,
            head.value.width // head.heads,
            head.scale,
            (row, stride, head.query.start),
            self.row(first),
            self.row(seen),
            (self.channels(head.key), head.key.start),
            (self.channels(head.value), head.value.start),
            head.bias is not None,
            tuple(self.store(s)[1:] for s in self.lanes.stores),
            int(seen.max(initial=0)),
        )
        key, value = (self.program.region[read.value] for read in (head.key, head.value))
        numbers = attention.Numbers(0, 0, self.table(), len(self.order), keys, values, key, value, bias)
        return AttendPart(constants, numbers, seen)

    def slots_of(self, read: Read, there: np.ndarray) -> int:
        self.check_kept(read)
        at = read.at[self.order][there]
        return self.program.tables.add(np.where(at >= 0, self.program.plan.slots[read.value][at], -1))

    def channels(self, read: Read) -> int:
        return self.program.plan.values[read.value].channels


def regular_taps(meta: Sequence[tuple[int, int, int, int]], k: int, taps: int) -> tuple[int, ...]:
    """(first read, steps of a tap, stride, first column, width) if the steps are those of taps that differ in nothing
    else, whose reads follow one another; otherwise ()."""
    if not taps or len(meta) % taps:
        return ()
    steps = len(meta) // taps
    read, stride, first, _ = meta[0]
    width = sum(step[3] for step in meta[:steps])
    expected = [(read + tap, stride, first + i * k, min(k, width - i * k)) for tap in range(taps) for i in range(steps)]
    return (read, steps, stride, first, width) if list(meta) == expected else ()
