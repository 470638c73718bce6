"""The cpu engine against float64 evaluation, on programs made by hand that hold every kind of step, and bit by bit
against itself: whatever the batch, the threads and the wavefront, an image is the same image.

``test_instruction_sets.py`` runs this file once more under narrower instruction sets.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from genfast.compiler.evaluate import evaluate
from genfast.compiler.program import Attend, Linear, Program
from genfast.compiler.schedule import schedule, smallest_slope
from genfast.errors import GenfastError
from genfast.likelihoods.draw import draw_levels
from tests.sampling.cpu_engine import CASES, IDS, bits, draw, part, request
from tests.sampling.programs import every_kind

pytest.importorskip("genfast._C")
from genfast.sampling.cpu import CpuEngine


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
