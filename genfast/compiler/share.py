"""Products shared out anew: what several steps of one layer read in common, they compute as one product.

The colours of a masked convolution are steps of their own, because the second may see the first one's pixel. But all of
them read the same neighbours, and three products of 43 columns cost more than one of 128: a product works on whole
vectors of columns (43 take as long as 48), and has its operands to find three times. So

    v1 = 4 taps of a           s = 4 taps of a, for the columns of v1 and v2
    v2 = 4 taps of a, b   ->   v1 is s[0:43]
                               v2 = s[43:86] + taps of b

The sums are the same, added up in another order.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from genfast.compiler.program import (
    Constant,
    Draw,
    Linear,
    Pointwise,
    Program,
    Read,
    Step,
    Tap,
    Value,
    scan_of,
    with_reads,
)

COLUMNS = 16  # a product takes as long as one of the next multiple of so many columns
COST_OF_A_SUM = 32  # multiply-adds in whose time a number is stored, read again and added

Key = tuple[int, int, int, bytes]


@dataclass(frozen=True, eq=False)
class Shared:
    """Steps of one layer, and which of their taps all have in common."""

    steps: tuple[Linear, ...]
    widths: tuple[int, ...]
    common: tuple[Key, ...]

    def rest(self, step: Linear) -> tuple[Tap, ...]:
        return tuple(tap for tap in step.taps if key(tap) not in self.common)

    def pays(self) -> bool:
        """Whether the columns that are saved cost more than the sums that are handed on."""
        depth = sum(width for _, _, width, _ in self.common)
        saved = sum(map(whole, self.widths)) - whole(sum(self.widths))
        handed_on = sum(w for step, w in zip(self.steps, self.widths, strict=True) if self.rest(step))
        return depth > 0 and saved * depth > COST_OF_A_SUM * handed_on


def share_products(program: Program) -> Program:
    """The program with the products that pay computed together: the same numbers but for rounding."""
    shared = {step.out: group for group in groups(program) if group.pays() for step in group.steps}
    values, steps = list(program.values), list[Step]()
    place: dict[int, tuple[int, int]] = {}  # of a step's value: the shared product, and its first column there
    identical: set[int] = set()  # values that are nothing but these columns
    for step in program.steps:
        group = shared.get(step.out)
        if group is None or not isinstance(step, Linear):
            steps.append(step)
            continue
        if step is group.steps[0]:
            values.append(Value(sum(group.widths), values[step.out].positions, values[step.out].layer))
            steps.append(product(len(values) - 1, group))
            starts = np.cumsum((0, *group.widths)).tolist()
            place |= {s.out: (len(values) - 1, start) for s, start in zip(group.steps, starts, strict=False)}
        rest = group.rest(step)
        if not rest:
            identical.add(step.out)
            continue
        own, width = len(values), values[step.out].channels
        everywhere = np.arange(values[step.out].positions, dtype=np.int32)
        values.append(values[step.out])
        steps.append(replace(step, out=own, taps=rest))
        sums = Read(place[step.out][0], place[step.out][1], width, everywhere)
        steps.append(Pointwise(step.out, "add", (Read(own, 0, width, everywhere), sums)))

    def moved(read: Read) -> Read:
        if read.value not in identical:
            return read
        value, start = place[read.value]
        return replace(read, value=value, start=start + read.start)

    return replace(
        program,
        values=tuple(values),
        steps=tuple(with_reads(step, moved) for step in steps),
        draws=tuple(Draw(moved(draw.params)) for draw in program.draws),
    )


def key(tap: Tap) -> Key:
    return tap.read.value, tap.read.start, tap.read.width, tap.read.at.tobytes()


def whole(columns: int) -> int:
    return -(-columns // COLUMNS) * COLUMNS


def groups(program: Program) -> Iterator[Shared]:
    """The products of each layer that computes several, outside of recurrences."""
    scans = scan_of(program)
    layers: dict[tuple[str, int], list[Linear]] = {}
    for step in program.steps:
        if isinstance(step, Linear) and step.out not in scans:
            value = program.values[step.out]
            layers.setdefault((value.layer, value.positions), []).append(step)
    for steps in layers.values():
        if len(steps) > 1:
            keys = [[key(tap) for tap in step.taps] for step in steps]
            common = tuple(k for k in dict.fromkeys(keys[0]) if all(k in other for other in keys[1:]))
            yield Shared(tuple(steps), tuple(program.values[s.out].channels for s in steps), common)


def product(out: int, group: Shared) -> Linear:
    """The shared product. It has the biases of those steps that read nothing else."""
    reads = {key(tap): tap.read for tap in group.steps[0].taps}
    joined = [Tap(reads[k], np.concatenate([weight(step, k) for step in group.steps], 1)) for k in group.common]
    biases = [bias(step, w, not group.rest(step)) for step, w in zip(group.steps, group.widths, strict=True)]
    return Linear(out, tuple(joined), side_by_side(biases))


def weight(step: Linear, which: Key) -> np.ndarray:
    """The weights of a tap, added up if the step has it several times (where padding repeats a pixel)."""
    return np.asarray(sum(tap.weight for tap in step.taps if key(tap) == which))


def bias(step: Linear, width: int, wanted: bool) -> Constant:
    if not wanted:
        return Constant(np.zeros((1, width)), np.zeros_like(step.bias.which))
    return Constant(np.broadcast_to(step.bias.rows, (len(step.bias.rows), width)), step.bias.which)


def side_by_side(constants: Sequence[Constant]) -> Constant:
    which, inverse = np.unique(np.stack([c.which for c in constants], 1), axis=0, return_inverse=True)
    rows = np.concatenate([c.rows[which[:, i]] for i, c in enumerate(constants)], 1)
    return Constant(rows, inverse.reshape(-1).astype(np.int32))
