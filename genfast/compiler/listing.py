"""Listings: a Program and a Plan as text that a person can read.

    v8 = linear 9 taps of v6[0:16] (-1..1, -1..1) + bias    16 x (5, 4)    layer blocks.0

A value's grid is the image's, (H, W), where it has as many positions, or else a number of positions. A read says which
channels, and how far away in rows and columns; "at 3 of 20" where it is at few places, "moved" where no shift fits.
"""

import math

import numpy as np

from genfast.compiler.cost import cost
from genfast.compiler.plan import Kernel, Plan, Store
from genfast.compiler.program import (
    Attend,
    Constant,
    Copy,
    Linear,
    Lookup,
    Pointwise,
    Program,
    Read,
    Reduce,
    Step,
    present,
    scan_of,
)


def list_program(program: Program) -> str:
    """One line for each value, in the order in which they are computed, then the draws."""
    channels, height, width = program.image_shape
    lines = [f"program: {program.likelihood}, {program.levels} levels, image {channels} x {height} x {width}"]
    for c, value in enumerate(program.inputs):
        lines.append(line(program, value, f"levels of channel {c}"))
    for i, value in enumerate(program.conditions):
        lines.append(line(program, value, f"condition {i}"))
    scans, before = scan_of(program), None
    for step in program.steps:
        scan = scans.get(step.out)
        if scan is not None and scan is not before:
            lines.append(f"scan of v{scan.values[0]} to v{scan.values[-1]} in {len(scan.waves)} generations:")
        before = scan
        lines.append(line(program, step.out, describe(program, step)))
    for c, draw in enumerate(program.draws):
        lines.append(f"draw channel {c} from {operand(program, draw.params)}")
    return "\n".join([*lines, *(f"note: {note}" for note in program.notes)])


def line(program: Program, value: int, text: str) -> str:
    v = program.values[value]
    _, height, width = program.image_shape
    grid = f"({height}, {width})" if v.positions == height * width else f"{v.positions}"
    return f"v{value} = {text}".ljust(72) + f" {v.channels} x {grid}".ljust(16) + v.layer


def describe(program: Program, step: Step) -> str:
    match step:
        case Linear():
            return f"linear {taps(program, step)}{bias(step.bias)}"
        case Pointwise():
            return f"{step.op} {', '.join(operand(program, a) for a in step.args)}"
        case Lookup():
            return f"lookup {operand(program, step.index)} in {len(step.table)} rows"
        case Reduce():
            return f"{step.kind} over {', '.join(operand(program, r) for r in step.reads)}"
        case Copy():
            pieces = zip(step.starts, step.pieces, strict=True)
            return "copy " + ", ".join(f"{start}: {operand(program, piece)}" for start, piece in pieces)
        case Attend():
            return f"attend {operand(program, step.query)} to {attended(program, step)}"


def taps(program: Program, step: Linear) -> str:
    """The taps, those of one operand together: "9 taps of v6 (-1..1, -1..1)"."""
    sources: dict[tuple[int, int, int], list[Read]] = {}
    for tap in step.taps:
        sources.setdefault((tap.read.value, tap.read.start, tap.read.width), []).append(tap.read)
    parts = []
    for reads in sources.values():
        shifts = [shift(program, r) for r in reads]
        known = [s for s in shifts if s is not None]
        if len(known) < len(shifts):
            reach = " moved"
        elif set(known) == {(0, 0)}:
            reach = ""
        else:
            reach = f" ({span([s[0] for s in known])}, {span([s[1] for s in known])})"
        count = f"{len(reads)} taps" if len(reads) > 1 else "1 tap"
        parts.append(f"{count} of {lanes(program, reads[0])}{reach}")
    return " + ".join(parts) or "0"


def attended(program: Program, step: Attend) -> str:
    """Keys and values, how many pairs there are, and how far ahead a query sees: "v3, v4, 28 pairs before"."""
    reader, at = present(step.key.at)
    ahead = "moved" if len(step.key.at) != program.values[step.key.value].positions else "before"
    if ahead == "before" and (at >= reader).any():
        ahead = "up to its own" if (at <= reader).all() else "and later ones"
    heads = "" if step.heads == 1 else f", {step.heads} heads"
    biased = "" if step.bias is None else " + bias"
    return f"{lanes(program, step.key)}, {lanes(program, step.value)}: {len(at)} pairs {ahead}{heads}{biased}"


def span(numbers: list[int]) -> str:
    low, high = min(numbers), max(numbers)
    return str(low) if low == high else f"{low}..{high}"


def bias(constant: Constant) -> str:
    if not constant.rows.any():
        return ""
    return " + bias" if len(constant.rows) == 1 else f" + {len(constant.rows)} different biases"


def operand(program: Program, x: Read | Constant) -> str:
    """A read with its channels and its shift, or a constant."""
    if isinstance(x, Constant):
        return f"{x.rows.flat[0]:g}" if x.rows.size == 1 else f"{len(x.rows)} x {x.rows.shape[1]} constants"
    moved = shift(program, x)
    where = "" if moved == (0, 0) else " moved" if moved is None else f" ({moved[0]}, {moved[1]})"
    there = int((x.at >= 0).sum())
    return lanes(program, x) + where + ("" if there == len(x.at) or where else f" at {there} of {len(x.at)}")


def lanes(program: Program, read: Read) -> str:
    whole = read.width == program.values[read.value].channels
    return f"v{read.value}" + ("" if whole else f"[{read.start}:{read.start + read.width}]")


def shift(program: Program, read: Read) -> tuple[int, int] | None:
    """(rows, columns) between a position and the one that is read there; None if that differs from place to place."""
    _, height, width = program.image_shape
    there = np.flatnonzero(read.at >= 0)
    if not len(there):
        return None
    if len(read.at) != height * width or program.values[read.value].positions != height * width:
        return (0, 0) if bool((read.at[there] == there).all()) else None
    rows, columns = read.at[there] // width - there // width, read.at[there] % width - there % width
    same = bool((rows == rows[0]).all() and (columns == columns[0]).all())
    return (int(rows[0]), int(columns[0])) if same else None


def list_plan(plan: Plan) -> str:
    """One line for each kernel, in order: what it computes, how often it is launched, how many slots it keeps."""
    price = cost(plan)
    raster = plan.slope == plan.program.image_shape[2]
    order = "raster order" if raster else f"a wavefront of slope {plan.slope}"
    lines = [
        f"plan: {len(plan.kernels)} kernels, {price.steps} launches in {plan.ticks} ticks, {order}",
        f"an image: {price.flops} FLOPs, {price.cells} numbers computed, {price.cache_numbers} kept",
    ]
    for k, kernel in enumerate(plan.kernels):
        launches = int((plan.launch_kernel == k).sum())
        cells = len(plan.order[k])
        stores = ", ".join(
            f"{channels(plan, s)} in {plan.slot_count[s.value]} of {plan.values[s.value].positions}"
            for s in kernel.stores
        )
        lines.append(f"k{k} = {operations(kernel)}".ljust(64) + f" {launches} x {mean(cells, launches)} -> {stores}")
    return "\n".join(lines)


def channels(plan: Plan, store: Store) -> str:
    whole = store.width == plan.values[store.value].channels
    return f"v{store.value}" + ("" if whole else f"[{store.start}:{store.start + store.width}]")


def mean(cells: int, launches: int) -> str:
    """Positions a launch."""
    share = cells / max(launches, 1)
    return str(int(share)) if share == math.floor(share) else f"{share:.1f}"


def operations(kernel: Kernel) -> str:
    head = [] if kernel.head is None else [type(kernel.head).__name__.lower()]
    return " ".join([*head, *(i.op for i in kernel.body)])
