"""The plan: which kernel computes which positions when. Made by schedule.py, carried out by the engines.

Time goes in *ticks*. At tick t an engine (1) draws the sub-pixels whose tick is t, then (2) runs the launches of tick t
in order. Launches of tick -1 come before the first draw: they read conditions and constants only.
With ``slope`` s, channel c of pixel (y, x) is drawn at tick (x + s * y) * C + c: slope W is raster order, and a smaller
one is a wavefront, in which several rows are under way at once.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from genfast.compiler.program import (
    Attend,
    Constant,
    Copy,
    Draw,
    Linear,
    Lookup,
    Program,
    Read,
    Reduce,
    Scan,
    Value,
    reads_of,
)


@dataclass(frozen=True, eq=False)
class Slice:
    """Numbers start .. start + width - 1 of a register, for each position. (Width 1 serves every lane.)"""

    register: int
    start: int
    width: int


Argument = Slice | Read | Constant


@dataclass(frozen=True, eq=False)
class Instruction:
    """The next register = op(args), number by number; ``width`` numbers a position. op: see program.OPS."""

    op: str
    args: tuple[Argument, ...]
    width: int


@dataclass(frozen=True, eq=False)
class Store:
    """Writes a whole register, ``width`` numbers, to channels start .. start + width - 1 of a value."""

    register: int
    value: int
    start: int
    width: int


@dataclass(frozen=True, eq=False)
class Kernel:
    """Steps that run together, position by position, so that what lies between them is never stored.

    With a head, register 0 is its result (head.out says which value that is; it is stored only if ``stores`` says so);
    the instructions make the next registers, in order. A position q of the kernel is position q of every value it
    stores, and indexes every table in it. scan: the one whose steps are in it; then it may read earlier positions of
    what it stores itself. early: it does nothing but make numbers of levels, and runs as soon as they are drawn.
    """

    name: str
    head: Linear | Lookup | Reduce | Copy | Attend | None
    body: tuple[Instruction, ...]
    stores: tuple[Store, ...]
    scan: Scan | None = None
    early: bool = False


def kernel_reads(kernel: Kernel) -> list[Read]:
    """Everything a kernel reads from memory."""
    reads = [] if kernel.head is None else list(reads_of(kernel.head))
    return reads + [a for i in kernel.body for a in i.args if isinstance(a, Read)]


def makers(kernels: Sequence[Kernel]) -> dict[int, int]:
    """The kernel that stores each value that one stores."""
    return {store.value: k for k, kernel in enumerate(kernels) for store in kernel.stores}


@dataclass(frozen=True, eq=False)
class Plan:
    """A program, scheduled.

    values: the program's, but those that are read together have become one, the first of them, with the channels of all
    (pack.py); nothing reads or writes the others. Everything below names these.
    kernels: in an order in which they can run within a tick; those of a scan, which read each other, stand together.
    launch_tick, launch_kernel, launch_begin, launch_end: int32 [L], in the order in which they run: launch i computes
    positions order[k][begin:end] of kernel k. Sorted by tick, then kernel; but the kernels of a scan take turns in a
    tick as often as their cells wait for each other.
    part[k]: int32, for each entry of order[k] the part of its tick that it belongs to (parts.py): in one tick, cells of
    different parts do not read each other. A launch has its parts in their order.
    slots[v]: int32 [positions of v], the slot in value v's cache that holds a position (-1: never needed). Slots are
    used again as soon as nothing will read them. slot_count[v]: how many there are.
    draw_tick: int32 [C, H * W].
    """

    program: Program
    slope: int
    ticks: int
    values: tuple[Value, ...]
    kernels: tuple[Kernel, ...]
    draws: tuple[Draw, ...]
    order: tuple[np.ndarray, ...]
    part: tuple[np.ndarray, ...]
    launch_tick: np.ndarray
    launch_kernel: np.ndarray
    launch_begin: np.ndarray
    launch_end: np.ndarray
    slots: tuple[np.ndarray, ...]
    slot_count: tuple[int, ...]
    draw_tick: np.ndarray
