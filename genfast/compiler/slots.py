"""Slots: where in a value's cache each position is held, from when it is written to when it is last read.

Time goes in half ticks, which tell the draws of a tick t (2 t) from its launches (2 t + 1). A slot is free strictly
after its last read.
"""

import heapq
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from genfast.compiler.footprint import needed
from genfast.compiler.plan import Kernel, kernel_reads
from genfast.compiler.program import Program, present

NEVER = -2


@dataclass(frozen=True, eq=False)
class Lives:
    """For each position of a value when it is written and when it is last read; NEVER where that does not happen."""

    born: np.ndarray  # int64 [positions]
    dies: np.ndarray

    def most(self) -> int:
        """How many positions are kept at a time, at most: as many slots there are."""
        kept = self.dies > NEVER
        times = np.concatenate([self.born[kept], self.dies[kept] + 1])
        change = np.repeat([1, -1], int(kept.sum()))[np.argsort(times, kind="stable")]
        _, last = np.unique(np.sort(times)[::-1], return_index=True)
        return int(np.cumsum(change)[len(times) - 1 - last].max(initial=0))

    def joined(self, other: "Lives") -> "Lives":
        """Of what is kept as long as either is."""
        late = np.iinfo(np.int64).max
        first = np.minimum(*(np.where(x.dies > NEVER, x.born, late) for x in (self, other)))
        dies = np.maximum(self.dies, other.dies)
        return Lives(np.where(dies > NEVER, first, NEVER), dies)

    def slots(self) -> tuple[np.ndarray, int]:
        """A slot for each position, -1 for what is never read, and how many there are."""
        table = np.full(len(self.born), -1, np.int32)
        busy: list[tuple[int, int]] = []
        free: list[int] = []
        count = 0
        for q in np.argsort(self.born, kind="stable").tolist():
            if self.dies[q] == NEVER:
                continue
            while busy and busy[0][0] < self.born[q]:
                heapq.heappush(free, heapq.heappop(busy)[1])
            slot = heapq.heappop(free) if free else count
            count = max(count, slot + 1)
            heapq.heappush(busy, (int(self.dies[q]), slot))
            table[q] = slot
        return table, count


def find_lives(
    program: Program, kernels: Sequence[Kernel], ticks: Sequence[np.ndarray], draw: np.ndarray
) -> list[Lives]:
    """The lives of every value. ticks: when each kernel computes each position, below -1 for never."""
    born = [np.full(v.positions, NEVER, np.int64) for v in program.values]
    dies = [np.full(v.positions, NEVER, np.int64) for v in program.values]
    need = needed(program)
    for v in program.conditions:
        born[v][need[v]] = NEVER  # before everything
    for c, v in enumerate(program.inputs):
        born[v] = 2 * draw[c]
    for kernel, tick in zip(kernels, ticks, strict=True):
        used = tick >= -1
        for store in kernel.stores:
            born[store.value] = np.where(used, 2 * tick + 1, NEVER)
        for read in kernel_reads(kernel):
            reader, at = present(read.at[used])
            np.maximum.at(dies[read.value], at, 2 * tick[used][reader] + 1)
    for c, d in enumerate(program.draws):
        np.maximum.at(dies[d.params.value], d.params.at, 2 * draw[c])
    return [Lives(*life) for life in zip(born, dies, strict=True)]
