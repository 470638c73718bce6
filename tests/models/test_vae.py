"""The VAE against what is known in closed form."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Independent, MultivariateNormal, Normal, kl_divergence

from genfast.errors import GenfastError
from genfast.likelihoods import bits_per_dim
from genfast.models import VAE, VAEConfig
from genfast.models.kl import KLSchedule, gaussian_kl
from genfast.models.vae import bound, smaller


def tiny(**settings: object) -> VAE:
    torch.manual_seed(0)
    values = {"levels": 2, "network": "mlp", "latent": 3, "hidden": 8, **settings}
    return VAE(VAEConfig((1, 4, 5), **values)).double()  # type: ignore[arg-type]


def pictures(n: int = 6, levels: int = 2) -> Tensor:
    return torch.randint(0, levels, (n, 1, 4, 5), generator=torch.Generator().manual_seed(1))


# ---- the KL divergence ----


def test_kl_against_torch_distributions() -> None:
    mean, log_variance = torch.randn(7, 5, dtype=torch.float64), 3 * torch.randn(7, 5, dtype=torch.float64)
    expected = kl_divergence(Normal(mean, (0.5 * log_variance).exp()), Normal(torch.zeros(1), torch.ones(1)))
    torch.testing.assert_close(gaussian_kl(mean, log_variance), expected)
    assert gaussian_kl(torch.zeros(1), torch.zeros(1)).item() == 0
    assert torch.autograd.gradcheck(gaussian_kl, (mean.requires_grad_(), log_variance.requires_grad_()))


def test_the_kl_is_not_lost_near_the_prior() -> None:
    """variance - 1 - ln variance is about (ln variance)^2 / 2, which float32 loses if 1 is subtracted after exp."""
    small = torch.tensor(1e-3)
    assert gaussian_kl(torch.tensor(0.0), small).item() == pytest.approx(1e-6 / 4, rel=1e-2)


def test_the_schedule() -> None:
    kl = torch.tensor([[0.1, 2.0], [0.3, 4.0]])
    assert [KLSchedule(2.0, warmup_steps=4).weight(step) for step in (0, 1, 4, 9)] == [0, 0.5, 2, 2]
    assert KLSchedule().weight(0) == 1
    torch.testing.assert_close(KLSchedule()(kl, 0), torch.tensor([2.1, 4.3]))
    torch.testing.assert_close(KLSchedule(beta=3.0, warmup_steps=2)(kl, 1), 1.5 * torch.tensor([2.1, 4.3]))
    torch.testing.assert_close(KLSchedule(free_bits=0.5)(kl, 0), torch.tensor([3.5, 3.5]))  # means 0.2 -> 0.5, and 3


def test_free_bits_stop_the_gradient_of_cheap_dimensions() -> None:
    kl = torch.tensor([[0.1, 2.0], [0.3, 4.0]], requires_grad=True)
    KLSchedule(free_bits=0.5)(kl, 0).mean().backward()
    assert torch.equal(kl.grad, torch.tensor([[0.0, 0.5], [0.0, 0.5]]))


def test_the_loss_is_what_the_schedule_says() -> None:
    for settings in ({}, {"beta": 4.0}, {"beta": 2.0, "kl_warmup_steps": 10}, {"free_bits": 0.3}):
        model, images = tiny(**settings), pictures()
        torch.manual_seed(3)
        params, mean, log_variance = model(images)
        torch.manual_seed(3)
        loss, logged = model.training_loss(images, None, 5)
        reconstruction = -model.likelihood.log_prob(params, images)
        paid = model.config.schedule(gaussian_kl(mean, log_variance), 5)
        torch.testing.assert_close(loss, bits_per_dim(reconstruction + paid, (1, 4, 5)), check_dtype=False)
        torch.testing.assert_close(logged["negative_elbo"], logged["reconstruction"] + logged["kl"])


# ---- bounds ----


def linear_gaussian(latent: int = 3) -> tuple[VAE, MultivariateNormal, Tensor]:
    """A VAE whose decoder is linear in z with Gaussian pixels, its evidence, and its exact posterior's parameters.

    x = W z + b + noise, so x ~ N(b, W W' + s^2). With orthogonal columns of W the exact posterior is diagonal:
    variance 1 / (1 + |w|^2 / s^2), mean = variance * W'(x - b) / s^2.
    """
    model = tiny(levels=9, latent=latent, likelihood="gaussian")
    pixels, half, deviation = 20, 4.0, 1.5
    basis = torch.linalg.qr(torch.randn(pixels, latent, dtype=torch.float64)).Q
    weight = basis * torch.tensor([6.0, 3.0, 1.0], dtype=torch.float64)[:latent]  # in levels
    s = math.log(math.expm1(deviation / half))  # the inverse of softplus
    model.decoder = nn.Sequential(nn.Linear(latent, 2 * pixels), nn.Unflatten(1, (2, 4, 5))).double()  # type: ignore[assignment]
    model.encoder = nn.Flatten()  # type: ignore[assignment]
    model.posterior = nn.Linear(pixels, 2 * latent).double()
    variance = 1 / (1 + weight.square().sum(0) / deviation**2)
    slope = (variance / deviation**2 * weight).T  # of the posterior mean, by levels
    with torch.no_grad():
        model.decoder[0].weight.copy_(torch.cat([weight / half, torch.zeros_like(weight)]))
        model.decoder[0].bias.copy_(torch.cat([torch.zeros(pixels), torch.full((pixels,), s)]))  # b: the middle level
        model.posterior.weight.copy_(torch.cat([slope * half, torch.zeros_like(slope)]))
        model.posterior.bias.copy_(torch.cat([torch.zeros(latent), variance.log()]))
    covariance = weight @ weight.T + deviation**2 * torch.eye(pixels, dtype=torch.float64)
    return model, MultivariateNormal(torch.full((pixels,), half, dtype=torch.float64), covariance), variance


def test_with_the_exact_posterior_every_weight_is_the_evidence() -> None:
    model, evidence, _ = linear_gaussian()
    images = pictures(5, levels=9)
    expected = evidence.log_prob(images.flatten(1).double())
    torch.testing.assert_close(model.log_weights(images, 7), expected[:, None].expand(-1, 7))
    scores = model.score(images, samples=50)
    torch.testing.assert_close(scores["iwae_50"], -expected)
    torch.testing.assert_close(scores["iwae_5"], -expected)
    assert scores["negative_elbo"].mean().item() == pytest.approx(-expected.mean().item(), abs=0.3)


def test_the_elbo_with_a_wrong_posterior_is_the_evidence_less_a_known_divergence() -> None:
    """ELBO = ln p(x) - KL(q || exact posterior), equation 1; and many importance samples close the gap."""
    model, evidence, variance = linear_gaussian()
    images = pictures(4, levels=9)
    exact = model.encode(images)
    with torch.no_grad():
        model.posterior.bias[:3] += 0.3
        model.posterior.bias[3:] += 0.4
    wrong = model.encode(images)
    gap = kl_divergence(wrong, exact)
    log_p = evidence.log_prob(images.flatten(1).double())
    weights = model.log_weights(images, 20000)
    error = weights.std(1) / weights.shape[1] ** 0.5
    assert ((weights.mean(1) - (log_p - gap)).abs() < 5 * error).all()  # IWAE-1 in expectation is the ELBO
    scores = model.score(images, samples=2000)
    assert ((scores["negative_elbo"] + log_p - gap).abs() < 0.5).all()
    torch.testing.assert_close(scores["iwae_2000"], -log_p, rtol=0, atol=0.1)


def test_bounds_rise_with_the_number_of_samples_for_every_image() -> None:
    model, images = tiny(), pictures(20)
    scores = model.score(images, samples=500)
    assert [name for name in scores if name.startswith("iwae")] == ["iwae_5", "iwae_50", "iwae_500"]
    log_weights = model.log_weights(images, 500)
    bounds = [bound(log_weights, k) for k in (1, 5, 50, 500)]
    for fewer, more in zip(bounds, bounds[1:], strict=False):
        assert (more > fewer).all()
    torch.testing.assert_close(bounds[0], log_weights.mean(1))
    torch.testing.assert_close(-scores["iwae_50"], bounds[2])
    error = log_weights.std(1) / 500**0.5  # the same expectation, once with the KL in closed form
    assert ((bounds[0] + scores["negative_elbo"]).abs() < 5 * error).all()


def test_the_bound_against_the_true_evidence_of_a_nonlinear_model() -> None:
    """p(x) = integral over z of p(x | z) p(z), on a fine grid for one latent dimension."""
    model, images = tiny(latent=1), pictures(3)
    grid = torch.linspace(-8, 8, 4001, dtype=torch.float64)[:, None]
    with torch.no_grad():
        for i in range(3):
            joint = model.likelihood.log_prob(model.decode(grid), images[i : i + 1].expand(4001, -1, -1, -1))
            log_p = (joint + Normal(0.0, 1.0).log_prob(grid[:, 0])).logsumexp(0) + math.log(16 / 4000)
            found = model.score(images[i : i + 1], samples=5000)
            assert -found["iwae_5000"].item() == pytest.approx(log_p.item(), abs=0.02)
            assert found["negative_elbo"].item() > -log_p.item() - 0.02


def test_a_score_depends_on_the_image_number_and_not_on_the_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    model, images = tiny(), pictures(7)
    numbers = torch.tensor([5, 3, 9, 0, 1, 2, 8])
    whole = model.score(images, numbers=numbers, samples=10)
    monkeypatch.setattr("genfast.models.vae.DECODED_AT_ONCE", 7)  # across images
    part = model.score(images[2:5], numbers=numbers[2:5], samples=10)
    for name, values in part.items():
        torch.testing.assert_close(values, whole[name][2:5])
    other = model.score(images[2:5], samples=10)
    assert not torch.allclose(other["reconstruction"], part["reconstruction"])


def test_each_image_is_scored_with_its_own_label() -> None:
    model, images = tiny(num_classes=3), pictures(4)
    labels = torch.tensor([2, 0, 1, 0])
    whole = model.score(images, labels, samples=20)
    for i in range(4):
        one = model.score(images[i : i + 1], labels[i : i + 1], torch.tensor([i]), samples=20)
        for name, values in one.items():
            torch.testing.assert_close(values[0], whole[name][i])
    others = model.score(images, (labels + 1) % 3, samples=20)
    assert not torch.isclose(others["iwae_20"], whole["iwae_20"]).any()


def test_what_the_whole_set_says() -> None:
    mean = np.array([[0.0, 1.0, 0.05], [0.0, -1.0, -0.05]])
    said = tiny().summary({"posterior_mean": mean, "kl_per_dimension": np.array([[0.0, 2.0, 1.0], [0.0, 4.0, 1.0]])})
    assert said == {"active_units": 1, "latent_units": 3, "kl_per_dimension": [0.0, 3.0, 1.0]}


def test_which_numbers_of_samples_are_reported() -> None:
    assert smaller(1) == []
    assert smaller(5) == [5]
    assert smaller(200) == [5, 50, 200]
    assert smaller(7) == [7]


# ---- the networks ----


@pytest.mark.parametrize("network", ["mlp", "conv"])
@pytest.mark.parametrize("likelihood", ["bernoulli", "categorical", "discretized_logistic", "gaussian"])
def test_every_likelihood_with_every_network(network: str, likelihood: str) -> None:
    levels = 2 if likelihood == "bernoulli" else 5
    model = tiny(network=network, likelihood=likelihood, levels=levels, channels=2, num_classes=3)
    images, labels = pictures(4, levels), torch.tensor([0, 2, 1, 1])
    posterior = model.encode(images, labels)
    assert isinstance(posterior, Independent)
    assert posterior.mean.shape == (4, 3)
    assert posterior.log_prob(posterior.mean).shape == (4,)
    torch.testing.assert_close(model.features(images, labels), posterior.mean)
    assert model.reconstruct(images, labels).shape == images.shape
    loss, _ = model.training_loss(images, labels, 0)
    loss.mean().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())
    assert not torch.allclose(model.reconstruct(images, labels), model.reconstruct(images, (labels + 1) % 3))


def test_log_weights_against_torch_distributions() -> None:
    model, images = tiny(), pictures(3)
    posterior = model.encode(images)
    noise = model._noise(3, 4, None).double()
    z = posterior.mean[:, None] + posterior.stddev[:, None] * noise
    prior = Independent(Normal(torch.zeros(3).double(), torch.ones(3).double()), 1)
    for k in range(4):
        joint = model.likelihood.log_prob(model.decode(z[:, k]), images) + prior.log_prob(z[:, k])
        torch.testing.assert_close(model.log_weights(images, 4)[:, k], joint - posterior.log_prob(z[:, k]))


def test_what_cannot_be_asked() -> None:
    model, images = tiny(), pictures(2)
    with pytest.raises(GenfastError, match="exact log-likelihood"):
        model.log_prob(images)
    with pytest.raises(GenfastError, match=r"\[B, 3\]"):
        model.decode(torch.zeros(2, 4).double())
    with pytest.raises(GenfastError, match="unconditional"):
        model.encode(images, torch.tensor([0, 1]))
    with pytest.raises(GenfastError, match="label 0 to 2"):
        tiny(num_classes=3).encode(images)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"beta": -1.0}, "beta"),
        ({"free_bits": math.nan}, "free_bits"),
        ({"kl_warmup_steps": -1}, "kl_warmup_steps"),
        ({"likelihood": "poisson"}, "likelihood"),
        ({"num_classes": 0}, "num_classes"),
    ],
)
def test_bad_settings_are_refused(values: dict, words: str) -> None:
    with pytest.raises(GenfastError, match=words):
        VAEConfig((1, 4, 5), **values)
