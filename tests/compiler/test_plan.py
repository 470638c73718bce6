"""What the scheduler makes of a program: shared products, packed caches, slots, parts for threads to compute apart."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from genfast.compiler import compile_module, model_target, schedule
from genfast.compiler.evaluate import evaluate
from genfast.compiler.fuse import fuse
from genfast.compiler.pack import groups, merged
from genfast.compiler.plan import Kernel, Plan, kernel_reads
from genfast.compiler.program import Linear, Program, Read, Step, Tap
from genfast.compiler.share import share_products
from genfast.compiler.slots import NEVER, Lives
from genfast.models import PixelCNN, PixelCNNConfig
from tests.compiler.pattern import random_levels, randomise

SHAPE = (3, 7, 8)


def program_of(hidden: int, shape: tuple[int, int, int] = SHAPE) -> Program:
    config = PixelCNNConfig(image_shape=shape, levels=4, hidden=hidden, blocks=2, head=6, first_kernel=3)
    model = PixelCNN(config).double().eval()
    randomise(model)
    return compile_module(model_target(model))


def products(program: Program, layer: str) -> list[Linear]:
    return [s for s in program.steps if isinstance(s, Linear) and program.values[s.out].layer.endswith(layer)]


@torch.no_grad()
def test_shared_products_compute_the_same() -> None:
    program = program_of(50)
    shared = share_products(program)
    for block in range(2):
        before, after = (products(p, f"blocks.{block}.layers.3") for p in (program, shared))
        assert [shared.values[s.out].channels for s in after] == [
            50,
            *(program.values[s.out].channels for s in before[1:]),
        ]
        taps = [len(s.taps) for s in before]
        assert [len(s.taps) for s in after] == [taps[0], taps[1] - taps[0], taps[2] - taps[0]]
    same(program, shared)
    same(program, share_products(replace(program, steps=tuple(map(with_taps_twice, program.steps)))))


def with_taps_twice(step: Step) -> Step:
    """Half of each tap and then the other half, as where padding repeats a pixel."""
    if not isinstance(step, Linear):
        return step
    halves = tuple(replace(tap, weight=tap.weight * share) for share in (0.25, 0.75) for tap in step.taps)
    return replace(step, taps=halves)


def same(one: Program, other: Program) -> None:
    images = random_levels(SHAPE, 4, 3, 1)
    for mine, theirs in zip(evaluate(one, images), evaluate(other, images), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("shape", "hidden"), [(SHAPE, 48), ((1, 5, 4), 50)])
def test_products_are_not_shared_where_nothing_is_saved(shape: tuple[int, int, int], hidden: int) -> None:
    """Colours of 16 columns fill whole vectors, and one colour has nobody to share with."""
    program = program_of(hidden, shape)
    layer = "blocks.0.layers.3"
    assert len(products(share_products(program), layer)) == len(products(program, layer)) == shape[0]
    for one, other in zip(products(share_products(program), layer), products(program, layer), strict=True):
        assert len(one.taps) == len(other.taps)


def test_colours_that_are_read_together_are_packed() -> None:
    plan = schedule(program_of(50))
    for kernel in plan.kernels:
        if isinstance(kernel.head, Linear):
            seen = [(tap.read.value, tap.read.at.tobytes()) for tap in kernel.head.taps]
            assert len(seen) == len(set(seen)), "all colours of a tap are one operand"
    stored: dict[int, list[tuple[int, int]]] = {}
    for kernel in plan.kernels:
        for store in kernel.stores:
            stored.setdefault(store.value, []).append((store.start, store.start + store.width))
    assert max(map(len, stored.values())) == 3
    for value, ranges in stored.items():
        ranges.sort()
        assert [begin for begin, _ in ranges] == [0, *(end for _, end in ranges[:-1])], "without gap or overlap"
        assert ranges[-1][1] == plan.values[value].channels


def test_values_of_different_lives_stay_apart() -> None:
    program = program_of(6)
    kernels = fuse(program, [[np.zeros(v.positions, np.int64) for v in program.values]])
    n = SHAPE[1] * SHAPE[2]
    at_once, one_by_one = Lives(np.zeros(n, int), np.full(n, 2 * n)), Lives(2 * np.arange(n), 2 * np.arange(n))
    alike = groups(program, kernels, [one_by_one] * len(program.values))
    assert any(len(group) == 3 for group in alike)
    mixed = [at_once if v == alike[0][0] else one_by_one for v in range(len(program.values))]
    assert all(alike[0][0] not in group for group in groups(program, kernels, mixed))


def test_merged_taps() -> None:
    here, left = np.arange(4, dtype=np.int32), np.array([-1, 0, 1, 2], np.int32)
    taps = [
        Tap(Read(1, 0, 2, here), np.full((2, 3), 1.0)),
        Tap(Read(1, 0, 2, left), np.full((2, 3), 2.0)),
        Tap(Read(1, 2, 1, here), np.full((1, 3), 3.0)),
        Tap(Read(2, 3, 1, here), np.full((1, 3), 4.0)),
    ]
    one, two, three = merged(taps)
    assert (one.read.start, one.read.width, one.weight[:, 0].tolist()) == (0, 3, [1, 1, 3])
    assert (two.read.width, two.weight[0, 0]) == (2, 2)
    assert (three.read.value, three.read.width) == (2, 1)


@pytest.mark.parametrize("seed", range(20))
def test_as_many_slots_as_are_kept_at_a_time(seed: int) -> None:
    r = np.random.default_rng(seed)
    n = int(r.integers(0, 30))
    born = r.integers(-1, 30, n)
    lives = Lives(born, np.where(r.random(n) < 0.2, NEVER, born + r.integers(0, 9, n)))
    slots, count = lives.slots()
    assert lives.most() == count
    assert ((slots >= 0) == (lives.dies > NEVER)).all()
    for a in range(n):
        for b in range(a):
            both_kept = lives.born[a] <= lives.dies[b] and lives.born[b] <= lives.dies[a]
            assert not (both_kept and slots[a] == slots[b] >= 0)


def ticks_of(plan: Plan) -> list[np.ndarray]:
    """When each kernel computes each position; -2 for never."""
    ticks = [np.full(plan.values[k.stores[0].value].positions, -2) for k in plan.kernels]
    launches = zip(plan.launch_tick, plan.launch_kernel, plan.launch_begin, plan.launch_end, strict=True)
    for tick, k, begin, end in launches:
        ticks[k][plan.order[k][begin:end]] = tick
        assert (np.diff(plan.part[k][begin:end]) >= 0).all(), "a launch has its parts in order"
    return ticks


def feeds(maker: Kernel, read: Read) -> bool:
    return any(
        s.value == read.value and s.start < read.start + read.width and read.start < s.start + s.width
        for s in maker.stores
    )


def test_parts_of_a_tick_read_nothing_of_each_other() -> None:
    program = program_of(6, (3, 9, 11))
    plan = schedule(program, slope=4)
    ticks = ticks_of(plan)
    parts = [np.full(len(t), -1) for t in ticks]
    for k, (order, part) in enumerate(zip(plan.order, plan.part, strict=True)):
        parts[k][order] = part
    for k, kernel in enumerate(plan.kernels):
        for read in kernel_reads(kernel):
            for m, maker in enumerate(plan.kernels):
                if feeds(maker, read) and not maker.early:
                    q = np.flatnonzero((ticks[k] >= -1) & (read.at >= 0))
                    same = q[ticks[m][read.at[q]] == ticks[k][q]]
                    assert (parts[k][same] == parts[m][read.at[same]]).all()
    late = [k for k, kernel in enumerate(plan.kernels) if not kernel.early]
    middle = plan.ticks // 2
    assert len({int(parts[k][q]) for k in late for q in np.flatnonzero(ticks[k] == middle)}) == 3, "one for each row"
    whole = schedule(program, slope=11)
    assert max(int(p.max()) for p, k in zip(whole.part, whole.kernels, strict=True) if not k.early) <= 6
