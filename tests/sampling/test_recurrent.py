"""Sampling from recurrent networks: the loop's images, the forward pass's logits, and the engines' promises."""

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from genfast.compiler import compile_module, model_target, schedule
from genfast.compiler.schedule import smallest_slope
from genfast.sampling import compile_sampler, naive
from genfast.sampling.request import Request
from genfast.sampling.sampler import Sampler
from tests.compiler.networks_recurrent import Recurrent, Shape

pytest.importorskip("genfast._C")
from genfast.sampling.cpu import CpuEngine

ENGINES = ["eager", "cpu"]
STACKS = [["row"], ["diagonal"], ["row"] * 3, ["diagonal"] * 2, ["diagonal", "conv", "row"]]


def build(shape: Shape, variants: list[str], seed: int = 0, **options: object) -> Recurrent:
    torch.manual_seed(seed)
    return Recurrent(shape, variants, **options).eval()  # type: ignore[arg-type]


def levels(model: Recurrent, n: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, model.levels, (n, *model.image_shape), generator=generator, dtype=torch.uint8)


@torch.no_grad()
def assert_same(model: Recurrent, sampler: Sampler, n: int, seed: int) -> None:
    assert torch.equal(sampler.sample(n, seed=seed), naive.sample(model, n, seed=seed))
    images = levels(model, n, seed)
    expected = model(images)
    assert float((sampler.logits(images) - expected).abs().max()) <= 2e-6 * float(1 + expected.abs().max())


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("variants", STACKS, ids=".".join)
@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 1, 6), (1, 6, 1), (1, 5, 7), (3, 3, 4)], ids=str)
def test_the_loops_images(shape: Shape, variants: list[str], engine: str) -> None:
    model = build(shape, variants)
    assert_same(model, compile_sampler(model, engine), 3, 1)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("variant", ["row", "diagonal"])
def test_bernoulli(variant: str, engine: str) -> None:
    model = build((1, 5, 7), [variant] * 2, kind="bernoulli", levels=2, hidden=17)
    assert_same(model, compile_sampler(model, engine), 4, 2)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("variant", ["row", "diagonal"])
def test_scores_known_pixels_and_rows(variant: str, engine: str) -> None:
    model = build((3, 3, 4), [variant] * 2)
    sampler = compile_sampler(model, engine)
    drawn = sampler.sample(5, seed=3)
    said = sampler.last_log_prob
    assert said is not None
    assert torch.equal(sampler.log_prob(drawn), said)
    known = torch.rand(5, 1, 3, 4, generator=torch.Generator().manual_seed(4)) < 0.5
    images = levels(model, 5, 6)
    done = sampler.complete(images, known, seed=4)
    assert torch.equal(done, naive.complete(model, images, known, seed=4))
    assert torch.equal(torch.stack(list(sampler.stream(5, seed=3)), 2), drawn)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("variant", ["row", "diagonal"])
def test_new_weights(variant: str, engine: str) -> None:
    model, other = (build((1, 4, 5), [variant] * 2, seed) for seed in (0, 7))
    sampler = compile_sampler(model, engine)
    assert sampler.load_state_dict(other.state_dict()) == "replaced"
    assert torch.equal(sampler.sample(3), naive.sample(other, 3))
    cut = {k: torch.zeros_like(v) if k.endswith("layers.1.scan.weight") or "left.weight" in k else v
           for k, v in other.state_dict().items()}  # fmt: skip
    assert sampler.load_state_dict(cut) == "recompiled"
    assert torch.equal(sampler.sample(3), naive.sample(model, 3))


def run(engine: CpuEngine, model: Recurrent, images: Tensor, uniforms: Tensor, poison: bool = False) -> Tensor:
    n, (channels, height, width) = len(images), model.image_shape
    images, log_probs = images.clone(), torch.zeros(n, channels, height * width, dtype=torch.float64)
    known = torch.zeros(n, height * width, dtype=torch.bool)
    engine.start(Request(images, known, uniforms, log_probs=log_probs), poison=poison).until_row(height - 1)
    return torch.cat([images.flatten(1).double(), log_probs.flatten(1)], 1)


@pytest.mark.parametrize("variant", ["row", "diagonal"])
@pytest.mark.parametrize("colors", [1, 3])
def test_bits(variant: str, colors: int) -> None:
    """An image is the same to the bit whatever the batch, its place in it, the threads and the wavefront; and no plan
    reads what nothing wrote."""
    model = build((colors, 4, 5), [variant] * 2)
    program = compile_module(model_target(model))
    images, uniforms = levels(model, 30), torch.rand(30, colors, 4, 5, dtype=torch.float64)
    whole = None
    for slope in sorted({smallest_slope(program), 5}):
        plan = schedule(program, slope)
        for threads in (1, 2, 3):
            engine = CpuEngine(plan, threads)
            out = run(engine, model, images, uniforms, poison=True)
            assert bool(out.isfinite().all())
            whole = out if whole is None else whole
            assert torch.equal(out, whole)
            for part in (slice(0, 1), slice(7, 9), slice(29, 30)):
                assert torch.equal(run(engine, model, images[part], uniforms[part]), whole[part])


def test_each_state_once() -> None:
    """Numbers computed and stored: those of every state of every layer, once."""
    model = build((1, 5, 7), ["row"] * 2)
    sampler = compile_sampler(model, "eager")
    plan = schedule(sampler.program, 7)
    for scan in sampler.program.scans:
        kernels = [k for k, kernel in enumerate(plan.kernels) if kernel.scan is scan]
        for k in kernels:
            chosen = np.flatnonzero(plan.launch_kernel == k)
            assert int((plan.launch_end - plan.launch_begin)[chosen].sum()) == 35


@settings(max_examples=10, derandomize=True, deadline=None, database=None,
          suppress_health_check=[HealthCheck.too_slow])  # fmt: skip
@given(
    st.lists(st.sampled_from(["row", "diagonal", "right", "conv"]), min_size=1, max_size=3),
    st.sampled_from([(1, 5, 4), (3, 3, 3), (2, 4, 3), (1, 1, 7), (1, 7, 1)]),
    st.sampled_from([4, 6, 18]),
    st.integers(0, 99),
)
def test_random_stacks(variants: list[str], shape: Shape, hidden: int, seed: int) -> None:
    model = build(shape, variants, seed, hidden=max(hidden, shape[0]))
    for engine in ENGINES:
        assert_same(model, compile_sampler(model, engine), 2, seed)
