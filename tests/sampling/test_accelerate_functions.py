"""accelerate: a likelihood that is somebody's function, called back wherever levels are drawn."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import genfast
from genfast.errors import GenfastError
from genfast.likelihoods import DiscretizedLogistic, Drawn, LogisticMixture
from genfast.sampling import noise
from tests.compiler.networks_inputs import Colours
from tests.compiler.networks_masks import DataMask, PlainStack
from tests.compiler.pattern import randomise
from tests.sampling.modules import ENGINES, RGB, SHAPE, Arranged, first, loop, unit


@pytest.fixture
def stack() -> nn.Module:
    torch.manual_seed(0)
    return randomise(PlainStack()).eval()


def inverse(params: Tensor, uniforms: Tensor) -> Tensor:
    """Levels by inverting the distribution function, as somebody may write it."""
    return (params.double().softmax(1).cumsum(1) <= uniforms.reshape(-1, 1)).sum(1)


@pytest.mark.parametrize("engine", ENGINES)
def test_a_function_draws(engine: str, stack: nn.Module) -> None:
    calls: list[tuple[int, ...]] = []

    def sample(params: Tensor, uniforms: Tensor) -> Tensor:
        calls.append((*params.shape, *uniforms.shape))
        return inverse(params, uniforms)

    sampler = genfast.accelerate(stack, SHAPE, sample, levels=3, engine=engine, threads=1)
    expected = loop(lambda images: stack(unit(3)(images)), first, SHAPE, levels=3)
    assert torch.equal(sampler.sample(3, seed=5), expected)
    assert sampler.last_log_prob is None
    if engine in ("cpu", "eager"):
        assert calls == [(3, 3, 3, 1)] * 20  # once a pixel
    known = torch.zeros(5, 4, dtype=torch.bool)
    known[1] = True
    assert torch.equal(sampler.complete(expected, known, seed=5)[:, :, 1], expected[:, :, 1])
    with pytest.raises(GenfastError, match="temperature, top_k and top_p belong inside it"):
        sampler.sample(1, temperature=0.5)
    with pytest.raises(GenfastError, match=r"Drawn\(..., score=...\)"):
        sampler.log_prob(expected)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("threads", [1, 2])
def test_whole_pixels(engine: str, threads: int) -> None:
    """Three colours at a time from 20 numbers, and a log-probability of their own."""
    torch.manual_seed(0)
    module = randomise(nn.Sequential(DataMask("A", 3, 6, 3, padding=1), nn.Tanh(), nn.Conv2d(6, 20, 1))).eval()
    mixture = LogisticMixture(3, 256, components=2)
    calls: list[tuple[int, ...]] = []

    def sample(params: Tensor, uniforms: Tensor) -> Tensor:
        calls.append((*params.shape, *uniforms.shape))
        return mixture.draw_pixels(params, uniforms)

    def score(params: Tensor, levels: Tensor) -> Tensor:
        return mixture.log_prob_pixels(params[..., None, None], levels[..., None, None])

    expected = torch.zeros(3, *RGB, dtype=torch.uint8)
    uniforms = noise.uniforms(5, 0, 3, RGB)
    for y in range(3):
        for x in range(4):
            with torch.no_grad():
                out = module(unit(256)(expected) * 2 - 1)[:, :, y, x]
            expected[:, :, y, x] = mixture.draw_pixels(out, uniforms[:, :, y, x]).to(torch.uint8)
    for likelihood in (sample, Drawn(3, 256, sample, score=score)):
        sampler = genfast.accelerate(module, RGB, likelihood, encode="signed", engine=engine, threads=threads)
        assert torch.equal(sampler.sample(3, seed=5), expected)
    if engine in ("cpu", "eager"):
        apart = engine == "cpu" and threads == 2  # each thread with its own images
        assert {call[0] for call in calls} == ({1, 2} if apart else {3})
    with torch.no_grad():
        nats = mixture.log_prob_pixels(module(unit(256)(expected) * 2 - 1), expected).flatten(1).sum(1)
    torch.testing.assert_close(sampler.log_prob(expected), nats.double(), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("engine", ENGINES)
def test_a_function_with_more_uniforms_than_colours(engine: str, stack: nn.Module) -> None:
    """The component of a mixture by one uniform, the level by another."""

    def sample(params: Tensor, uniforms: Tensor) -> Tensor:
        assert uniforms.shape == (len(params), 2)
        return ((inverse(params, uniforms[:, 0]) + (uniforms[:, 1] * 3).long()) % 3)[:, None]

    likelihood = Drawn(1, 3, sample, uniforms_per_pixel=2)
    images = genfast.accelerate(stack, SHAPE, likelihood, engine=engine).sample(3, seed=5)
    assert torch.equal(images, genfast.accelerate(stack, SHAPE, likelihood, engine="naive").sample(3, seed=5))


def test_a_function_of_sub_pixels() -> None:
    """A pick with four arguments, and the colours of the network in their order; other likelihoods the same way."""
    torch.manual_seed(0)
    module = randomise(Colours(False)).eval()
    choose = lambda out, y, x, c: out[:, 4 * c : 4 * c + 4, y, x]  # noqa: E731
    expected = loop(lambda images: module(unit(4)(images)), choose, RGB)
    for engine in ENGINES:
        sampler = genfast.accelerate(module, RGB, inverse, levels=4, pick=choose, engine=engine)
        assert torch.equal(sampler.sample(3, seed=5), expected)
    two = Arranged(module, lambda out: out[:, [0, 1, 4, 5, 8, 9]]).eval()
    logistic = DiscretizedLogistic(3, 256)
    images = genfast.accelerate(two, RGB, logistic).sample(3, seed=5)
    assert torch.equal(images, genfast.accelerate(two, RGB, logistic, engine="naive").sample(3, seed=5))


@pytest.mark.parametrize(
    ("function", "sentence"),
    [
        (lambda p, u: p.nope, "function fails on params .*AttributeError"),
        (lambda p, u: u + 0.5, "not whole"),
        (lambda p, u: torch.full((len(p),), 3), "levels 0 to 2, but it gave 3"),
        (lambda p, u: torch.full((len(p),), -1), "levels 0 to 2, but it gave -1"),
        (lambda p, u: p, r"must give levels \[\d+, 1\], not \[\d+, 3\]"),
        (lambda p, u: None, "not NoneType"),
    ],
)
@pytest.mark.parametrize("engine", ENGINES)
def test_functions_that_do_not_draw(function: Any, sentence: str, engine: str, stack: nn.Module) -> None:
    sampler = genfast.accelerate(stack, SHAPE, function, levels=3, engine=engine, threads=1)
    with pytest.raises(GenfastError, match=sentence):
        sampler.sample(2)
