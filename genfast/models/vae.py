"""The variational autoencoder (Kingma & Welling 2014, Auto-Encoding Variational Bayes, arXiv 1312.6114)."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor, nn
from torch.distributions import Independent, Normal

from genfast.errors import GenfastError
from genfast.likelihoods import Likelihood, bits_per_dim, make_likelihood
from genfast.models.base import Model, check_int
from genfast.models.coder import CoderConfig, Decoder, Encoder, PriorPainter, Reconstructor
from genfast.models.kl import KLSchedule, gaussian_kl

LikelihoodName = Literal["auto", "bernoulli", "categorical", "discretized_logistic", "gaussian"]
DECODED_AT_ONCE = 500  # codes; bounds the memory of importance sampling, and stays in the caches
ACTIVE = 0.01  # a latent unit is active if the variance of its posterior mean over the images is above this


@dataclass(frozen=True)
class VAEConfig(CoderConfig):
    """Size of a VAE, what it says about a pixel, and how much of the KL divergence it pays in training."""

    num_classes: int | None = None
    """Condition encoder and decoder on a class label 0 .. num_classes-1 (default: no labels)."""
    beta: float = 1.0
    """Weight of the KL divergence in the loss; 1 is the ELBO."""
    free_bits: float = 0.0
    """Nats of KL divergence of each latent dimension that cost nothing (0 is the ELBO)."""
    kl_warmup_steps: int = 0
    """Steps over which the weight of the KL divergence climbs from 0 to beta."""
    likelihood: LikelihoodName = field(default="auto", kw_only=True)
    """Distribution of a sub-pixel given the latent variable; auto is bernoulli for 2 levels and discretized_logistic
    otherwise. gaussian is a density over levels: its nats do not compare with those of the others."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.num_classes is not None:
            check_int("num_classes", self.num_classes, 1)
        for name in ("beta", "free_bits"):
            value = getattr(self, name)
            if not isinstance(value, int | float) or not 0 <= value < math.inf:
                raise GenfastError(f"{name} must be 0 or more, not {value!r}.")
        check_int("kl_warmup_steps", self.kl_warmup_steps, 0)
        if self.likelihood not in get_args(LikelihoodName):
            raise GenfastError(
                f"likelihood must be one of {', '.join(get_args(LikelihoodName))}, not {self.likelihood!r}."
            )

    @property
    def schedule(self) -> KLSchedule:
        """What the KL divergence costs in training."""
        return KLSchedule(self.beta, self.free_bits, self.kl_warmup_steps)


class VAE(Model, Reconstructor, PriorPainter):
    """p(image) = integral of p(image | z) p(z) dz, p(z) = N(0, 1), and a posterior q(z | image) = N(mean, variance).

    The likelihood is not known exactly: ``score`` gives the evidence lower bound (ELBO) and importance-weighted bounds.
    A class label joins the image's features in the encoder and z in the decoder.
    """

    criterion = "negative_elbo"
    config: VAEConfig

    def __init__(self, config: VAEConfig) -> None:
        super().__init__(config, config.num_classes)
        name = config.likelihood
        if name == "auto":
            name = "bernoulli" if config.levels == 2 else "discretized_logistic"
        self.likelihood: Likelihood = make_likelihood(name, config.image_shape[0], config.levels)
        self.latent = config.latent
        labels = config.num_classes or 0
        self.encoder = Encoder(config)
        self.posterior = nn.Linear(config.features + labels, 2 * config.latent)  # mean, then ln variance
        self.decoder = Decoder(config, config.latent + labels, self.likelihood.param_channels)

    # ---- the two networks ----

    def moments(self, images: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Mean and ln variance of q(z | image).  # [B, Z] each"""
        x = self.scale(images)
        mean, log_variance = self.posterior(self._with(self.encoder(x), condition)).chunk(2, 1)
        return mean, log_variance

    def encode(self, images: Tensor, condition: Tensor | None = None) -> Independent:
        """The posterior q(z | image), a distribution over vectors [B, Z]; its ``mean`` is the code of an image.

        images: levels [B, C, H, W]; condition: labels, int64 [B], where the model has num_classes. Raises GenfastError
        for images or labels that do not fit.
        """
        mean, log_variance = self.moments(images, condition)
        return Independent(Normal(mean, (0.5 * log_variance).exp()), 1)

    def decode(self, z: Tensor, condition: Tensor | None = None) -> Tensor:
        """Likelihood parameters of p(image | z), [B, ..., C, H, W], for z [B, Z].

        Raises GenfastError for other shapes.
        """
        if z.ndim != 2 or z.shape[1] != self.latent:
            raise GenfastError(f"This model decodes codes of shape [B, {self.latent}], not {list(z.shape)}.")
        return self.likelihood.unpack(self.decoder(self._with(z, condition)))

    def forward(self, images: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """(likelihood parameters for one z drawn from the posterior, its mean, its ln variance).

        z = mean + deviation * noise, so that gradients pass through the draw (equation 10).
        """
        mean, log_variance = self.moments(images, condition)
        z = mean + (0.5 * log_variance).exp() * torch.randn_like(mean)
        return self.decode(z, condition), mean, log_variance

    def _with(self, x: Tensor, condition: Tensor | None) -> Tensor:
        """x and the one-hot label side by side, or x alone.  # [B, D] -> [B, D + num_classes]"""
        label = self.encode_condition(condition, x)
        return x if label is None else torch.cat([x, label], 1)

    # ---- what it is for ----

    def features(self, images: Tensor, labels: Tensor | None = None) -> Tensor:
        """The posterior mean.  # [B, Z]"""
        return self.moments(images, labels)[0]

    def expected(self, z: Tensor, condition: Tensor | None = None) -> Tensor:
        """The mean of p(image | z) in levels.  # [B, Z] -> float [B, C, H, W]"""
        return self.likelihood.mean(self.decode(z, condition))

    def draw(
        self,
        z: Tensor,
        uniforms: Callable[[], Tensor],
        condition: Tensor | None = None,
        temperature: float = 1.0,
        top_k: int | None = None,
        top_p: float | None = None,
    ) -> Tensor:
        """Every pixel from p(image | z).  # [B, Z] -> uint8 levels [B, C, H, W]"""
        params = self.decode(z, condition)
        return self.likelihood.draw(params, uniforms().to(params.device), temperature, top_k, top_p).to(torch.uint8)

    def log_prob(self, images: Tensor, condition: Tensor | None = None) -> Tensor:
        """Raises GenfastError: a VAE only bounds it."""
        raise GenfastError("A VAE does not know its exact log-likelihood: use score(), which gives bounds of it.")

    # ---- training and evaluation ----

    def training_loss(self, images: Tensor, labels: Tensor | None, step: int) -> tuple[Tensor, dict[str, Tensor]]:
        """Reconstruction and KL divergence as the schedule weighs it, in bits/dim; one z for each image.  # [B]"""
        params, mean, log_variance = self(images, labels)
        reconstruction = -self.likelihood.log_prob(params, images)
        kl = gaussian_kl(mean.float(), log_variance.float())
        loss = reconstruction + self.config.schedule(kl, step)
        total = kl.sum(1)
        scores = {"negative_elbo": reconstruction + total, "reconstruction": reconstruction, "kl": total}
        return bits_per_dim(loss, self.image_shape), scores

    def score(
        self, images: Tensor, labels: Tensor | None = None, numbers: Tensor | None = None, samples: int = 1
    ) -> dict[str, Tensor]:
        """Bounds of -ln p(image), in nats per image.  # [B] each, kl_per_dimension and posterior_mean [B, Z]

        negative_elbo = reconstruction + kl: the KL in closed form, the reconstruction averaged over the samples.
        iwae_k, for k = ``samples`` and the fewer of ``smaller``: the importance-weighted bounds (see ``bound``), all
        from the same samples, so that they fall as k grows, for every image. The image is encoded once.
        """
        mean, log_variance = self.moments(images, labels)
        log_weights, log_likelihood = self._importance(images, mean, log_variance, labels, numbers, samples)
        kl = gaussian_kl(mean, log_variance)
        reconstruction = -log_likelihood.mean(1)
        scores = {"negative_elbo": reconstruction + kl.sum(1), "reconstruction": reconstruction, "kl": kl.sum(1)}
        for k in smaller(samples):
            scores[f"iwae_{k}"] = -bound(log_weights, k)
        return {**scores, "kl_per_dimension": kl, "posterior_mean": mean}

    def log_weights(
        self, images: Tensor, samples: int, labels: Tensor | None = None, numbers: Tensor | None = None
    ) -> Tensor:
        """ln p(image, z) / q(z | image) for samples z of the posterior, in nats.  # float64 [B, samples]

        Their mean is an unbiased estimate of the ELBO; exp of them averages to p(image). The draws are those of score.
        """
        return self._importance(images, *self.moments(images, labels), labels, numbers, samples)[0]

    def _importance(
        self,
        images: Tensor,
        mean: Tensor,
        log_variance: Tensor,
        labels: Tensor | None,
        numbers: Tensor | None,
        samples: int,
    ) -> tuple[Tensor, Tensor]:
        """ln p(image, z) / q(z | image) and ln p(image | z) of samples of the posterior.  # float64 [B, K] each"""
        noise = self._noise(len(images), samples, numbers).to(mean)
        z = mean[:, None] + (0.5 * log_variance).exp()[:, None] * noise  # [B, K, Z]
        log_likelihood = self._log_likelihood(images, z, labels).double()
        # ln p(z) - ln q(z | image): the constants of the two normal densities cancel.
        ratio = 0.5 * (noise.double().square() - z.double().square() + log_variance.double()[:, None]).sum(2)
        return log_likelihood + ratio, log_likelihood

    def summary(self, scores: dict[str, np.ndarray]) -> dict[str, Any]:
        """KL of each dimension, the mean over images in nats; how many latent units are active (Burda et al. 2016)."""
        active = scores["posterior_mean"].var(0) > ACTIVE
        kl = scores["kl_per_dimension"].mean(0)
        return {"active_units": int(active.sum()), "latent_units": self.latent, "kl_per_dimension": kl.tolist()}

    def _noise(self, batch: int, samples: int, numbers: Tensor | None) -> Tensor:
        """Standard normal draws, those of an image a function of its number (and of how many).  # [B, K, Z]"""
        generator = torch.Generator()
        return torch.stack([
            torch.randn(samples, self.latent, generator=generator.manual_seed(number))
            for number in (range(batch) if numbers is None else numbers.tolist())
        ])  # fmt: skip

    def _log_likelihood(self, images: Tensor, z: Tensor, labels: Tensor | None) -> Tensor:
        """ln p(image | z) of every sample [B, K, Z] of every image.  # [B, K]"""
        flat = z.flatten(0, 1)
        of = torch.arange(len(images), device=z.device).repeat_interleave(z.shape[1])  # the image of each sample
        parts = []
        for start in range(0, len(flat), DECODED_AT_ONCE):
            at = of[start : start + DECODED_AT_ONCE]
            params = self.decode(flat[start : start + DECODED_AT_ONCE], None if labels is None else labels[at])
            parts.append(self.likelihood.log_prob(params, images[at]))
        return torch.cat(parts).view(z.shape[:2])


def smaller(samples: int) -> list[int]:
    """The numbers of samples whose bounds are reported: 5, 50, 500, ... where they divide, and all; none for 1."""
    powers = [5 * 10**i for i in range(len(str(samples)))]
    return [k for k in powers if k < samples and samples % k == 0] + ([samples] if samples > 1 else [])


def bound(log_weights: Tensor, k: int) -> Tensor:
    """The bound ln (1/k) sum of k weights, averaged over the groups of k among K.  # ln weights [B, K] -> [B]

    Burda et al. 2016 (arXiv 1509.00519), equation 8. Never above ln p(image) in expectation; k = 1 is the ELBO.
    """
    return (log_weights.unflatten(1, (-1, k)).logsumexp(2) - math.log(k)).mean(1)


PRESETS = {
    "mnist": VAEConfig((1, 28, 28), levels=2, network="conv", latent=40, channels=32),
    "small": VAEConfig((1, 28, 28), levels=2, network="mlp", latent=40, hidden=400, input_range="unit"),
    "small-2d": VAEConfig((1, 28, 28), levels=2, network="mlp", latent=2, hidden=400, hidden_layers=2),
    "cifar10": VAEConfig((3, 32, 32), levels=256, network="conv", latent=128, channels=64),
    "digits": VAEConfig((1, 8, 8), levels=17, network="mlp", latent=8, hidden=128),
}
