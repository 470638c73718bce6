"""The cpu engine against float64 evaluation, on programs made by hand that hold every kind of step, and bit by bit
against itself: whatever the batch, the threads and the wavefront, an image is the same image."""

import copy
import dataclasses
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from genfast.compiler.evaluate import evaluate
from genfast.compiler.plan import Plan
from genfast.compiler.program import Attend, Linear, Program
from genfast.compiler.schedule import schedule, smallest_slope
from genfast.errors import GenfastError
from genfast.likelihoods.draw import draw_levels
from genfast.sampling import noise
from genfast.sampling.request import Request
from genfast.testing.instruction_sets import ORDER
from tests.sampling.programs import every_kind

_C = pytest.importorskip("genfast._C")
from genfast.sampling.cpu import CpuEngine, specification  # noqa: E402

SHAPES = [
    ((1, 5, 6), 2, "bernoulli"),
    ((1, 7, 1), 4, "categorical"),
    ((3, 4, 5), 7, "categorical"),
    ((2, 1, 6), 256, "categorical"),
]
CASES = [every_kind(i, *shape) for i, shape in enumerate(SHAPES)]
IDS = ["x".join(map(str, shape[0])) for shape in SHAPES]


def request(program: Program, n: int, first: int = 0, seed: int = 0, **options: Any) -> Request:
    channels, height, width = program.image_shape
    conditions = torch.from_numpy(np.random.default_rng(seed).standard_normal((300, 3)))[first : first + n].float()
    return Request(
        torch.zeros(n, channels, height, width, dtype=torch.uint8),
        torch.zeros(n, height * width, dtype=torch.bool),
        noise.uniforms(seed, first, n, program.image_shape),
        (conditions,),
        log_probs=torch.full((n, channels, height * width), torch.nan, dtype=torch.float64),
        params=torch.full((n, channels, height * width, program.draws[0].params.width), torch.nan),
        **options,
    )


def draw(plan: Plan, r: Request, threads: int = 1, bfloat16: bool = False) -> Request:
    CpuEngine(plan, threads, bfloat16).start(r, poison=True).until_row(plan.program.image_shape[1] - 1)
    return r


def bits(r: Request) -> list[bytes]:
    assert r.log_probs is not None
    assert r.params is not None
    return [t.numpy().tobytes() for t in (r.images, r.log_probs, r.params)]


def part(r: Request, rows: slice) -> Request:
    assert r.log_probs is not None
    assert r.params is not None
    return dataclasses.replace(r, images=r.images[rows], log_probs=r.log_probs[rows], params=r.params[rows])


@pytest.mark.parametrize("program", CASES, ids=IDS)
@pytest.mark.parametrize(("n", "threads"), [(1, 1), (3, 1), (3, 2), (1, 3), (2, 4), (17, 2), (40, 1)])
def test_parameters_and_levels(program: Program, n: int, threads: int) -> None:
    r = draw(schedule(program), request(program, n), threads)
    assert r.params is not None
    assert r.log_probs is not None
    exact = torch.stack(evaluate(program, r.images, r.conditions), 1).transpose(2, 3)
    off = (r.params - exact).abs().max()
    assert off < 2e-5 * exact.abs().max(), "not within float32 rounding of the float64 evaluation."
    logits = r.params.double().movedim(-1, 1)  # [n, levels, C, pixels]
    if program.likelihood == "bernoulli":
        logits = torch.cat([torch.zeros_like(logits), logits], 1)
    levels = draw_levels(logits, r.uniforms.flatten(2))
    assert torch.equal(levels, r.images.flatten(2).long())
    nats = logits.log_softmax(1).gather(1, levels[:, None])[:, 0]
    torch.testing.assert_close(r.log_probs, nats, rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("program", CASES, ids=IDS)
@pytest.mark.parametrize("bfloat16", [False, True], ids=["float32", "bfloat16"])
def test_an_image_is_the_same_in_any_batch_by_any_threads_in_any_wavefront(program: Program, bfloat16: bool) -> None:
    plan = schedule(program)
    whole = draw(plan, request(program, 13), bfloat16=bfloat16)
    slopes = {smallest_slope(program), program.image_shape[2]}
    plans = [schedule(program, slope) for slope in slopes]
    for n, first in ((13, 0), (1, 0), (1, 12), (2, 5), (6, 3), (12, 1)):
        for threads in (1, 2, 3, 4):
            for other in plans:
                got = draw(other, request(program, n, first), threads, bfloat16)
                assert bits(got) == bits(part(whole, slice(first, first + n))), (n, first, threads, other.slope)


def test_many_more_threads_than_cores_and_images() -> None:
    program = CASES[0]
    one = draw(schedule(program), request(program, 2))
    assert bits(draw(schedule(program), request(program, 2), threads=16)) == bits(one)


def test_blocks_of_more_rows_than_are_worked_on_at_a_time() -> None:
    program = every_kind(5, (1, 3, 4), 3)
    plan = schedule(program)
    whole = draw(plan, request(program, 250))
    assert bits(draw(plan, request(program, 3, 240))) == bits(part(whole, slice(240, 243)))


@pytest.mark.parametrize("options", [{"temperature": 0.6}, {"temperature": 0.0}, {"top_k": 2}, {"top_p": 0.5}], ids=str)
def test_options_change_the_draw_and_not_the_log_probability(options: dict[str, Any]) -> None:
    program = CASES[2]
    plan = schedule(program)
    r = draw(plan, request(program, 4, **options))
    assert r.params is not None
    expected = draw_levels(r.params.double().movedim(-1, 1), r.uniforms.flatten(2), **options)
    assert torch.equal(r.images.flatten(2).long(), expected)
    scored = request(program, 4)
    scored.images, scored.known = r.images.clone(), torch.ones_like(scored.known)
    assert bits(draw(plan, scored)) == bits(r)


def test_known_pixels_stay() -> None:
    program = CASES[2]
    r = request(program, 5)
    r.known = torch.rand(r.known.shape) < 0.5
    r.images = torch.randint(0, program.levels, r.images.shape, dtype=torch.uint8)
    before = r.images.clone()
    draw(schedule(program), r)
    known = r.known.view(5, 1, *program.image_shape[1:]).expand_as(before)
    assert torch.equal(r.images[known], before[known])
    assert not torch.equal(r.images, before)


def test_rows_one_by_one_are_the_image() -> None:
    program = CASES[2]
    plan = schedule(program)
    whole, r = draw(plan, request(program, 3)), request(program, 3)
    run = CpuEngine(plan, 2).start(r)
    for y in range(program.image_shape[1]):
        run.until_row(y)
        assert torch.equal(r.images[:, :, : y + 1], whole.images[:, :, : y + 1])
        run.until_row(0)  # is done
    assert bits(r) == bits(whole)
    with pytest.raises(GenfastError, match="There is no row 4"):
        run.until_row(4)


def test_results_may_lie_anywhere() -> None:
    program = CASES[2]
    plan = schedule(program)
    whole, r = draw(plan, request(program, 3)), request(program, 3)
    r.images = torch.zeros(3, 4, 5, 3, dtype=torch.int64).permute(0, 3, 1, 2)
    r.log_probs = torch.zeros(3, 20, 3).transpose(1, 2)
    draw(plan, r)
    assert torch.equal(r.images, whole.images.long())
    assert whole.log_probs is not None
    assert torch.equal(r.log_probs, whole.log_probs.float())


def test_no_images() -> None:
    program = CASES[0]
    assert len(draw(schedule(program), request(program, 0), threads=3).images) == 0


def test_cache_bytes_and_profile() -> None:
    program = CASES[0]
    plan = schedule(program)
    engine = CpuEngine(plan, 2)
    numbers = sum(count * v.channels for count, v in zip(plan.slot_count, plan.values, strict=True))
    padding = 2 * 64 * len(plan.values)  # each value of each team on cache lines of its own
    heads = [k.head for k in plan.kernels if isinstance(k.head, Attend)]
    attended = {read.value for head in heads for read in (head.key, head.value)}
    padding += 2 * 128 * sum(plan.slot_count[v] for v in attended)  # and each slot, an odd number of them
    assert 4 * 10 * numbers <= engine.cache_bytes(10) <= 4 * 10 * numbers + padding
    run = engine.start(request(program, 4), profile=True)
    run.until_row(4)
    profile = run.profile()
    assert [k["name"] for k in profile["kernels"]] == [k.name for k in plan.kernels]
    assert profile["draws"] > 0
    assert sum(k["gemm"] for k in profile["kernels"]) > 0


def with_weights(program: Program, change: Callable[[np.ndarray], np.ndarray]) -> Program:
    """The program with the weights of the last Linear changed."""
    steps = list(program.steps)
    i = max(i for i, s in enumerate(steps) if isinstance(s, Linear))
    last = steps[i]
    assert isinstance(last, Linear)
    taps = tuple(dataclasses.replace(t, weight=change(t.weight)) for t in last.taps)
    steps[i] = dataclasses.replace(last, taps=taps)
    return dataclasses.replace(program, steps=tuple(steps))


@pytest.mark.parametrize("number", [np.nan, np.inf, 1e39], ids=str)
@pytest.mark.parametrize("threads", [1, 3])
def test_weights_that_are_not_finite_are_one_sentence(number: float, threads: int) -> None:
    program = with_weights(CASES[2], lambda w: np.where(np.arange(w.shape[1]) == 3, number, w))
    run = CpuEngine(schedule(program), threads).start(request(program, 7))
    with pytest.raises(GenfastError, match="is not a distribution: it holds NaN or infinity; check that"):
        run.until_row(3)
    with pytest.raises(GenfastError, match="was stopped"):
        run.until_row(3)


def test_a_weight_that_is_not_finite_multiplies_padding_too() -> None:
    """Zero times infinity is NaN, as in the model, however many positions a launch has."""
    program = CASES[0]
    first = next(i for i, s in enumerate(program.steps) if isinstance(s, Linear) and len(s.taps) > 4)
    step = program.steps[first]
    assert isinstance(step, Linear)
    taps = (dataclasses.replace(step.taps[0], weight=np.full_like(step.taps[0].weight, np.inf)), *step.taps[1:])
    steps = (*program.steps[:first], dataclasses.replace(step, taps=taps), *program.steps[first + 1 :])
    plan = schedule(dataclasses.replace(program, steps=steps))
    for n in (1, 20):
        r = request(program, n)
        with pytest.raises(GenfastError, match="is not a distribution"):
            draw(plan, r)
        assert (r.images == 0).all(), "the first pixel was drawn."


def edit(spec: dict[str, Any], path: tuple[Any, ...], value: Any) -> dict[str, Any]:
    spec = copy.deepcopy(spec)
    place: Any = spec
    for key in path[:-1]:
        place = place[key]
    if value is KeyError:
        del place[path[-1]]
    else:
        place[path[-1]] = value
    return spec


def kernel_of(spec: dict[str, Any], kind: str) -> int:
    return next(i for i, k in enumerate(spec["kernels"]) if k["head"]["kind"] == kind)


def bad_specifications() -> list[tuple[str, dict[str, Any]]]:
    spec = specification(schedule(CASES[2]))
    linear, copying = kernel_of(spec, "linear"), kernel_of(spec, "copy")
    lookup, reduce, attend = kernel_of(spec, "lookup"), kernel_of(spec, "reduce"), kernel_of(spec, "attend")
    lists = spec["kernels"][attend]["head"]
    gated = next(i for i, k in enumerate(spec["kernels"]) if len(k["body"]) > 2)
    integers = lambda *numbers: np.array(numbers, np.int32)  # noqa: E731
    edits: list[tuple[tuple[Any, ...], Any]] = [
        (("levels",), 257),
        (("levels",), 0),
        (("levels",), "two"),
        (("levels",), KeyError),
        (("likelihood",), "categorical"),
        (("likelihood", "name"), "poisson"),
        (("likelihood", "name"), "bernoulli"),
        (("likelihood", "name"), "logistic_mixture"),
        (("likelihood", "name"), "function"),
        (("likelihood",), {"name": "function", "whole_pixels": True, "uniforms": 3, "sample": None}),
        (("likelihood",), {"name": "function", "whole_pixels": True, "uniforms": 0, "sample": len}),
        (("likelihood",), {"name": "logistic_mixture", "components": 0, "min_log_scale": -7.0}),
        (("image_shape",), integers(3, 4)),
        (("image_shape",), integers(3, 4, 6)),
        (("image_shape",), integers(3, 0, 5)),
        (("image_shape",), np.array([3, 4, 5])),
        (("ticks",), -1),
        (("ticks",), 3),
        (("inputs",), integers(0, 1)),
        (("inputs",), integers(0, 1, 99)),
        (("inputs",), integers(0, 1, -1)),
        (("conditions",), integers(1000)),
        (("draws",), spec["draws"][:2]),
        (("draws", 0, "width"), 6),
        (("draws", 0, "value"), 0),
        (("draws", 0, "at"), spec["draws"][0]["at"] - 1),
        (("draw_tick",), spec["draw_tick"] - 1),
        (("draw_tick",), spec["draw_tick"] + 1),
        (("draw_tick",), spec["draw_tick"][:, 1:].copy()),
        (("launches",), spec["launches"][::-1].copy()),
        (("launches",), spec["launches"][:, :3].copy()),
        (("launches",), spec["launches"] + integers(0, 100, 0, 0)),
        (("launches",), spec["launches"] + integers(0, 0, 0, 1)),
        (("launches",), spec["launches"] - integers(0, 0, 1, 0)),
        (("launches",), spec["launches"].astype(np.int64)),
        (("values", 0, "channels"), 0),
        (("values", 0, "channels"), 2),
        (("values", 3, "channels"), -4),
        (("values", 0, "slots"), 0),
        (("values", 0, "slots"), 2**40),
        (("values", 0, "slot"), integers(0)),
        (("values", 0, "slot"), spec["values"][0]["slot"] - 2),
        (("values", 0), 7),
        (("kernels", linear, "order"), spec["kernels"][linear]["order"] + 9999),
        (("kernels", linear, "positions"), -1),
        (("kernels", linear, "positions"), 3),
        (("kernels", linear, "reads", 0, "at"), integers(0)),
        (("kernels", linear, "reads", 0, "at"), spec["kernels"][linear]["reads"][0]["at"] + 1000),
        (("kernels", linear, "reads", 0, "at"), spec["kernels"][linear]["reads"][0]["at"] - 5),
        (("kernels", linear, "reads", 0, "value"), -1),
        (("kernels", linear, "reads", 0, "start"), 2**31 - 1),
        (("kernels", linear, "reads", 0, "start"), -1),
        (("kernels", linear, "reads", 0, "width"), 2**31 - 1),
        (("kernels", linear, "reads", 0, "width"), 0),
        (("kernels", linear, "head", "bias"), 50),
        (("kernels", linear, "head", "bias"), -1),
        (("kernels", linear, "head", "width"), 0),
        (("kernels", linear, "head", "width"), 2**40),
        (("kernels", linear, "head", "kind"), "conv"),
        (("kernels", linear, "head", "weight"), np.zeros((3, 3), np.float32)),
        (("kernels", linear, "head"), None),
        (("kernels", linear, "head", "weight"), spec["kernels"][linear]["head"]["weight"].astype(np.float64)),
        (("kernels", linear, "head", "reads", 0, "from"), "slice"),
        (("kernels", linear, "head", "reads", 0, "from"), "constant"),
        (("kernels", linear, "head", "reads", 0, "index"), 99),
        (("kernels", linear, "stores"), integers(0)),
        (("kernels", linear, "stores"), np.array([[0, 3]], np.int32)),
        (("kernels", linear, "stores"), np.array([[99, 3, 0]], np.int32)),
        (("kernels", linear, "stores"), np.array([[0, 0, 0]], np.int32)),
        (("kernels", linear, "stores"), np.array([[0, -1, 0]], np.int32)),
        (("kernels", linear, "stores"), spec["kernels"][linear]["stores"] + np.array([0, 0, 1], np.int32)),
        (("kernels", linear, "stores"), spec["kernels"][linear]["stores"] - np.array([0, 0, 1], np.int32)),
        (("kernels", linear, "part"), integers(0)),
        (("kernels", linear, "part"), spec["kernels"][linear]["part"] - 1),
        (("kernels", linear, "part"), spec["kernels"][linear]["part"] + 2**30),
        (("kernels", linear, "early"), "no"),
        (("kernels", linear, "constants", 0, "which"), integers(0)),
        (("kernels", linear, "constants", 0, "which"), np.full(20, 9, np.int32)),
        (("kernels", linear, "constants", 0, "which"), np.full(20, -1, np.int32)),
        (("kernels", linear, "constants", 0, "rows"), np.zeros((1, 0), np.float32)),
        (("kernels", copying, "head", "starts"), integers(0)),
        (("kernels", copying, "head", "starts"), np.full(6, -1, np.int32)),
        (("kernels", copying, "head", "starts"), np.full(6, 2**31 - 1, np.int32)),
        (("kernels", lookup, "head", "weight"), np.zeros((0, 5), np.float32)),
        (("kernels", lookup, "head", "reads"), []),
        (("kernels", reduce, "head", "reduce"), "mean"),
        (("kernels", reduce, "head", "width"), 3),
        (("kernels", reduce, "head", "reads"), []),
        (("kernels", attend, "head", "reads"), []),
        (("kernels", attend, "head", "width"), 7),
        (("kernels", attend, "head", "heads"), 0),
        (("kernels", attend, "head", "heads"), 3),
        (("kernels", attend, "head", "heads"), 2**40),
        (("kernels", attend, "head", "scale"), "one"),
        (("kernels", attend, "head", "key"), KeyError),
        (("kernels", attend, "head", "key", "value"), 1000),
        (("kernels", attend, "head", "key", "start"), 2**31 - 1),
        (("kernels", attend, "head", "key", "width"), 2**31 - 1),
        (("kernels", attend, "head", "key", "at"), lists["key"]["at"] - 1),
        (("kernels", attend, "head", "key", "at"), lists["key"]["at"][1:].copy()),
        (("kernels", attend, "head", "key", "at"), lists["key"]["at"] + 1000),
        (("kernels", attend, "head", "value", "at"), lists["value"]["at"] - 1),
        (("kernels", attend, "head", "value", "at"), lists["value"]["at"] + 1000),
        (("kernels", attend, "head", "first"), lists["first"][1:].copy()),
        (("kernels", attend, "head", "first"), lists["first"][::-1].copy()),
        (("kernels", attend, "head", "first"), lists["first"] + 1),
        (("kernels", attend, "head", "first"), lists["first"] * 2**40),
        (("kernels", attend, "head", "bias"), lists["bias"][1:].copy()),
        (("kernels", gated, "body", 0, "op"), "system"),
        (("kernels", gated, "body", 0, "args"), []),
        (("kernels", gated, "body", 0, "width"), 0),
        (("kernels", gated, "body", 0, "width"), 2**31 - 1),
        (("kernels", gated, "body", 0, "args", 0, "index"), 1),
        (("kernels", gated, "body", 0, "args", 0, "index"), -1),
        (("kernels", gated, "body", 0, "args", 0, "start"), 2**31 - 1),
        (("kernels", gated, "body", 0, "args", 0, "width"), 2),
        (("kernels", gated, "body", 1), {}),
        (("kernels",), {}),
        (("values",), None),
    ]
    return [(f"{'.'.join(map(str, path))}={str(value)[:20]!r}", edit(spec, path, value)) for path, value in edits]


def refusal(spec: dict[str, Any]) -> str:
    try:
        _C.Engine(spec)
    except ValueError as error:
        return str(error)
    return "It was accepted"  # without a full stop


def test_bad_specifications_are_refused_in_one_sentence() -> None:
    for name, spec in bad_specifications():
        assert re.fullmatch(r"[^\n]+\.", refusal(spec)), name


def test_random_damage_to_the_tables_never_crashes() -> None:
    """Either it is refused, or it runs to some end: nothing is read or written outside the engine's memory."""
    rng = np.random.default_rng(0)
    spec = specification(schedule(CASES[0]))
    accepted = 0
    for _ in range(300):
        broken = copy.deepcopy(spec)
        tables: list[np.ndarray] = [broken["launches"], broken["draw_tick"], *(v["slot"] for v in broken["values"])]
        for k in broken["kernels"]:
            tables += [k["order"], k["part"], k["stores"]]
            tables += [*(r["at"] for r in k["reads"]), *(c["which"] for c in k["constants"])]
            if k["head"]["kind"] == "attend":
                tables += [k["head"]["key"]["at"], k["head"]["value"]["at"], k["head"]["first"]]
        table = tables[rng.integers(len(tables))].reshape(-1)
        if len(table):
            table[rng.integers(len(table))] += rng.choice([-1, 1, 7, -1000, 2**30])
        try:
            engine = _C.Engine(broken)
            run_raw(engine, int(rng.integers(1, 4)), threads=int(rng.integers(1, 4)))
            accepted += 1
        except ValueError:
            pass
    assert 0 < accepted < 300


def run_raw(engine: Any, n: int = 3, **changes: Any) -> Any:
    shape = (n, 1, 5, 6)
    arguments: dict[str, Any] = {
        "images": np.zeros(shape, np.int32),
        "known": np.zeros((n, 30), np.uint8),
        "uniforms": np.full((n, 1, 30), 0.5),
        "conditions": [np.zeros((n, 1, 3), np.float32)],
    }
    run = engine.start(**{**arguments, **changes})
    run.until_row(4)
    return run


@pytest.mark.parametrize(
    "changes",
    [
        {"images": np.zeros((3, 1, 5, 7), np.int32)},
        {"images": np.zeros((3, 1, 5, 6))},
        {"images": None},
        {"images": np.zeros((3, 1, 6, 5), np.int32).transpose(0, 1, 3, 2)},
        {"images": np.zeros((2, 1, 5, 6), np.int32)},
        {"known": np.zeros((3, 29), np.uint8)},
        {"known": np.zeros((3, 30), bool)},
        {"uniforms": np.full((3, 1, 30), 1.0)},
        {"uniforms": np.full((3, 1, 30), np.nan)},
        {"uniforms": np.full((3, 1, 30), -0.1)},
        {"uniforms": np.zeros((3, 30))},
        {"uniforms": np.zeros((3, 1, 30), np.float32)},
        {"conditions": []},
        {"conditions": [np.zeros((3, 1, 4), np.float32)]},
        {"conditions": [np.zeros((3, 1, 3))]},
        {"conditions": [None]},
        {"temperature": -1.0},
        {"temperature": np.nan},
        {"temperature": np.inf},
        {"top_k": -1},
        {"top_p": 0.0},
        {"top_p": 1.5},
        {"top_p": np.nan},
        {"threads": 0},
        {"threads": 10**6},
        {"log_probs": np.zeros((3, 1, 29))},
        {"params": np.zeros((3, 1, 30, 2), np.float32)},
        {"known": np.ones((3, 30), np.uint8), "images": np.full((3, 1, 5, 6), 2, np.int32)},
    ],
    ids=lambda changes: "-".join(changes),
)
def test_bad_requests_are_refused_in_one_sentence(changes: dict[str, Any]) -> None:
    engine = _C.Engine(specification(schedule(CASES[0])))
    with pytest.raises(ValueError, match=r"^[^\n]+\.$"):
        run_raw(engine, **changes)


def test_results_must_be_writable() -> None:
    engine = _C.Engine(specification(schedule(CASES[0])))
    images = np.zeros((3, 1, 5, 6), np.int32)
    images.flags.writeable = False
    with pytest.raises(ValueError, match="written"):
        run_raw(engine, images=images)


def endless(program: Program) -> Plan:
    """A plan that computes the last launch of tick 0 so often that it takes minutes."""
    plan = schedule(program)
    i = int(np.flatnonzero(plan.launch_tick == 0)[-1])
    counts = np.ones(len(plan.launch_tick), np.int64)
    counts[i] = 20_000_000
    names = ("launch_tick", "launch_kernel", "launch_begin", "launch_end")
    columns: dict[str, Any] = {name: np.repeat(getattr(plan, name), counts) for name in names}
    return dataclasses.replace(plan, **columns)


@pytest.fixture
def _ctrl_c() -> Iterator[None]:
    """Ctrl-C works, also where the tests run in the background: there a shell has it ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("_ctrl_c")
@pytest.mark.parametrize(("n", "threads"), [(4, 1), (4, 2), (1, 2)])
def test_ctrl_c_ends_it_within_a_second(n: int, threads: int) -> None:
    program = CASES[0]
    run = CpuEngine(endless(program), threads).start(request(program, n))
    sent: list[float] = []

    def interrupt() -> None:
        sent.append(time.monotonic())
        os.kill(os.getpid(), signal.SIGINT)

    timer = threading.Timer(0.3, interrupt)
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        run.until_row(4)
    assert time.monotonic() - sent[0] < 1
    timer.join()
    with pytest.raises(GenfastError, match="was stopped"):
        run.until_row(4)


@pytest.mark.usefixtures("_ctrl_c")
def test_other_python_threads_run_meanwhile_and_cannot_interfere() -> None:
    program = CASES[0]
    run = CpuEngine(endless(program), 1).start(request(program, 2))
    refused: list[str] = []

    def interfere() -> None:
        time.sleep(0.3)
        try:
            run.until_row(4)
        except GenfastError as error:
            refused.append(str(error))
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interfere)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        run.until_row(4)
    thread.join()
    assert refused == ["This run is under way in another thread."]


@pytest.mark.slow
@pytest.mark.parametrize("isa", ["generic", "avx2", "avx512"])
def test_every_narrower_instruction_set(isa: str) -> None:
    """These tests once more, in a process that may use less."""
    if ORDER.index(isa) >= ORDER.index(_C.isa()):
        pytest.skip(f"the tests run on {_C.isa()}")
    tests = Path(__file__).parents[1]
    files = [
        "kernels/test_pointwise.py",
        "kernels/test_attend.py",
        "kernels/test_categorical.py",
        "kernels/test_bfloat16_product.py",
        "kernels/test_logistic_mixture_draw.py",
    ]
    files += ["sampling/test_cpu_engine.py"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-x", "-k", "not instruction_set", *(str(tests / file) for file in files)],
        env={**os.environ, "GENFAST_CPU": isa}, cwd=tests.parent, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:]
