"""The sampler: engines, chunks, log-probabilities, and every sentence it refuses with."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from genfast.errors import GenfastError, NotSupported
from genfast.likelihoods import bits_per_dim
from genfast.sampling import compile_sampler, naive

LOOPS = ["naive", "jacobi"]
ENGINES = [*LOOPS, "eager", "cpu"]


def test_engines(rgb: Any) -> None:
    assert compile_sampler(rgb).engine == "cpu"
    for engine in ENGINES:
        sampler = compile_sampler(rgb, engine=engine)
        assert sampler.engine == sampler.stats.engine == engine
        assert sampler.reason == ""
        assert torch.equal(sampler.sample(3, seed=8), naive.sample(rgb, 3, seed=8))
        assert sampler.stats.images == 3
        assert (sampler.stats.passes > 1) == (engine in LOOPS)
        assert (sampler.stats.steps > 1) == (sampler.stats.flops > 1) == (engine not in LOOPS)
    assert repr(compile_sampler(rgb)) == "Sampler(TinyModel, engine='cpu')"
    with pytest.raises(
        GenfastError, match="Unknown engine 'warp': choose auto, naive, jacobi, eager, cpu, triton or cuda"
    ):
        compile_sampler(rgb, engine="warp")
    with pytest.raises(NotSupported, match="The cuda engine has no tf32: use engine='triton'"):
        compile_sampler(rgb, engine="cuda", precision="tf32")
    with pytest.raises(GenfastError, match="cannot be sampled"):
        compile_sampler(nn.Linear(2, 2))  # type: ignore[arg-type]


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("batch_size", [1, 3, 7, 100])
def test_images_do_not_depend_on_chunks(rgb: Any, engine: str, batch_size: int) -> None:
    sampler = compile_sampler(rgb, engine)
    condition = torch.tensor([0, 1, 2, 3, 4, 0, 1])
    whole = naive.sample(rgb, 7, seed=1, first=5, condition=condition)
    rgb.seen.clear()
    out = sampler.sample(7, seed=1, first=5, condition=condition, batch_size=batch_size)
    assert torch.equal(out, whole)
    assert sampler.stats.images == 7
    if engine in LOOPS:
        assert max(rgb.seen) == min(batch_size, 7)
        assert sampler.stats.passes == len(rgb.seen)
    assert torch.equal(sampler.sample(2, seed=1, first=8, condition=condition[3:5]), whole[3:5])


@pytest.mark.parametrize("engine", ENGINES)
def test_completion_in_chunks(rgb: Any, engine: str) -> None:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 5, (5, 3, 3, 4), generator=generator)
    known = torch.rand(5, 1, 3, 4, generator=generator) < 0.5
    expected = naive.complete(rgb, images, known, seed=2)
    before = images.clone()
    assert torch.equal(compile_sampler(rgb, engine).complete(images, known, seed=2, batch_size=2), expected)
    assert torch.equal(compile_sampler(rgb, engine).complete(images, known[0, 0], seed=2)[0], expected[0])
    assert torch.equal(images, before)


@pytest.mark.parametrize("engine", ENGINES)
def test_on_row_shows_all_images(bernoulli: Any, engine: str) -> None:
    frames: list[torch.Tensor] = []
    out = compile_sampler(bernoulli, engine).sample(5, on_row=frames.append, batch_size=2)
    assert len(frames) == 3 * 4
    assert all(frame.shape == out.shape for frame in frames)
    assert torch.equal(frames[-1], out)
    assert torch.equal(frames[4][:2], out[:2])  # the first chunk is complete, the second has one row
    assert torch.equal(frames[4][2:4, :, :1], out[2:4, :, :1])
    assert not frames[4][2:4, :, 1:].any()
    assert not frames[4][4:].any()


def test_log_prob_and_logits(tiny: Callable[..., Any]) -> None:
    for model in (tiny((3, 3, 4), 5), tiny((1, 4, 5), 2, "bernoulli")):
        sampler = compile_sampler(model)
        images = sampler.sample(5)
        condition = torch.tensor([0, 1, 2, 3, 4])
        model.eval()
        with torch.no_grad():
            params = model(images, condition)
            expected = model.likelihood.log_prob_map(params, images).double().sum((1, 2, 3))
        model.train()
        nats = sampler.log_prob(images, condition, batch_size=2)
        assert nats.dtype == torch.float64
        assert model.training
        torch.testing.assert_close(nats, expected, rtol=1e-6, atol=1e-6)
        torch.testing.assert_close(sampler.log_prob(images.long(), condition), nats, rtol=1e-6, atol=1e-6)
        torch.testing.assert_close(sampler.logits(images, condition, batch_size=2), params)
        assert not nats.is_inference()
        assert not sampler.logits(images).is_inference()
        assert sampler.log_prob(images[:0]).shape == (0,)


def test_probabilities_of_all_images_sum_to_one(tiny: Callable[..., Any]) -> None:
    model = tiny((3, 1, 2), 2, "bernoulli")
    every = torch.cartesian_prod(*[torch.arange(2)] * 6).view(64, 3, 1, 2)
    nats = compile_sampler(model).log_prob(every, batch_size=7)
    assert nats.exp().sum().item() == pytest.approx(1, abs=1e-6)
    assert bits_per_dim(-nats, model.image_shape).mean().item() == pytest.approx(-nats.mean().item() / 6 / math.log(2))


def test_samples_can_be_trained_on(bernoulli: Any) -> None:
    images = compile_sampler(bernoulli).sample(2)
    bernoulli.likelihood.log_prob(bernoulli(images), images).sum().backward()
    assert bernoulli.last.weight.grad is not None


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"n": 0}, "at least 1, not 0"),
        ({"n": -3}, "at least 1, not -3"),
        ({"n": 2, "seed": -1}, "seed must be"),
        ({"n": 2, "first": -1}, "Images are numbered"),
        ({"n": 2, "temperature": -1}, "temperature must be"),
        ({"n": 2, "top_k": 0}, "top_k must be"),
        ({"n": 2, "top_p": 2}, "top_p must be"),
        ({"n": 2, "batch_size": 0}, "batch size must be"),
        ({"n": 2, "condition": torch.zeros(1)}, "1 rows for 2 images"),
    ],
)
def test_bad_samples(bernoulli: Any, engine: str, options: dict[str, Any], sentence: str) -> None:
    sampler = compile_sampler(bernoulli, engine)
    bernoulli.seen.clear()
    with pytest.raises(GenfastError, match=sentence):
        sampler.sample(**options)
    assert bernoulli.seen == []


def test_bad_scores(bernoulli: Any) -> None:
    sampler = compile_sampler(bernoulli)
    bernoulli.seen.clear()
    images = torch.zeros(2, 1, 4, 5, dtype=torch.uint8)
    for method in (sampler.log_prob, sampler.logits):
        with pytest.raises(GenfastError, match="must hold levels 0 to 1, but they hold 3"):
            method(images + 3)
        with pytest.raises(GenfastError, match="must have the shape"):
            method(images[:, 0])
        with pytest.raises(GenfastError, match="integer levels"):
            method(images.float())
        with pytest.raises(GenfastError, match="4 rows for 2 images"):
            method(images, torch.zeros(4))
        with pytest.raises(GenfastError, match="batch size must be"):
            method(images, batch_size=-1)
    with pytest.raises(GenfastError, match="the batch is empty"):
        sampler.logits(images[:0])
    assert bernoulli.seen == []
    with torch.no_grad():
        bernoulli.last.bias.fill_(float("nan"))
    for engine in ENGINES:
        with pytest.raises(GenfastError, match="NaN"):
            compile_sampler(bernoulli, engine).log_prob(images)
    with pytest.raises(GenfastError, match="NaN"):
        sampler.log_prob(images)  # it notices the new weights
