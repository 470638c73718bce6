"""Log-probabilities: against torch.distributions, and summing to one."""

import math

import pytest
import torch

from genfast.errors import GenfastError
from genfast.likelihoods import Bernoulli, Categorical, Likelihood, bits_per_dim, check_images, make_likelihood, trusted

KINDS = [Bernoulli(1), Bernoulli(3), Categorical(1, 2), Categorical(1, 5), Categorical(3, 4), Categorical(3, 256)]


def example(
    likelihood: Likelihood, scale: float = 3.0, shape: tuple[int, ...] = (2, 3, 2)
) -> tuple[torch.Tensor, torch.Tensor]:
    b, h, w = shape
    generator = torch.Generator().manual_seed(likelihood.param_channels)
    out = torch.randn(b, likelihood.param_channels, h, w, generator=generator) * scale
    images = torch.randint(0, likelihood.levels, (b, likelihood.channels, h, w), generator=generator)
    return out, images


@pytest.mark.parametrize("likelihood", KINDS, ids=str)
@pytest.mark.parametrize("scale", [1.0, 1e4, 1e30])
def test_probabilities_of_all_levels_sum_to_one(likelihood: Likelihood, scale: float) -> None:
    out, images = example(likelihood, scale)
    params = likelihood.unpack(out)
    levels = range(likelihood.levels)
    total = sum(likelihood.log_prob_map(params, torch.full_like(images, level)).double().exp() for level in levels)
    torch.testing.assert_close(total, torch.ones_like(total), rtol=0, atol=2e-5)


@pytest.mark.parametrize("likelihood", KINDS, ids=str)
def test_against_torch_distributions(likelihood: Likelihood) -> None:
    out, images = example(likelihood)
    params = likelihood.unpack(out.double())
    if isinstance(likelihood, Bernoulli):
        expected = torch.distributions.Bernoulli(logits=out.double()).log_prob(images.double())
    else:
        b, _, h, w = out.shape
        logits = out.double().view(b, likelihood.channels, likelihood.levels, h, w).movedim(2, -1)  # grouped by colour
        expected = torch.distributions.Categorical(logits=logits).log_prob(images)
    torch.testing.assert_close(likelihood.log_prob_map(params, images), expected)
    torch.testing.assert_close(likelihood.log_prob(params, images), expected.sum((1, 2, 3)))
    assert torch.equal(likelihood.log_prob(params, images.to(torch.uint8)), likelihood.log_prob(params, images))


@pytest.mark.parametrize("likelihood", KINDS, ids=str)
def test_unpack_gives_one_sub_pixel_at_the_end(likelihood: Likelihood) -> None:
    out, _ = example(likelihood)
    params = likelihood.unpack(out)
    assert params.shape[-3:] == (likelihood.channels, 3, 2)
    for c in range(likelihood.channels):
        per = likelihood.param_channels // likelihood.channels
        mine = out[:, c * per : (c + 1) * per, 2, 1]
        assert torch.equal(params[..., c, 2, 1].reshape(2, per), mine)
    assert likelihood.level_logits(params[..., 0, 2, 1]).shape == (2, likelihood.levels)


@pytest.mark.parametrize("likelihood", [Bernoulli(2), Categorical(2, 3)], ids=str)
def test_gradients(likelihood: Likelihood) -> None:
    out, images = example(likelihood)
    out = out.double().requires_grad_()
    assert torch.autograd.gradcheck(lambda o: likelihood.log_prob(likelihood.unpack(o), images), (out,))


def test_half_precision_is_summed_in_float32() -> None:
    for likelihood in (Bernoulli(1), Categorical(1, 4)):
        out, images = example(likelihood)
        low = out.to(torch.bfloat16)
        nats = likelihood.log_prob(likelihood.unpack(low), images)
        torch.testing.assert_close(nats, likelihood.log_prob(likelihood.unpack(low.float()), images))  # dtype included


def test_extreme_logits_stay_finite() -> None:
    one = torch.ones(1, 1, 1, 1, dtype=torch.int64)
    assert Bernoulli(1).log_prob(torch.full((1, 1, 1, 1), -1e30), one).item() == pytest.approx(-1e30)
    assert Bernoulli(1).log_prob(torch.full((1, 1, 1, 1), 1e30), one).item() == 0
    params = torch.zeros(1, 256, 1, 1, 1)
    params[:, 7] = 1e30
    assert Categorical(1, 256).log_prob(params, one * 7).item() == 0
    assert Categorical(1, 256).log_prob(params, one).item() == pytest.approx(-1e30)


def test_empty_batch() -> None:
    for likelihood in (Bernoulli(1), Categorical(3, 4)):
        out, images = example(likelihood, shape=(0, 3, 2))
        assert likelihood.log_prob(likelihood.unpack(out), images).shape == (0,)


def test_bits_per_dim() -> None:
    uniform = 3 * 4 * 5 * math.log(256)
    assert bits_per_dim(uniform, (3, 4, 5)) == pytest.approx(8)
    torch.testing.assert_close(bits_per_dim(torch.tensor([uniform, 0.0]), (3, 4, 5)), torch.tensor([8.0, 0.0]))


def test_make_likelihood() -> None:
    assert make_likelihood("bernoulli", 1, 2) == Bernoulli(1)
    assert make_likelihood("categorical", 3, 256) == Categorical(3, 256)
    with pytest.raises(GenfastError, match="Unknown likelihood .poisson.: choose bernoulli"):
        make_likelihood("poisson", 1, 2)
    with pytest.raises(GenfastError, match="for 2 levels, not 4"):
        make_likelihood("bernoulli", 1, 4)
    with pytest.raises(GenfastError, match="2 to 16384 levels, not 16385"):
        make_likelihood("categorical", 1, 16385)
    with pytest.raises(GenfastError, match="2 to 16384 levels, not 1"):
        make_likelihood("categorical", 1, 1)
    with pytest.raises(GenfastError, match="2 to 256 levels, not 257"):
        make_likelihood("discretized_logistic", 1, 257)
    with pytest.raises(GenfastError, match="at least one channel"):
        make_likelihood("categorical", 0, 4)


@pytest.mark.parametrize("likelihood", [Bernoulli(3), Categorical(3, 4)], ids=str)
def test_bad_input_is_refused_in_a_sentence(likelihood: Likelihood) -> None:
    out, images = example(likelihood)
    params = likelihood.unpack(out)
    with pytest.raises(GenfastError, match="must hold levels 0 to"):
        likelihood.log_prob(params, images + likelihood.levels)
    with pytest.raises(GenfastError, match="but they hold -1"):
        likelihood.log_prob(params, torch.full_like(images, -1))
    with pytest.raises(GenfastError, match="integer levels"):
        likelihood.log_prob(params, images.float())
    with pytest.raises(GenfastError, match=r"must have the shape \[B, 3, 3, 2\]"):
        likelihood.log_prob(params, images[:, :1])
    with pytest.raises(GenfastError, match="2 sets of parameters for 1 images"):
        likelihood.log_prob(params, images[:1])
    with pytest.raises(GenfastError, match="unpacks"):
        likelihood.unpack(out[:, 1:])
    with pytest.raises(GenfastError, match="see unpack"):
        likelihood.log_prob(params[:, 1:], images)


def test_trusted_images_are_not_looked_at() -> None:
    """On a GPU that would be a wait; shapes, which cost nothing, are checked all the same."""
    wrong = torch.full((2, 1, 3, 3), 7)
    with trusted():
        check_images(wrong, (1, 3, 3), 2)
        with pytest.raises(GenfastError, match="shape"):
            check_images(wrong, (1, 3, 4), 2)
    with pytest.raises(GenfastError, match="levels 0 to 1"):
        check_images(wrong, (1, 3, 3), 2)


def test_check_images() -> None:
    check_images(torch.full((2, 1, 3, 3), 255, dtype=torch.uint8), (1, 3, 3), 256)
    check_images(torch.zeros(0, 1, 3, 3, dtype=torch.int64), (1, 3, 3), 2)
    with pytest.raises(GenfastError, match="not list"):
        check_images([[0]], (1, 3, 3), 2)  # type: ignore[arg-type]
    with pytest.raises(GenfastError, match="levels 0 to 1, but they hold 255"):
        check_images(torch.full((2, 1, 3, 3), 255, dtype=torch.uint8), (1, 3, 3), 2)
