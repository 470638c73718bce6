"""PixelSNAIL by every engine: the naive loop's images, the model's likelihood, to the bit where that is promised."""

import dataclasses

import numpy as np
import pytest
import torch
from torch import Tensor

import genfast
from genfast.compiler.program import Attend
from genfast.models import PixelSNAIL, PixelSNAILConfig
from genfast.sampling import naive

pytest.importorskip("genfast._C")
torch.set_num_threads(1)

N = 5


def model(shape: tuple[int, int, int], levels: int = 256, **values: object) -> tuple[PixelSNAIL, Tensor | None]:
    """A model initialised by noise, and a condition for N images."""
    torch.manual_seed(0)
    sizes = {"filters": 6, "blocks": 2, "resnets": 1, "key_channels": 6, "value_channels": 10, "components": 3}
    made = PixelSNAIL(PixelSNAILConfig(shape, levels, **{**sizes, **values}))  # type: ignore[arg-type]
    condition = None
    if made.num_classes is not None:
        condition = torch.arange(32) % made.num_classes
    if made.condition_dim is not None:
        condition = torch.randn(32, made.condition_dim)
    made.initialize(torch.randint(0, levels, (32, *shape)), condition)
    return made.eval(), None if condition is None else condition[:N]


CASES = [
    ((1, 7, 6), {"levels": 2}), ((3, 5, 4), {"heads": 2}), ((3, 4, 4), {"num_classes": 3}), ((1, 1, 1), {}),
    ((3, 4, 1), {"condition_dim": 2}), ((1, 1, 5), {"levels": 9, "likelihood": "categorical"}),
    ((1, 5, 5), {"levels": 17}),
]  # fmt: skip


@pytest.mark.parametrize("engine", ["eager", "cpu", "jacobi"])
@pytest.mark.parametrize(("shape", "values"), CASES, ids=str)
def test_every_engine_draws_the_images_of_the_loop(shape, values, engine):
    made, condition = model(shape, **values)
    sampler = genfast.compile_sampler(made, engine=engine, condition=condition)
    drawn = sampler.sample(N, condition=condition)
    assert torch.equal(drawn, naive.sample(made, N, condition=condition))
    nats = made.log_prob(drawn, condition).double()
    torch.testing.assert_close(sampler.log_prob(drawn, condition), nats, rtol=1e-5, atol=1e-4)
    params, expected = sampler.logits(drawn, condition), made(drawn, condition)
    assert params.shape == expected.shape
    torch.testing.assert_close(params, expected, rtol=1e-4, atol=1e-4)
    if engine == "cpu":
        assert torch.equal(sampler.last_log_prob, sampler.log_prob(drawn, condition))


def test_float64():
    """The eager engine equals the model to the rounding of float64."""
    made, _ = model((1, 6, 5), 2, heads=2)
    made.double()
    images = torch.randint(0, 2, (N, 1, 6, 5))
    params, expected = genfast.compile_sampler(made, engine="eager").logits(images), made(images)
    assert float((params - expected).abs().max()) < 1e-12 * float(expected.abs().max())


@pytest.mark.parametrize("engine", ["eager", "cpu"])
def test_complete_and_stream(engine):
    made, _ = model((3, 6, 5))
    sampler = genfast.compile_sampler(made, engine=engine)
    images = torch.randint(0, 256, (N, 3, 6, 5))
    known = torch.rand(N, 1, 6, 5) < 0.5
    filled = sampler.complete(images, known)
    assert torch.equal(filled, naive.complete(made, images, known))
    assert torch.equal(filled.long().where(known, images), images)
    assert torch.equal(torch.stack(list(sampler.stream(N)), 2), sampler.sample(N))


def test_neither_the_batch_nor_the_threads_matter():
    """To the bit, images and log-probabilities: alone, in a batch, with threads that share a batch or its columns."""
    made, _ = model((3, 6, 6), filters=20, heads=2, value_channels=34)
    one = genfast.compile_sampler(made, engine="cpu", threads=1)
    whole = one.sample(7)
    nats = one.last_log_prob
    for threads, batch in ((1, 1), (2, 7), (3, 2), (4, 1)):
        other = genfast.compile_sampler(made, engine="cpu", threads=threads)
        assert torch.equal(other.sample(7, batch_size=batch), whole)
        assert torch.equal(other.last_log_prob, nats)
        assert torch.equal(other.log_prob(whole, batch_size=batch), nats)


@pytest.mark.parametrize("engine", ["eager", "cpu"])
def test_bfloat16_rounds_the_products_of_convolutions(engine):
    """Attention stays in float32; both engines draw what a loop over the rounded network would."""
    made, _ = model((1, 5, 5), 2)
    sampler = genfast.compile_sampler(made, engine=engine, precision="bfloat16")
    images = torch.randint(0, 2, (N, 1, 5, 5))
    exact, rough = made(images), sampler.logits(images)
    assert 1e-5 < float((rough - exact).abs().max()) < 0.05 * float(exact.abs().max())
    torch.testing.assert_close(
        rough, genfast.compile_sampler(made, engine="eager", precision="bfloat16").logits(images), rtol=1e-2, atol=2e-3
    )


def test_unfilled_keys_and_values_are_never_read():
    """Caches start as NaN: a plan that looks at a pixel before it is drawn would show."""
    from genfast.compiler import compile_module, model_target, schedule
    from genfast.sampling.cpu import CpuEngine
    from tests.sampling.cpu_engine import request

    made, _ = model((1, 4, 5), 17)
    program = compile_module(model_target(made))
    assert sum(isinstance(step, Attend) for step in program.steps) == 2
    plan = schedule(program)
    asked = dataclasses.replace(request(plan.program, 3), conditions=())
    CpuEngine(plan, 2, likelihood=made.likelihood).start(asked, poison=True).until_row(3)
    assert asked.params is not None
    assert bool(asked.params.isfinite().all())
    assert np.unique(asked.images.numpy()).size > 1


def test_weights_that_change_are_noticed():
    made, _ = model((1, 4, 4))
    sampler = genfast.compile_sampler(made, engine="cpu")
    before = sampler.sample(N)
    with torch.no_grad():
        made.head.bias.add_(0.5)
    assert not torch.equal(sampler.sample(N), before)
    assert torch.equal(sampler.sample(N), naive.sample(made, N))


def test_causality_is_proved():
    report = genfast.check_causality(model((3, 5, 6))[0])
    assert report.ok
    earlier = np.arange(30).reshape(5, 6) < 4 * 6 + 3
    assert np.array_equal(report.field_of(0, 4, 3).all(0), earlier)
