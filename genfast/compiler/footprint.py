"""Footprints: what every cell reads. Causality is proved or refuted here, from the zeros of the effective weights.

Sub-pixels are numbered in the order of generation: channel c of pixel p has the number p * C + c. The *last* sub-pixel
that a cell reads decides when it can be computed, and whether an output may read it.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from genfast.compiler.builder import Opaque
from genfast.compiler.program import Lookup, Pointwise, Program, Read, Step, in_order, reads_of

NEVER = np.int64(-1)


def reads(step: Step | Opaque) -> Iterator[Read]:
    return iter(step.reads) if isinstance(step, Opaque) else reads_of(step)


def latest(program: Program, times: Sequence[np.ndarray]) -> list[np.ndarray]:
    """The latest of the inputs' times that each cell reads, itself included; -1 for none.  # int64 [positions] a value

    times[c]: int64 [H * W], a time for each sub-pixel of channel c.
    """
    last = [np.full(v.positions, NEVER) for v in program.values]
    for value, time in zip(program.inputs, times, strict=True):
        last[value][:] = time
    for step, positions in in_order(program):
        out = last[step.out]
        for read in reads(step):
            if isinstance(step, Opaque):
                out[:] = max(out.max(initial=NEVER), gather(last[read.value], read.at).max(initial=NEVER))
            else:
                out[positions] = np.maximum(out[positions], gather(last[read.value], read.at[positions]))
    return last


def gather(array: np.ndarray, at: np.ndarray) -> np.ndarray:
    """array[at], and -1 where at is -1; of several reads the latest.  # at: [Q] or [Q, J] -> [Q]"""
    found = np.where(at >= 0, array[at], NEVER)
    return found if found.ndim == 1 else found.max(1, initial=NEVER)


def generation_order(program: Program) -> list[np.ndarray]:
    """The number of every sub-pixel in the order of generation."""
    channels, height, width = program.image_shape
    return [np.arange(height * width, dtype=np.int64) * channels + c for c in range(channels)]


def needed(program: Program, start: list[np.ndarray] | None = None) -> list[np.ndarray]:
    """Which cells the outputs need, or those in ``start`` (written in place).  # bool [positions] for each value"""
    if start is not None:
        need = start
    else:
        need = [np.zeros(v.positions, bool) for v in program.values]
        for draw in program.draws:
            need[draw.params.value][draw.params.at[draw.params.at >= 0]] = True
    for step, positions in reversed(list(in_order(program))):
        wanted = need[step.out][positions]
        if not wanted.any():
            continue
        for read in reads(step):
            at = read.at if isinstance(step, Opaque) else read.at[positions][wanted]
            need[read.value][at[at >= 0]] = True
    return need


@dataclass(frozen=True)
class Link:
    """One step of an explanation: the layer, what it does, and where on its feature map.

    only: it reads nothing else than the link before.
    """

    layer: str
    operation: str
    value: int
    position: int
    only: bool = False


def chain(program: Program, last: list[np.ndarray], value: int, position: int) -> list[Link]:
    """From a cell back to the last sub-pixel it reads, one link a step; the input comes first."""
    makers = {step.out: step for step in program.steps}
    links: list[Link] = []
    while value in makers:
        step = makers[value]
        only = isinstance(step, Pointwise | Lookup) and len(list(reads_of(step))) == 1
        links.append(Link(program.values[value].layer, describe(step), value, position, only))
        target = last[value][position]
        for read in reads(step):
            candidates = read.at if isinstance(step, Opaque) else read.at[position : position + 1].reshape(-1)
            for at in candidates[candidates >= 0]:
                if last[read.value][at] == target:
                    value, position = read.value, int(at)
                    break
            else:
                continue
            break
        else:
            break
    return links[::-1]


def describe(step: Step | Opaque) -> str:
    """What a step does, in a word or two."""
    name = type(step).__name__.lower()
    return getattr(step, "op", getattr(step, "kind", getattr(step, "reason", name)))
