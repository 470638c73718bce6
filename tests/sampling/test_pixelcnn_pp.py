"""PixelCNN++ by every engine: the naive loop's images, the model's likelihood, to the bit where that is promised."""

import pytest
import torch
from torch import Tensor

import genfast
from genfast.errors import GenfastError
from genfast.likelihoods import LogisticMixture
from genfast.models import PixelCNNPP, PixelCNNPPConfig
from genfast.sampling import naive

pytest.importorskip("genfast._C")
torch.set_num_threads(1)

N = 5


def model(shape: tuple[int, int, int], levels: int = 256, **values: object) -> tuple[PixelCNNPP, Tensor | None]:
    """A model initialised by noise, and a condition for N images."""
    torch.manual_seed(0)
    sizes = {"filters": 6, "resnets": 1, "components": 3, "scales": 2, **values}
    made = PixelCNNPP(PixelCNNPPConfig(shape, levels, **sizes))  # type: ignore[arg-type]
    condition = None
    if made.num_classes is not None:
        condition = torch.arange(32) % made.num_classes
    if made.condition_dim is not None:
        condition = torch.randn(32, made.condition_dim)
    made.initialize(torch.randint(0, levels, (32, *shape)), condition)
    return made.eval(), None if condition is None else condition[:N]


CASES = [
    ((1, 8, 8), {"scales": 3}), ((3, 7, 5), {}), ((3, 4, 4), {"num_classes": 3}), ((3, 5, 1), {"condition_dim": 2}),
    ((3, 1, 3), {"scales": 1}), ((1, 1, 1), {}), ((1, 5, 4), {"levels": 2}), ((3, 3, 4), {"components": 1}),
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


@pytest.mark.parametrize("options", [
    {"temperature": 0.6}, {"temperature": 0.0}, {"top_k": 5}, {"top_p": 0.5, "temperature": 1.5},
], ids=str)  # fmt: skip
@pytest.mark.parametrize("engine", ["eager", "cpu"])
def test_options(engine, options):
    made, _ = model((3, 4, 5))
    sampler = genfast.compile_sampler(made, engine=engine)
    drawn = sampler.sample(N, seed=3, **options)
    assert torch.equal(drawn, naive.sample(made, N, seed=3, **options))
    assert not torch.equal(drawn, sampler.sample(N, seed=3))


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
    made, _ = model((3, 6, 6), filters=20)
    one = genfast.compile_sampler(made, engine="cpu", threads=1)
    whole = one.sample(7)
    nats = one.last_log_prob
    for threads, batch in ((1, 1), (2, 7), (3, 2), (4, 1)):
        other = genfast.compile_sampler(made, engine="cpu", threads=threads)
        assert torch.equal(other.sample(7, batch_size=batch), whole)
        assert torch.equal(other.last_log_prob, nats)
        assert torch.equal(other.log_prob(whole, batch_size=batch), nats)


def test_frequencies():
    """Two levels of one pixel: the loop's counts are those of the likelihood."""
    made, _ = model((1, 1, 2), levels=2)
    sampler = genfast.compile_sampler(made, engine="cpu")
    every = torch.cartesian_prod(torch.arange(2), torch.arange(2)).reshape(4, 1, 1, 2)
    expected = made.log_prob(every).exp().detach()
    drawn = sampler.sample(20_000, batch_size=20_000).flatten(1).long()
    counts = torch.bincount(2 * drawn[:, 0] + drawn[:, 1], minlength=4) / 20_000
    torch.testing.assert_close(counts, expected, rtol=0, atol=0.015)


def test_weights_that_change_are_noticed():
    made, _ = model((1, 4, 4))
    sampler = genfast.compile_sampler(made, engine="cpu")
    before = sampler.sample(N)
    with torch.no_grad():
        made.head.bias.add_(0.5)
    assert not torch.equal(sampler.sample(N), before)
    assert torch.equal(sampler.sample(N), naive.sample(made, N))


def test_the_least_scale_is_the_likelihoods():
    """A plan does not say it; the engine asks the model's likelihood."""
    made, _ = model((1, 4, 4))
    made.likelihood = LogisticMixture(1, 256, 3, min_log_scale=-0.5)
    sampler = genfast.compile_sampler(made, engine="cpu")
    drawn = sampler.sample(N)
    assert torch.equal(drawn, naive.sample(made, N))
    torch.testing.assert_close(sampler.log_prob(drawn), made.log_prob(drawn).double(), rtol=1e-5, atol=1e-4)


def test_diverged_weights_are_refused():
    made, _ = model((1, 4, 4))
    sampler = genfast.compile_sampler(made, engine="cpu")
    with torch.no_grad():
        made.head.bias[0] = float("nan")
    with pytest.raises(GenfastError, match="NaN"):
        sampler.sample(N)


def test_too_many_components_are_refused():
    made, _ = model((1, 2, 2), components=257, scales=1)
    with pytest.raises(GenfastError, match="at most 256 components, not 257"):
        genfast.compile_sampler(made, engine="cpu")


def test_causality_is_proved():
    report = genfast.check_causality(model((3, 5, 6), scales=3)[0])
    assert report.ok
