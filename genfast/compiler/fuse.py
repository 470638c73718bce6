"""Fusion: steps that run together become one kernel, and what lies between them is never stored.

Every step that is not elementwise heads a kernel of its own. An elementwise step joins the kernel of one of its
operands if it reads that kernel at its own position only, if that makes no other reader of the kernel wait (the step
cannot run any later than the kernel can, or nobody else reads the kernel), and if none of its other operands waits for
the kernel. Of several such kernels it joins the one that is ready last: the others may then run earlier, many cells at
a time.

The kernels of a scan read each other, at earlier positions, so they run in turns. A kernel from outside must not get
in between: a step of a scan joins a kernel from outside only if nobody else reads that, and a step from outside joins
one of a scan only if none of its other operands waits for any of that scan.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from genfast.compiler.footprint import needed
from genfast.compiler.plan import Argument, Instruction, Kernel, Slice, Store
from genfast.compiler.program import (
    Attend,
    Copy,
    Linear,
    Lookup,
    Pointwise,
    Program,
    Read,
    Reduce,
    Scan,
    Step,
    reads_of,
    scan_of,
)


@dataclass
class Group:
    """A kernel in the making."""

    head: Linear | Lookup | Reduce | Copy | Attend | None
    body: list[Pointwise] = field(default_factory=list)
    scan: Scan | None = None

    def steps(self) -> list[Step]:
        return [*([self.head] if self.head is not None else []), *self.body]


def fuse(program: Program, times: Sequence[list[np.ndarray]]) -> tuple[Kernel, ...]:
    """The program's steps as kernels, in an order in which they can run.

    times: for each schedule that may come, the time at which each value's cells are ready (footprint.latest). Steps are
    fused only where every one of these says that they are ready together.
    """
    need = needed(program)
    readers = readers_of(program)
    home: dict[int, int] = {}  # value -> group
    groups: list[Group] = []
    parents: list[set[int]] = []  # the groups that a group reads
    scans = scan_of(program)
    for step in program.steps:
        sources = {home[r.value] for r in reads_of(step) if r.value in home}
        scan = scans.get(step.out)
        target = None
        if isinstance(step, Pointwise):
            own = [a for a in step.args if isinstance(a, Read) and a.value in home]
            candidates = sorted(
                {home[r.value] for r in own if at_home(program, step, r)},
                key=lambda g: (sum(int(t[groups[g].steps()[-1].out].sum()) for t in times), g),
                reverse=True,
            )
            for group in candidates:
                inside = {s.out for s in groups[group].steps()}
                if any(r.value in inside and not at_home(program, step, r) for r in own):
                    continue
                leader = groups[group].steps()[-1].out
                alone = all(readers[v] <= inside | {step.out} for v in inside)
                if not alone and not all(ready_together(t, need, leader, step.out) for t in times):
                    continue
                if scan is not None and scan is not groups[group].scan:
                    private = all(readers[v] <= {*inside, *scan.values} for v in inside)
                    if groups[group].scan is not None or not private:
                        continue
                others, own_turns = sources - {group}, {group}
                if scan is None:
                    others = {g for other in others for g in turns(groups, other)}
                    own_turns = turns(groups, group)
                if any(waits_for(parents, other, g) for other in others for g in own_turns):
                    continue
                target = group
                break
        if target is None:
            groups.append(Group(None if isinstance(step, Pointwise) else step))
            parents.append(set())
            target = len(groups) - 1
        if isinstance(step, Pointwise):
            groups[target].body.append(step)
        groups[target].scan = scan or groups[target].scan
        home[step.out] = target
        parents[target] |= sources - {target}
    return tuple(make_kernel(program, groups[g]) for g in in_order(parents, [group.scan for group in groups]))


def readers_of(program: Program) -> list[set[int]]:
    """For each value the values that are computed from it, and -1 if it is drawn from."""
    readers: list[set[int]] = [set() for _ in program.values]
    for step in program.steps:
        for read in reads_of(step):
            readers[read.value].add(step.out)
    for draw in program.draws:
        readers[draw.params.value].add(-1)
    return readers


def at_home(program: Program, step: Pointwise, read: Read) -> bool:
    """Whether a read takes, at each position, the same position of a value with as many positions."""
    n = program.values[step.out].positions
    return program.values[read.value].positions == n and np.array_equal(read.at, np.arange(n))


def ready_together(time: list[np.ndarray], need: list[np.ndarray], first: int, second: int) -> bool:
    both = need[first] | need[second]
    return bool((time[first] == time[second])[both].all())


def turns(groups: list[Group], group: int) -> set[int]:
    """The groups that run in turns with one, those of its scan, and itself."""
    scan = groups[group].scan
    return {group} if scan is None else {g for g, other in enumerate(groups) if other.scan is scan}


def waits_for(parents: list[set[int]], group: int, other: int) -> bool:
    """Whether ``group`` reads ``other``, directly or through groups in between."""
    seen, stack = set(), [group]
    while stack:
        g = stack.pop()
        if g == other:
            return True
        if g not in seen:
            seen.add(g)
            stack.extend(parents[g])
    return False


def in_order(parents: list[set[int]], scans: list[Scan | None]) -> list[int]:
    """The groups, each after those it reads, and those of a scan together; otherwise as the module computes them."""
    units: dict[int, list[int]] = {}  # a scan's groups, or one group
    for group, scan in enumerate(scans):
        units.setdefault(group if scan is None else scans.index(scan), []).append(group)
    unit_of = {group: unit for unit, members in units.items() for group in members}
    between: list[set[int]] = [set() for _ in parents]
    for group, read in enumerate(parents):
        between[unit_of[group]] |= {unit_of[g] for g in read} - {unit_of[group]}
    inside = [{g for g in read if unit_of[g] == unit_of[group]} for group, read in enumerate(parents)]
    apart = after_parents(inside)
    return [g for unit in after_parents(between) if unit in units for g in apart if unit_of[g] == unit]


def after_parents(parents: list[set[int]]) -> list[int]:
    """Numbers 0, 1, ..., each after its parents."""
    order: list[int] = []
    placed: set[int] = set()

    def place(group: int) -> None:
        stack = [(group, iter(sorted(parents[group])))]
        while stack:
            current, rest = stack[-1]
            following = next((p for p in rest if p not in placed), None)
            if following is None:
                stack.pop()
                if current not in placed:
                    placed.add(current)
                    order.append(current)
            else:
                stack.append((following, iter(sorted(parents[following]))))

    for group in range(len(parents)):
        if group not in placed:
            place(group)
    return order


def make_kernel(program: Program, group: Group) -> Kernel:
    """The group with its values in registers; those that others read are stored as well."""
    register = {step.out: i for i, step in enumerate(group.steps())}

    def argument(step: Pointwise, arg: object) -> Argument:
        if isinstance(arg, Read) and arg.value in register and at_home(program, step, arg):
            return Slice(register[arg.value], arg.start, arg.width)
        return arg  # type: ignore[return-value]

    body = tuple(
        Instruction(step.op, tuple(argument(step, a) for a in step.args), program.values[step.out].channels)
        for step in group.body
    )
    outside = {r.value for s in program.steps if s.out not in register for r in reads_of(s)}
    outside |= {d.params.value for d in program.draws}
    outside |= {r.value for s in group.body for r in reads_of(s) if r.value in register and not at_home(program, s, r)}
    if group.head is not None:
        outside |= {r.value for r in reads_of(group.head)}
    stores = tuple(Store(r, v, 0, program.values[v].channels) for v, r in register.items() if v in outside)
    kind = "" if group.head is None else type(group.head).__name__.lower()
    operations = [kind, *(i.op for i in body)] if kind else [i.op for i in body]
    name = f"{program.values[group.steps()[0].out].layer}: {' '.join(operations)}"
    early = group.head is None and all(r.value in {*program.inputs, *register} for s in group.body for r in reads_of(s))
    return Kernel(name, group.head, body, stores, group.scan, early and group.scan is None)
