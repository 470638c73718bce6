"""The Gaussian density over levels: value, constant, mean, and draws."""

import math

import pytest
import torch
from torch.distributions import Normal
from torch.nn import functional as F

from genfast.errors import GenfastError
from genfast.likelihoods import Bernoulli, Categorical, Gaussian


def example(channels: int = 2, levels: int = 9) -> tuple[Gaussian, torch.Tensor, torch.Tensor]:
    likelihood = Gaussian(channels, levels)
    out = torch.randn(3, likelihood.param_channels, 4, 5, dtype=torch.float64)
    return likelihood, likelihood.unpack(out), torch.randint(0, levels, (3, channels, 4, 5))


def test_against_torch_distributions() -> None:
    likelihood, params, images = example()
    mean, deviation = (params[:, 0] + 1) * 4, (4 * F.softplus(params[:, 1])).clamp(min=0.5)
    expected = Normal(mean, deviation).log_prob(images.double())
    torch.testing.assert_close(likelihood.log_prob_map(params, images), expected)
    torch.testing.assert_close(likelihood.log_prob(params, images), expected.sum((1, 2, 3)))


def test_the_constant_is_there() -> None:
    """At the mean the density is 1 / (deviation sqrt(2 pi)): here the deviation is the finest, half a level."""
    params = torch.tensor([-1.0, -50.0]).view(1, 2, 1, 1, 1)
    nats = Gaussian(1, 256).log_prob(params, torch.zeros(1, 1, 1, 1, dtype=torch.uint8))
    assert nats.item() == pytest.approx(-math.log(0.5) - 0.5 * math.log(2 * math.pi))


def test_one_sub_pixel_at_the_end_and_gradients() -> None:
    likelihood = Gaussian(3, 5)
    out = torch.randn(2, 6, 2, 3, dtype=torch.float64, requires_grad=True)
    params = likelihood.unpack(out)
    assert params.shape == (2, 2, 3, 2, 3)
    assert torch.equal(params[:, :, 1, 0, 2], out[:, 2:4, 0, 2])  # grouped by colour
    images = torch.randint(0, 5, (2, 3, 2, 3))
    assert torch.autograd.gradcheck(lambda o: likelihood.log_prob(likelihood.unpack(o), images), (out,))
    with pytest.raises(GenfastError, match="unpacks"):
        likelihood.unpack(out[:, :5])


def test_draws_follow_the_density_at_the_levels() -> None:
    """A narrow density is drawn at its mean, a wide one as often as the density says."""
    likelihood = Gaussian(1, 9)
    narrow = torch.tensor([0.25, -50.0]).view(1, 2, 1, 1, 1)
    assert likelihood.draw(narrow, torch.full((1, 1, 1, 1), 0.5, dtype=torch.float64)).item() == 5
    wide = torch.tensor([0.0, 0.5], dtype=torch.float64).view(1, 2, 1, 1, 1).expand(1, 2, 1, 100, 100)
    uniforms = ((torch.arange(10000, dtype=torch.float64) + 0.5) / 10000).view(1, 1, 100, 100)
    counts = likelihood.draw(wide, uniforms).flatten().bincount(minlength=9) / 10000
    density = Normal(4.0, 4 * F.softplus(torch.tensor(0.5))).log_prob(torch.arange(9.0)).exp()
    torch.testing.assert_close(counts, density / density.sum(), rtol=0, atol=2e-4)


def test_means_of_all_likelihoods() -> None:
    logits = torch.randn(2, 3, 4, 5)
    torch.testing.assert_close(Bernoulli(3).mean(logits), logits.sigmoid())
    params = torch.randn(2, 7, 3, 4, 5)
    levels = torch.arange(7.0).view(7, 1, 1, 1)
    torch.testing.assert_close(Categorical(3, 7).mean(params), (params.softmax(1) * levels).sum(1))
    likelihood, params, _ = example()
    torch.testing.assert_close(likelihood.mean(params), ((params[:, 0] + 1) * 4).clamp(0, 8))
