"""What a kernel of a plan computes, lane by lane: the form that kernels/cells takes.

A gate multiplies the two halves of one vector; a GPU program that holds some columns of a vector holds no others. So
each store is followed back through the body to the columns that it needs, and whatever is needed at several columns is
several registers. Only names and numbers here: no tables, no triton.
"""

import math
from dataclasses import dataclass, field
from typing import NamedTuple

from genfast.compiler.plan import Argument, Kernel, Slice, Store
from genfast.compiler.program import Attend, Constant, Linear, Read

MOST_PIECES = 4  # that a store is cut into, so that narrower ones can share its launch
MOST_SUMS = 4  # products side by side that a launch keeps in registers


class Scratch(NamedTuple):
    """In the place of a read: the head's result, which a launch before has stored for this one."""

    width: int


SCRATCH = Scratch(0)
Source = Read | Constant | Scratch


class Lane(NamedTuple):
    """An instruction: op "head" (column), "read" or "constant" (source, column), or an operation on registers.

    one: its column serves every lane.
    """

    op: str
    source: Source | None = None
    column: int = 0
    one: bool = False
    registers: tuple[int, ...] = ()


class LaneStore(NamedTuple):
    """Register -> channels column ... of a value; value None: of the scratch."""

    register: int
    value: int | None
    column: int


@dataclass
class Lanes:
    """One launch of a kernel: ``width`` lanes. has_head: it computes the kernel's head itself."""

    width: int
    has_head: bool
    body: list[Lane] = field(default_factory=list)
    stores: list[LaneStore] = field(default_factory=list)

    def heads(self) -> list[Lane]:
        return [lane for lane in self.body if lane.op == "head"]


def lanes_of(kernel: Kernel, head_width: int) -> list[Lanes]:
    """The launches that do what the kernel does, in order. head_width: of register 0, if there is a head.

    One where all stores can share lanes. A product is computed once: if it does not fit, the first launch stores it
    for the others. So is attention, whose kernel has no body.
    """
    if not isinstance(kernel.head, Attend):
        groups = grouped(kernel.stores)
        fused = [Follower(kernel, width, True).launch(stores) for width, stores in groups]
        if not isinstance(kernel.head, Linear) or (len(fused) == 1 and sums_fit(fused[0])):
            return fused
    follower = Follower(kernel, head_width, True)
    head = follower.launch([s for s in kernel.stores if s.register == 0])
    rest = grouped(tuple(s for s in kernel.stores if s.register != 0))
    if rest:
        head.stores.append(LaneStore(follower.register(0, 0), None, 0))
    return [head, *(Follower(kernel, width, False).launch(stores) for width, stores in rest)]


def sums_fit(lanes: Lanes) -> bool:
    heads = lanes.heads()
    return len(heads) <= MOST_SUMS and not any(head.one for head in heads)


def grouped(stores: tuple[Store, ...]) -> list[tuple[int, list[Store]]]:
    """Stores that share lanes, and how many lanes: all of them if that cuts none into too many pieces, or else those of
    the same width."""
    if not stores:
        return []
    widths = [s.width for s in stores]
    common = math.gcd(*widths)
    if max(widths) <= MOST_PIECES * common:
        return [(common, list(stores))]
    return [(width, [s for s in stores if s.width == width]) for width in dict.fromkeys(widths)]


class Follower:
    """Follows registers back through a kernel's body, for a launch of ``width`` lanes. computes: it has the head
    compute register 0; otherwise that is read from scratch."""

    def __init__(self, kernel: Kernel, width: int, computes: bool) -> None:
        self.kernel, self.width = kernel, width
        self.computes = computes and kernel.head is not None
        self.body: list[Lane] = []
        self.made: dict[tuple[int, int, bool], int] = {}  # (register, column, one) -> which of ``body`` it is

    def launch(self, stores: list[Store]) -> Lanes:
        made = [
            LaneStore(self.register(s.register, column), s.value, s.start + column)
            for s in stores
            for column in range(0, s.width, self.width)
        ]
        return Lanes(self.width, self.computes, self.body, made)

    def register(self, register: int, column: int, one: bool = False) -> int:
        key = (register, column, one)
        if key not in self.made:
            self.made[key] = self.make(register, column, one)
        return self.made[key]

    def add(self, lane: Lane) -> int:
        self.body.append(lane)
        return len(self.body) - 1

    def make(self, register: int, column: int, one: bool) -> int:
        head = self.kernel.head
        if head is not None and register == 0:
            if not self.computes:
                return self.add(Lane("read", SCRATCH, column, one))
            made = self.add(Lane("head", None, column, one))
            if isinstance(head, Linear) and head.bias.rows.any():
                made = self.add(Lane("add", registers=(made, self.argument(head.bias, column, one))))
            return made
        instruction = self.kernel.body[register - (head is not None)]
        return self.add(Lane(instruction.op, registers=tuple(self.argument(a, column, one) for a in instruction.args)))

    def argument(self, arg: Argument, column: int, one: bool) -> int:
        """What is one number wide serves every lane."""
        wide = arg.rows.shape[1] if isinstance(arg, Constant) else arg.width
        single = wide == 1 and self.width > 1
        column, one = (0 if single else column), one or single
        if isinstance(arg, Slice):
            return self.register(arg.register, arg.start + column, one)
        if isinstance(arg, Read):
            return self.add(Lane("read", arg, arg.start + column, one))
        return self.add(Lane("constant", arg, column, one))
