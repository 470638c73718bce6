"""The schedule: each needed cell once, when it is first wanted, together with all others that are ready by then.

Draws want logits, logits want features, and so on back: every kernel is launched when one of its cells is wanted for
the first time, and then computes every cell that can be computed. So a vertical stack, which waits for whole rows, runs
a row at a time, and a stack that reads the pixel to its left runs pixel by pixel, without anyone having said so.

A network with a small reach to the right lets several rows be under way at once: a *wavefront*. With slope s a row
starts s pixels behind the row above it. Then a launch has several positions, and the weights are read from memory
that many times less often.
"""

import heapq
from collections.abc import Sequence

import numpy as np

from genfast.compiler.footprint import gather, latest, needed
from genfast.compiler.fuse import fuse
from genfast.compiler.plan import Kernel, Plan
from genfast.compiler.program import Linear, Program, Read, reads_of

PROLOGUE = -1


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
    width = program.image_shape[2]
    steepest = smallest_slope(program)
    raster = latest(program, list(draw_ticks(program.image_shape, width)))
    wave = latest(program, list(draw_ticks(program.image_shape, steepest)))
    kernels = fuse(program, [raster, wave])
    if slope is not None:
        return make_plan(program, kernels, slope)
    candidates = sorted({steepest, (steepest + width) // 2, width})
    return make_plan(program, kernels, min(candidates, key=lambda s: weight_traffic(program, kernels, s)))


def kernel_reads(kernel: Kernel) -> list[Read]:
    """Everything a kernel reads from memory."""
    reads = [] if kernel.head is None else list(reads_of(kernel.head))
    return reads + [a for i in kernel.body for a in i.args if isinstance(a, Read)]


def weight_traffic(program: Program, kernels: Sequence[Kernel], slope: int) -> int:
    """Weights that a whole image reads, every launch once over all of its kernel's."""
    total = 0
    for kernel, ticks in zip(kernels, run_ticks(program, kernels, slope), strict=True):
        if isinstance(kernel.head, Linear):
            weights = sum(tap.weight.size for tap in kernel.head.taps)
            total += len(np.unique(ticks[ticks >= PROLOGUE])) * weights
    return total


def run_ticks(program: Program, kernels: Sequence[Kernel], slope: int) -> list[np.ndarray]:
    """When each kernel computes each of its positions; -2 for never.  # int64 [positions] for each kernel"""
    draw = draw_ticks(program.image_shape, slope)
    ready = ready_ticks(program, kernels, draw)
    maker = {store.value: k for k, kernel in enumerate(kernels) for store in kernel.stores}
    never = np.iinfo(np.int64).max
    wanted = [np.full(len(r), never) for r in ready]
    for c, d in enumerate(program.draws):
        if d.params.value in maker:
            np.minimum.at(wanted[maker[d.params.value]], d.params.at, draw[c] - 1)
    runs: list[np.ndarray] = [np.zeros(0)] * len(kernels)
    for k in reversed(range(len(kernels))):
        runs[k] = together(ready[k], wanted[k])
        used = runs[k] > PROLOGUE - 1
        for read in kernel_reads(kernels[k]):
            if read.value in maker:
                at, tick = read.at[used], runs[k][used]
                np.minimum.at(wanted[maker[read.value]], at[at >= 0], tick[at >= 0])
    return runs


def ready_ticks(program: Program, kernels: Sequence[Kernel], draw: np.ndarray) -> list[np.ndarray]:
    """The first tick at which each kernel can compute each position: that of the last draw it reads."""
    time = {v: draw[c] for c, v in enumerate(program.inputs)}
    time |= {v: np.full(program.values[v].positions, PROLOGUE) for v in program.conditions}
    out = []
    for kernel in kernels:
        n = positions_of(program, kernel)
        ready = np.full(n, PROLOGUE, np.int64)
        for read in kernel_reads(kernel):
            np.maximum(ready, gather(time[read.value], read.at), out=ready)
        out.append(ready)
        for store in kernel.stores:
            time[store.value] = ready
    return out


def positions_of(program: Program, kernel: Kernel) -> int:
    return program.values[kernel.stores[0].value].positions


def together(ready: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """When to compute each cell: at the first tick at which one is wanted, with all that are ready; and so on.

    Cells that wait for no draw run in the prologue. Cells that nobody wants never run (-2).
    """
    run = np.full(len(ready), PROLOGUE - 1, np.int64)
    alive = wanted < np.iinfo(np.int64).max
    run[alive & (ready <= PROLOGUE)] = PROLOGUE
    by_ready = [int(q) for q in np.argsort(ready, kind="stable") if alive[q] and ready[q] > PROLOGUE]
    by_wanted = [int(q) for q in np.argsort(wanted, kind="stable") if alive[q] and ready[q] > PROLOGUE]
    ready_list, wanted_list = ready.tolist(), wanted.tolist()
    done = [False] * len(ready)
    i = 0
    for q in by_wanted:
        if done[q]:
            continue
        tick = wanted_list[q]
        while i < len(by_ready) and ready_list[by_ready[i]] <= tick:
            done[by_ready[i]] = True
            run[by_ready[i]] = tick
            i += 1
    return run


def make_plan(program: Program, kernels: tuple[Kernel, ...], slope: int) -> Plan:
    draw = draw_ticks(program.image_shape, slope)
    runs = run_ticks(program, kernels, slope)
    orders, launches = [], []
    for k, ticks in enumerate(runs):
        order = np.argsort(ticks, kind="stable")
        order = order[ticks[order] >= PROLOGUE]
        orders.append(order.astype(np.int32))
        cuts = np.flatnonzero(np.diff(ticks[order])) + 1
        if len(order):
            for begin, end in zip([0, *cuts], [*cuts, len(order)], strict=True):
                launches.append((int(ticks[order[begin]]), k, int(begin), int(end)))
    table = np.array(sorted(launches), np.int32).reshape(-1, 4)
    slots, counts = assign_slots(program, kernels, runs, draw)
    return Plan(
        program, slope, int(draw.max()) + 1, kernels, tuple(orders), table[:, 0].copy(), table[:, 1].copy(),
        table[:, 2].copy(), table[:, 3].copy(), tuple(slots), tuple(counts), draw.astype(np.int32),
    )  # fmt: skip


def assign_slots(
    program: Program, kernels: Sequence[Kernel], runs: list[np.ndarray], draw: np.ndarray
) -> tuple[list[np.ndarray], list[int]]:
    """A slot for each cell from when it is written to when it is last read.

    Half ticks tell the draws of a tick (2 t) from its launches (2 t + 1). A slot is free strictly after its last read.
    """
    born = [np.full(v.positions, -2, np.int64) for v in program.values]  # -2: never
    dies = [np.full(v.positions, -2, np.int64) for v in program.values]
    need = needed(program)
    for v in program.conditions:
        born[v][need[v]] = -2
    for c, v in enumerate(program.inputs):
        born[v] = 2 * draw[c]
    for kernel, ticks in zip(kernels, runs, strict=True):
        used = ticks >= PROLOGUE
        for store in kernel.stores:
            born[store.value] = np.where(used, 2 * ticks + 1, -2)
        for read in kernel_reads(kernel):
            at, tick = read.at[used], ticks[used]
            np.maximum.at(dies[read.value], at[at >= 0], 2 * tick[at >= 0] + 1)
    for c, d in enumerate(program.draws):
        np.maximum.at(dies[d.params.value], d.params.at, 2 * draw[c])
    slots, counts = [], []
    for v in range(len(program.values)):
        table, count = share(born[v], dies[v])
        slots.append(table)
        counts.append(count)
    return slots, counts


def share(born: np.ndarray, dies: np.ndarray) -> tuple[np.ndarray, int]:
    """Slots for intervals [born, dies]; -1 for what is never read."""
    table = np.full(len(born), -1, np.int32)
    busy: list[tuple[int, int]] = []
    free: list[int] = []
    count = 0
    for q in np.argsort(born, kind="stable").tolist():
        if dies[q] < -1:
            continue
        while busy and busy[0][0] < born[q]:
            heapq.heappush(free, heapq.heappop(busy)[1])
        slot = heapq.heappop(free) if free else count
        count = max(count, slot + 1)
        heapq.heappush(busy, (int(dies[q]), slot))
        table[q] = slot
    return table, count
