"""Values kept side by side: what products read together at the same places lies in one row of one cache.

The colours of a feature map are values of their own, made at different ticks. A product that reads 43 channels of each
has three short operands to find and to go through where one of 128 would do; that takes an eighth longer. So values
that are read together become ranges of channels of one, and every kernel writes its part of a row.

A row is kept from when its first part is written to when its last part is read. Values that live at very different
times stay apart: a larger cache costs more than short operands.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from genfast.compiler.plan import Instruction, Kernel, makers
from genfast.compiler.program import Draw, Linear, Program, Read, Tap, Value, with_reads
from genfast.compiler.slots import NEVER, Lives

GROWTH = 1.25  # the most that packing may make of the memory


@dataclass(frozen=True, eq=False)
class Packed:
    """values: the first of a group has the channels of all; nobody reads or writes the others any more."""

    values: tuple[Value, ...]
    kernels: tuple[Kernel, ...]
    draws: tuple[Draw, ...]
    lives: list[Lives]


def pack(program: Program, kernels: Sequence[Kernel], lives: Sequence[Lives]) -> Packed:
    """The same kernels, reading and writing packed values."""
    values, lives = list(program.values), list(lives)
    place = {v: (v, 0) for v in range(len(values))}
    for group in groups(program, kernels, lives):
        first, life = group[0], lives[group[0]]
        for v in group[1:]:
            place[v] = first, values[first].channels
            values[first] = replace(values[first], channels=values[first].channels + values[v].channels)
            life = life.joined(lives[v])
            never = np.full_like(lives[v].born, NEVER)
            lives[v] = Lives(never, never)
        lives[first] = life

    def moved(read: Read) -> Read:
        value, start = place[read.value]
        return replace(read, value=value, start=start + read.start)

    def moved_args(instruction: Instruction) -> Instruction:
        return replace(instruction, args=tuple(moved(a) if isinstance(a, Read) else a for a in instruction.args))

    packed = []
    for kernel in kernels:
        head: Any = None if kernel.head is None else with_reads(kernel.head, moved)
        stores = tuple(replace(s, value=place[s.value][0], start=place[s.value][1] + s.start) for s in kernel.stores)
        if isinstance(head, Linear):
            head = replace(head, taps=merged(head.taps))
        packed.append(replace(kernel, head=head, body=tuple(map(moved_args, kernel.body)), stores=stores))
    draws = tuple(Draw(moved(d.params)) for d in program.draws)
    return Packed(tuple(values), tuple(packed), draws, lives)


def groups(program: Program, kernels: Sequence[Kernel], lives: Sequence[Lives]) -> list[list[int]]:
    """Values that some product reads at the same places, as far as they can be kept together."""
    made = makers(kernels)
    group = {v: [v] for v in made}
    life = {v: lives[v] for v in made}  # of the group that begins with v
    for kernel in kernels:
        together: dict[bytes, list[int]] = {}
        for tap in kernel.head.taps if isinstance(kernel.head, Linear) else ():
            if tap.read.value in made:
                together.setdefault(tap.read.at.tobytes(), []).append(tap.read.value)
        for first, *others in together.values():
            for other in others:
                a, b = sorted((group[first], group[other]))
                if a is b or program.values[a[0]].positions != program.values[b[0]].positions:
                    continue
                joined = life[a[0]].joined(life[b[0]])
                width_a, width_b = (sum(program.values[v].channels for v in g) for g in (a, b))
                apart = life[a[0]].most() * width_a + life[b[0]].most() * width_b
                if joined.most() * (width_a + width_b) <= GROWTH * apart:
                    a += b
                    life[a[0]] = joined
                    group |= dict.fromkeys(b, a)
    return [sorted(g) for v, g in group.items() if len(g) > 1 and v == g[0]]


def merged(taps: Sequence[Tap]) -> tuple[Tap, ...]:
    """Taps that read neighbouring channels at the same places as one."""
    sources: dict[tuple[int, bytes], list[Tap]] = {}
    for tap in taps:
        sources.setdefault((tap.read.value, tap.read.at.tobytes()), []).append(tap)
    out = []
    for source in sources.values():
        last, *rest = sorted(source, key=lambda tap: tap.read.start)
        for tap in rest:
            read = last.read
            if read.start + read.width == tap.read.start:
                read = replace(read, width=read.width + tap.read.width)
                last = Tap(read, np.concatenate([last.weight, tap.weight]))
            else:
                out.append(last)
                last = tap
        out.append(last)
    return tuple(out)
