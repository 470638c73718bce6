"""PixelCNN++ and PixelSNAIL by every engine: the naive loop's images, the model's likelihood, to the bit where that is
promised."""

import dataclasses

import numpy as np
import pytest
import torch
from torch import Tensor

import genfast
from genfast.compiler import compile_module, model_target, schedule
from genfast.compiler.program import Attend
from genfast.errors import GenfastError
from genfast.likelihoods import LogisticMixture
from genfast.models import ImageModel, PixelCNNPP, PixelCNNPPConfig, PixelSNAIL, PixelSNAILConfig
from genfast.sampling import naive
from tests.sampling.cpu_engine import request

pytest.importorskip("genfast._C")
torch.set_num_threads(1)

N = 5
SMALL = {
    "pixelcnn-pp": {"filters": 6, "resnets": 1, "components": 3, "scales": 2},
    "pixelsnail": {"filters": 6, "blocks": 2, "resnets": 1, "key_channels": 6, "value_channels": 10, "components": 3},
}
BOTH = pytest.mark.parametrize("kind", SMALL)


def model(
    kind: str, shape: tuple[int, int, int], levels: int = 256, **values: object
) -> tuple[ImageModel, Tensor | None]:
    """A model initialised by noise, and a condition for N images."""
    torch.manual_seed(0)
    values = {**SMALL[kind], **values}
    made: PixelCNNPP | PixelSNAIL
    if kind == "pixelcnn-pp":
        made = PixelCNNPP(PixelCNNPPConfig(shape, levels, **values))  # type: ignore[arg-type]
    else:
        made = PixelSNAIL(PixelSNAILConfig(shape, levels, **values))  # type: ignore[arg-type]
    condition = None
    if made.num_classes is not None:
        condition = torch.arange(32) % made.num_classes
    if made.condition_dim is not None:
        condition = torch.randn(32, made.condition_dim)
    made.initialize(torch.randint(0, levels, (32, *shape)), condition)
    return made.eval(), None if condition is None else condition[:N]


CASES = [
    ("pixelcnn-pp", (1, 8, 8), {"scales": 3}), ("pixelcnn-pp", (3, 7, 5), {}),
    ("pixelcnn-pp", (3, 4, 4), {"num_classes": 3}), ("pixelcnn-pp", (3, 5, 1), {"condition_dim": 2}),
    ("pixelcnn-pp", (3, 1, 3), {"scales": 1}), ("pixelcnn-pp", (1, 1, 1), {}),
    ("pixelcnn-pp", (1, 5, 4), {"levels": 2}), ("pixelcnn-pp", (3, 3, 4), {"components": 1}),
    ("pixelsnail", (1, 7, 6), {"levels": 2}), ("pixelsnail", (3, 5, 4), {"heads": 2}),
    ("pixelsnail", (3, 4, 4), {"num_classes": 3}), ("pixelsnail", (1, 1, 1), {}),
    ("pixelsnail", (3, 4, 1), {"condition_dim": 2}),
    ("pixelsnail", (1, 1, 5), {"levels": 9, "likelihood": "categorical"}), ("pixelsnail", (1, 5, 5), {"levels": 17}),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "shape", "values"), CASES, ids=str)
def test_every_engine_draws_the_images_of_the_loop(kind, shape, values):
    made, condition = model(kind, shape, **values)
    images = naive.sample(made, N, condition=condition)
    nats, expected = made.log_prob(images, condition).double(), made(images, condition)
    for engine in ("eager", "cpu", "jacobi"):
        sampler = genfast.compile_sampler(made, engine=engine, condition=condition)
        assert torch.equal(sampler.sample(N, condition=condition), images), engine
        drawn_nats = sampler.last_log_prob
        torch.testing.assert_close(sampler.log_prob(images, condition), nats, rtol=1e-5, atol=1e-4)
        params = sampler.logits(images, condition)
        assert params.shape == expected.shape
        torch.testing.assert_close(params, expected, rtol=1e-4, atol=1e-4)
        if engine == "cpu":
            assert torch.equal(drawn_nats, sampler.log_prob(images, condition))


@pytest.mark.parametrize("options", [
    {"temperature": 0.6}, {"temperature": 0.0}, {"top_k": 5}, {"top_p": 0.5, "temperature": 1.5},
], ids=str)  # fmt: skip
@pytest.mark.parametrize("engine", ["eager", "cpu"])
def test_options(engine, options):
    made, _ = model("pixelcnn-pp", (3, 4, 5))
    sampler = genfast.compile_sampler(made, engine=engine)
    drawn = sampler.sample(N, seed=3, **options)
    assert torch.equal(drawn, naive.sample(made, N, seed=3, **options))
    assert not torch.equal(drawn, sampler.sample(N, seed=3))


@BOTH
@pytest.mark.parametrize("engine", ["eager", "cpu"])
def test_complete_and_stream(engine, kind):
    made, _ = model(kind, (3, 6, 5))
    sampler = genfast.compile_sampler(made, engine=engine)
    images = torch.randint(0, 256, (N, 3, 6, 5))
    known = torch.rand(N, 1, 6, 5) < 0.5
    filled = sampler.complete(images, known)
    assert torch.equal(filled, naive.complete(made, images, known))
    assert torch.equal(filled.long().where(known, images), images)
    assert torch.equal(torch.stack(list(sampler.stream(N)), 2), sampler.sample(N))


@pytest.mark.parametrize(("kind", "wide"), [("pixelcnn-pp", {}), ("pixelsnail", {"heads": 2, "value_channels": 34})])
def test_neither_the_batch_nor_the_threads_matter(kind, wide):
    """To the bit, images and log-probabilities: alone, in a batch, with threads that share a batch or its columns."""
    made, _ = model(kind, (3, 6, 6), filters=20, **wide)
    one = genfast.compile_sampler(made, engine="cpu", threads=1)
    whole = one.sample(7)
    nats = one.last_log_prob
    for threads, batch in ((1, 1), (2, 7), (3, 2), (4, 1)):
        other = genfast.compile_sampler(made, engine="cpu", threads=threads)
        assert torch.equal(other.sample(7, batch_size=batch), whole)
        assert torch.equal(other.last_log_prob, nats)
        assert torch.equal(other.log_prob(whole, batch_size=batch), nats)


@BOTH
def test_weights_that_change_are_noticed(kind):
    made, _ = model(kind, (1, 4, 4))
    sampler = genfast.compile_sampler(made, engine="cpu")
    before = sampler.sample(N)
    with torch.no_grad():
        made.head.bias.add_(0.5)
    assert not torch.equal(sampler.sample(N), before)
    assert torch.equal(sampler.sample(N), naive.sample(made, N))


@pytest.mark.parametrize(("kind", "sizes"), [("pixelcnn-pp", {"scales": 3}), ("pixelsnail", {})])
def test_causality_is_proved(kind, sizes):
    report = genfast.check_causality(model(kind, (3, 5, 6), **sizes)[0])
    assert report.ok
    if kind == "pixelsnail":  # attention sees every earlier pixel
        earlier = np.arange(30).reshape(5, 6) < 4 * 6 + 3
        assert np.array_equal(report.field_of(0, 4, 3).all(0), earlier)


# ---- mixtures of logistics ----


def test_frequencies():
    """Two levels of one pixel: the loop's counts are those of the likelihood."""
    made, _ = model("pixelcnn-pp", (1, 1, 2), levels=2)
    sampler = genfast.compile_sampler(made, engine="cpu")
    every = torch.cartesian_prod(torch.arange(2), torch.arange(2)).reshape(4, 1, 1, 2)
    expected = made.log_prob(every).exp().detach()
    drawn = sampler.sample(20_000, batch_size=20_000).flatten(1).long()
    counts = torch.bincount(2 * drawn[:, 0] + drawn[:, 1], minlength=4) / 20_000
    torch.testing.assert_close(counts, expected, rtol=0, atol=0.015)


def test_the_least_scale_is_the_likelihoods():
    """A plan does not say it; the engine asks the model's likelihood."""
    made, _ = model("pixelcnn-pp", (1, 4, 4))
    made.likelihood = LogisticMixture(1, 256, 3, min_log_scale=-0.5)
    sampler = genfast.compile_sampler(made, engine="cpu")
    drawn = sampler.sample(N)
    assert torch.equal(drawn, naive.sample(made, N))
    torch.testing.assert_close(sampler.log_prob(drawn), made.log_prob(drawn).double(), rtol=1e-5, atol=1e-4)


def test_diverged_weights_are_refused():
    made, _ = model("pixelcnn-pp", (1, 4, 4))
    sampler = genfast.compile_sampler(made, engine="cpu")
    with torch.no_grad():
        made.head.bias[0] = float("nan")
    with pytest.raises(GenfastError, match="NaN"):
        sampler.sample(N)


def test_too_many_components_are_refused():
    made, _ = model("pixelcnn-pp", (1, 2, 2), components=257, scales=1)
    with pytest.raises(GenfastError, match="at most 256 components, not 257"):
        genfast.compile_sampler(made, engine="cpu")


# ---- attention ----


def test_float64():
    """The eager engine equals the model to the rounding of float64."""
    made, _ = model("pixelsnail", (1, 6, 5), 2, heads=2)
    made.double()
    images = torch.randint(0, 2, (N, 1, 6, 5))
    params, expected = genfast.compile_sampler(made, engine="eager").logits(images), made(images)
    assert float((params - expected).abs().max()) < 1e-12 * float(expected.abs().max())


@pytest.mark.parametrize("engine", ["eager", "cpu"])
def test_bfloat16_rounds_the_products_of_convolutions(engine):
    """Attention stays in float32; both engines draw what a loop over the rounded network would."""
    made, _ = model("pixelsnail", (1, 5, 5), 2)
    sampler = genfast.compile_sampler(made, engine=engine, precision="bfloat16")
    images = torch.randint(0, 2, (N, 1, 5, 5))
    exact, rough = made(images), sampler.logits(images)
    assert 1e-5 < float((rough - exact).abs().max()) < 0.05 * float(exact.abs().max())
    torch.testing.assert_close(
        rough, genfast.compile_sampler(made, engine="eager", precision="bfloat16").logits(images), rtol=1e-2, atol=2e-3
    )


def test_unfilled_keys_and_values_are_never_read():
    """Caches start as NaN: a plan that looks at a pixel before it is drawn would show."""
    from genfast.sampling.cpu import CpuEngine

    made, _ = model("pixelsnail", (1, 4, 5), 17)
    program = compile_module(model_target(made))
    assert sum(isinstance(step, Attend) for step in program.steps) == 2
    plan = schedule(program)
    asked = dataclasses.replace(request(plan.program, 3), conditions=())
    CpuEngine(plan, 2, likelihood=made.likelihood).start(asked, poison=True).until_row(3)
    assert asked.params is not None
    assert bool(asked.params.isfinite().all())
    assert np.unique(asked.images.numpy()).size > 1
