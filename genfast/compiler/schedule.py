"""The schedule: each needed cell once, when it is first wanted, together with all others that are ready by then.

Draws want logits, logits want features, and so on back: every kernel is launched when one of its cells is wanted for
the first time, and then computes every cell that can be computed. So a vertical stack, which waits for whole rows, runs
a row at a time, and a stack that reads the pixel to its left runs pixel by pixel, without anyone having said so.

A network with a small reach to the right lets several rows be under way at once: a *wavefront*. With slope s a row
starts s pixels behind the row above it. Then a launch has several positions, and the weights are read from memory
that many times less often.

The kernels of a scan read each other. Within a tick they take turns, as often as their cells wait for each other; and
a product that is needed only for the next row waits for all of that row.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from genfast.compiler.footprint import gather, latest
from genfast.compiler.fuse import fuse
from genfast.compiler.pack import pack
from genfast.compiler.parts import find_parts
from genfast.compiler.plan import Kernel, Plan, kernel_reads, makers
from genfast.compiler.program import Linear, Program, present, walk
from genfast.compiler.share import share_products
from genfast.compiler.slots import find_lives

PROLOGUE = -1
NOBODY = np.iinfo(np.int64).max


def draw_ticks(image_shape: tuple[int, int, int], slope: int) -> np.ndarray:
    """The tick at which each sub-pixel is drawn.  # int64 [C, H * W]"""
    channels, height, width = image_shape
    start = (np.arange(width)[None, :] + slope * np.arange(height)[:, None]).reshape(-1)
    return start[None, :] * channels + np.arange(channels)[:, None]


def feasible(program: Program, slope: int) -> bool:
    """Whether every sub-pixel's parameters are ready before its tick."""
    ticks = draw_ticks(program.image_shape, slope)
    last = latest(program, list(ticks))
    return all((gather(last[d.params.value], d.params.at) < ticks[c]).all() for c, d in enumerate(program.draws))


def smallest_slope(program: Program) -> int:
    """The steepest wavefront: slopes are feasible from here on, up to raster order, which has the slope W."""
    low, high = 1, program.image_shape[2]
    while low < high:
        middle = (low + high) // 2
        if feasible(program, middle):
            high = middle
        else:
            low = middle + 1
    return high


def schedule(program: Program, slope: int | None = None) -> Plan:
    """The plan with the given slope, or with the one that reads weights from memory least often."""
    program = share_products(program)
    width = program.image_shape[2]
    steepest = smallest_slope(program)
    raster = latest(program, list(draw_ticks(program.image_shape, width)))
    wave = latest(program, list(draw_ticks(program.image_shape, steepest)))
    kernels = fuse(program, [raster, wave])
    if slope is not None:
        return make_plan(program, kernels, slope)
    candidates = sorted({steepest, (steepest + width) // 2, width})
    return make_plan(program, kernels, min(candidates, key=lambda s: weight_traffic(program, kernels, s)))


def weight_traffic(program: Program, kernels: Sequence[Kernel], slope: int) -> int:
    """Weights that a whole image reads, every launch once over all of its kernel's."""
    total = 0
    for kernel, runs in zip(kernels, run_ticks(program, kernels, slope), strict=True):
        if isinstance(kernel.head, Linear):
            weights = sum(tap.weight.size for tap in kernel.head.taps)
            used = runs.tick >= PROLOGUE
            total += len(np.unique(np.stack([runs.tick, runs.turn], 1)[used], axis=0)) * weights
    return total


@dataclass(frozen=True, eq=False)
class Runs:
    """When a kernel computes each of its positions.

    tick: -2 for never. turn: within the tick, how many times before the kernels of its scan have had theirs.
    """

    tick: np.ndarray  # int64 [positions]
    turn: np.ndarray


def units(kernels: Sequence[Kernel]) -> list[range]:
    """Kernels that take turns: all of a scan, or one by itself."""
    out: list[range] = []
    for k, kernel in enumerate(kernels):
        if out and kernel.scan is not None and kernels[k - 1].scan is kernel.scan:
            out[-1] = range(out[-1].start, k + 1)
        else:
            out.append(range(k, k + 1))
    return out


def run_ticks(program: Program, kernels: Sequence[Kernel], slope: int) -> list[Runs]:
    draw = draw_ticks(program.image_shape, slope)
    ready = ready_ticks(program, kernels, draw)
    if program.scans:
        late = deadlines(program, kernels, draw)
        ready = ready_ticks(program, kernels, draw, whole_rows(program, kernels, ready, late))
    maker = makers(kernels)
    wanted = wanted_by_draws(program, kernels, draw)
    ticks: list[np.ndarray] = [np.zeros(0)] * len(kernels)
    turn = [np.zeros(len(r), np.int64) for r in ready]
    for unit in reversed(units(kernels)):
        inner = inner_reads(kernels, unit, maker)
        for k, tick in zip(unit, Together(kernels, unit, inner, ready, wanted).ticks(), strict=True):
            ticks[k] = np.where(tick > PROLOGUE, ready[k], tick) if kernels[k].early else tick
        for k in unit:
            used = ticks[k] >= PROLOGUE
            for read in kernel_reads(kernels[k]):
                if read.value in maker and maker[read.value] not in unit:
                    earliest(wanted[maker[read.value]], read.at[used], ticks[k][used])
        if kernels[unit.start].scan is not None:
            take_turns(kernels, unit, inner, ticks, turn)
            for k in unit:
                turn[k] = with_its_row(program, kernels[k], ticks[k], turn[k])
            take_turns(kernels, unit, inner, ticks, turn)
    return [Runs(*both) for both in zip(ticks, turn, strict=True)]


def earliest(times: np.ndarray, at: np.ndarray, time: np.ndarray) -> None:
    """times[at] becomes ``time`` where that is earlier; not for at = -1.  # at: [Q] or [Q, J]; time: [Q]"""
    reader, place = present(at)
    np.minimum.at(times, place, time[reader])


def ready_ticks(
    program: Program, kernels: Sequence[Kernel], draw: np.ndarray, not_before: Sequence[np.ndarray] | None = None
) -> list[np.ndarray]:
    """The first tick at which each kernel can compute each position: that of the last draw it reads.

    not_before: for each kernel ticks before which it shall not.
    """
    time = {v: draw[c] for c, v in enumerate(program.inputs)}
    time |= {v: np.full(program.values[v].positions, PROLOGUE) for v in program.conditions}
    out = []
    for k, kernel in enumerate(kernels):
        n = positions_of(program, kernel)
        out.append(np.full(n, PROLOGUE, np.int64) if not_before is None else not_before[k].copy())
        time |= {store.value: out[k] for store in kernel.stores}
    for k, positions in walk([kernel.scan for kernel in kernels]):
        for read in kernel_reads(kernels[k]):
            out[k][positions] = np.maximum(out[k][positions], gather(time[read.value], read.at[positions]))
    return out


def wanted_by_draws(program: Program, kernels: Sequence[Kernel], draw: np.ndarray) -> list[np.ndarray]:
    """The tick before the first draw that takes each position of each kernel; NOBODY where none does."""
    wanted = [np.full(positions_of(program, kernel), NOBODY) for kernel in kernels]
    maker = makers(kernels)
    for c, d in enumerate(program.draws):
        if d.params.value in maker:
            np.minimum.at(wanted[maker[d.params.value]], d.params.at, draw[c] - 1)
    return wanted


def deadlines(program: Program, kernels: Sequence[Kernel], draw: np.ndarray) -> list[np.ndarray]:
    """The last tick at which each position of each kernel can be computed without a draw waiting for it."""
    late = wanted_by_draws(program, kernels, draw)
    maker = makers(kernels)
    for k, positions in reversed(list(walk([kernel.scan for kernel in kernels]))):
        for read in kernel_reads(kernels[k]):
            if read.value in maker:
                earliest(late[maker[read.value]], read.at[positions], late[k][positions])
    return late


def whole_rows(
    program: Program, kernels: Sequence[Kernel], ready: list[np.ndarray], late: list[np.ndarray]
) -> list[np.ndarray]:
    """Lets the products of a scan wait until they can be computed for a whole row of the image, where that is in time.

    Returns ticks before which a kernel shall not compute its positions.
    """
    height = program.image_shape[1]
    out = []
    for k, kernel in enumerate(kernels):
        wait = np.full(len(ready[k]), PROLOGUE, np.int64)
        if kernel.scan is not None and isinstance(kernel.head, Linear) and len(wait) % height == 0:  # wider maps, too
            alive = late[k] < NOBODY
            last = np.where(alive, ready[k], PROLOGUE).reshape(height, -1).max(1, keepdims=True)
            in_time = (last <= late[k].reshape(height, -1)).all(1, keepdims=True)
            wait = np.where(in_time, last, PROLOGUE).repeat(len(wait) // height)
        out.append(wait)
    return out


def positions_of(program: Program, kernel: Kernel) -> int:
    return program.values[kernel.stores[0].value].positions


def inner_reads(
    kernels: Sequence[Kernel], unit: range, maker: dict[int, int]
) -> dict[int, list[tuple[int, np.ndarray]]]:
    """For each kernel of a unit what it reads of the unit: (kernel that makes it, at)."""
    return {
        k: [(maker[r.value], r.at) for r in kernel_reads(kernels[k]) if maker.get(r.value, -1) in unit] for k in unit
    }


class Together:
    """When to compute each cell of some kernels: at the first tick at which one is wanted, with all that are ready.

    So every kernel of which a cell is wanted computes all that it can, and wants what these read of the kernels that
    take turns with it. Cells that wait for no draw run in the prologue. Cells that nobody wants never run (-2).
    """

    def __init__(
        self, kernels: Sequence[Kernel], unit: range, inner: dict[int, list[tuple[int, np.ndarray]]],
        ready: list[np.ndarray], wanted: list[np.ndarray],
    ) -> None:  # fmt: skip
        self.unit, self.inner, self.ready, self.wanted = unit, inner, ready, wanted
        alive = {k: wanted[k] < NOBODY for k in unit}
        scan = kernels[unit.start].scan
        if scan is not None:
            for i, wave in reversed(list(walk([scan] * len(unit)))):
                for maker, at in inner[unit[i]]:
                    read = at[wave][alive[unit[i]][wave]]
                    alive[maker][read[read >= 0]] = True
        self.tick = {k: np.where(alive[k] & (ready[k] <= PROLOGUE), PROLOGUE, PROLOGUE - 1) for k in unit}
        self.queue = {}  # positions that wait for draws, by when they are ready; and these ticks
        for k in unit:
            waiting = np.flatnonzero(alive[k] & (ready[k] > PROLOGUE))
            waiting = waiting[np.argsort(ready[k][waiting], kind="stable")]
            self.queue[k] = waiting, ready[k][waiting]
        self.next = dict.fromkeys(unit, 0)

    def ticks(self) -> list[np.ndarray]:
        wishes = []
        for k in self.unit:
            outside = self.queue[k][0][self.wanted[k][self.queue[k][0]] < NOBODY]
            wishes += [(tick, k, q) for tick, q in zip(self.wanted[k][outside].tolist(), outside.tolist(), strict=True)]
        for tick, k, q in sorted(wishes):
            if self.tick[k][q] < PROLOGUE:
                self._compute(k, tick)
        return [self.tick[k] for k in self.unit]

    def _compute(self, kernel: int, tick: int) -> None:
        wanted = [kernel]
        while wanted:
            k = wanted.pop()
            positions, ready = self.queue[k]
            begin, end = self.next[k], int(np.searchsorted(ready, tick, side="right"))
            if begin >= end:
                continue
            self.next[k] = end
            self.tick[k][positions[begin:end]] = tick
            for maker, at in self.inner[k]:
                read = at[positions[begin:end]]
                if (self.tick[maker][read[read >= 0]] < PROLOGUE).any():
                    wanted.append(maker)


def take_turns(
    kernels: Sequence[Kernel], unit: range, inner: dict[int, list[tuple[int, np.ndarray]]], ticks: list[np.ndarray],
    turn: list[np.ndarray],
) -> None:  # fmt: skip
    """Which turn of its tick each cell of a scan belongs to: one after those that it reads of a kernel that comes no
    earlier. Cells of one turn do not read each other, but for those of kernels that come earlier."""
    for i, wave in walk([kernels[k].scan for k in unit]):
        k = unit[i]
        for maker, at in inner[k]:
            read = at[wave]
            same = (read >= 0) & (ticks[maker][read] == ticks[k][wave])
            after = np.where(same, turn[maker][read] + (maker >= k), 0)
            turn[k][wave] = np.maximum(turn[k][wave], after)


def with_its_row(program: Program, kernel: Kernel, tick: np.ndarray, turn: np.ndarray) -> np.ndarray:
    """Turns before which a kernel shall not compute its cells: what a product computes of a row in one tick waits for
    the last of it. Anything else waits for nobody."""
    height = program.image_shape[1]
    if not isinstance(kernel.head, Linear) or kernel.body or len(turn) % height:
        return np.zeros_like(turn)
    ticks, turns = tick.reshape(height, -1), turn.reshape(height, -1)
    same = ticks[:, :, None] == ticks[:, None, :]
    return np.where(same, turns[:, None, :], 0).max(2).reshape(-1)


def make_plan(program: Program, kernels: tuple[Kernel, ...], slope: int) -> Plan:
    draw = draw_ticks(program.image_shape, slope)
    runs = run_ticks(program, kernels, slope)
    parts = find_parts(kernels, [r.tick for r in runs])
    orders: list[np.ndarray] = [np.zeros(0, np.int32)] * len(kernels)
    launches = []  # (tick, unit, turn, kernel, begin, end)
    for u, unit in enumerate(units(kernels)):
        for k in unit:
            tick, turn = runs[k].tick, runs[k].turn
            order = np.lexsort((parts[k], turn, tick))
            order = order[tick[order] >= PROLOGUE]
            orders[k] = order.astype(np.int32)
            parts[k] = parts[k][order].astype(np.int32)
            cuts = np.flatnonzero((np.diff(tick[order]) != 0) | (np.diff(turn[order]) != 0)) + 1
            if len(order):
                for begin, end in zip([0, *cuts], [*cuts, len(order)], strict=True):
                    q = order[begin]
                    launches.append((int(tick[q]), u, int(turn[q]), k, int(begin), int(end)))
    table = np.array(sorted(launches), np.int32).reshape(-1, 6)
    packed = pack(program, kernels, find_lives(program, kernels, [r.tick for r in runs], draw))
    slots, counts = zip(*(life.slots() for life in packed.lives), strict=True)
    return Plan(
        program, slope, int(draw.max()) + 1, packed.values, packed.kernels, packed.draws, tuple(orders), tuple(parts),
        table[:, 0].copy(), table[:, 3].copy(), table[:, 4].copy(), table[:, 5].copy(), slots, counts,
        draw.astype(np.int32),
    )  # fmt: skip
