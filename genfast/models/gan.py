"""The generative adversarial network (Goodfellow et al. 2014, Generative Adversarial Nets, arXiv 1406.2661)."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import get_args

import torch
from torch import Tensor

from genfast.errors import GenfastError
from genfast.models.base import Model, check_int
from genfast.models.coder import PriorPainter
from genfast.models.gan_networks import Discriminator, GANNetworkConfig, Generator, Norm
from genfast.models.gan_objectives import (
    Objective,
    believed,
    discriminator_loss,
    generator_loss,
    gradient_penalty,
)


@dataclass(frozen=True)
class GANConfig(GANNetworkConfig):
    """Size of a GAN, and the game that its two networks play."""

    objective: Objective = "non_saturating"
    """non_saturating: the generator maximises ln D(G(z)); minimax: it minimises ln(1 - D(G(z))); hinge; or wasserstein,
    with the gradient penalty (WGAN-GP)."""
    penalty: float = 10.0
    """Weight of the gradient penalty (wasserstein)."""
    discriminator_steps: int = 1
    """The generator learns in every so many-th step, the discriminator in all of them."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.objective not in get_args(Objective):
            raise GenfastError(f"objective must be one of {', '.join(get_args(Objective))}, not {self.objective!r}.")
        if not isinstance(self.penalty, int | float) or not 0 <= self.penalty < float("inf"):
            raise GenfastError(f"penalty must be 0 or more, not {self.penalty!r}.")
        check_int("discriminator_steps", self.discriminator_steps, 1)
        if self.objective == "wasserstein" and self.discriminator_norm == "batch":
            raise GenfastError(
                "A gradient penalty is of each image alone, which batch normalization mixes: "
                "use discriminator_norm layer, spectral or none with wasserstein."
            )

    @property
    def norm(self) -> Norm:
        """The normalization in the discriminator; what auto stands for."""
        if self.discriminator_norm != "auto":
            return self.discriminator_norm
        if self.network == "dcgan":
            return "layer" if self.objective == "wasserstein" else "batch"
        return "spectral" if self.network == "sngan" else "none"


class GAN(Model, PriorPainter):
    """image = G(z), z from N(0, 1), and a discriminator D that tells such images from real ones while G learns from it.

    A step of training is up to two turns (see ``turns``), each with a loss, parameters and an optimizer of its own.
    """

    criterion = None
    players = ("discriminator", "generator")
    curves = (("real", "fake"), ("discriminator_loss", "generator_loss"))
    config: GANConfig

    def __init__(self, config: GANConfig) -> None:
        super().__init__(config, config.num_classes)
        self.latent = config.latent
        self.discriminator = Discriminator(config, config.norm)
        self.generator = Generator(config)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # a tenth faster on a CPU

    # ---- the two networks ----

    def decode(self, z: Tensor, condition: Tensor | None = None) -> Tensor:
        """G(z): images on the scale of ``scale`` (-1 .. 1), [B, C, H, W], for z [B, Z] and labels [B] or None.

        Raises GenfastError for other shapes, or labels that do not fit.
        """
        if z.ndim != 2 or z.shape[1] != self.latent:
            raise GenfastError(f"This model decodes codes of shape [B, {self.latent}], not {list(z.shape)}.")
        return self.generator(z, self.encode_condition(condition, z))

    def judge(self, images: Tensor, condition: Tensor | None = None) -> Tensor:
        """The discriminator's logit that each image is real.  # levels, or floats -1 .. 1, [B, C, H, W] -> [B]"""
        x = self.scale(images)
        return self.discriminator(x, self.encode_condition(condition, x))

    def forward(self, images: Tensor, condition: Tensor | None = None) -> Tensor:
        """As every model, from images: ``judge``.  # [B]"""
        return self.judge(images, condition)

    # ---- what it is for ----

    def expected(self, z: Tensor, condition: Tensor | None = None) -> Tensor:
        """The image of z in levels that need not be whole.  # [B, Z] -> float [B, C, H, W]"""
        return (self.decode(z, condition).float() + 1) * ((self.levels - 1) / 2)

    def draw(
        self,
        z: Tensor,
        uniforms: Callable[[], Tensor],
        condition: Tensor | None = None,
        temperature: float = 1.0,
        top_k: int | None = None,
        top_p: float | None = None,
    ) -> Tensor:
        """The image of z in whole levels: nothing is left to chance.  # [B, Z] -> uint8 [B, C, H, W]

        Raises GenfastError for a temperature, top_k or top_p.
        """
        if temperature != 1 or top_k is not None or top_p is not None:
            raise GenfastError(
                "A GAN has no distribution over the levels of a pixel: leave out temperature, top_k and top_p."
            )
        return self.expected(z, condition).round().to(torch.uint8)

    def log_prob(self, images: Tensor, condition: Tensor | None = None) -> Tensor:
        """Raises GenfastError: there is no density."""
        raise GenfastError(
            "A GAN has no density to score images with: it is given by how it draws an image from z, and neither the "
            "probability of an image nor a bound of it can be computed from that; compare what it draws with real "
            "images instead (genfast evaluate RUN --samples 5000)."
        )

    def score(
        self, images: Tensor, labels: Tensor | None = None, numbers: Tensor | None = None, samples: int = 1
    ) -> dict[str, Tensor]:
        """Raises GenfastError, as log_prob does."""
        return {"nats": -self.log_prob(images, labels)}

    # ---- training ----

    def turns(self, step: int) -> tuple[str, ...]:
        """The discriminator learns in every step, the generator after it in every ``discriminator_steps``-th."""
        return self.players if (step + 1) % self.config.discriminator_steps == 0 else ("discriminator",)

    def turn_loss(
        self, turn: str, images: Tensor, labels: Tensor | None, step: int
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """What the player minimises, and what to log.  # [B], {name: [B]}

        Generated images get the labels of the real ones. real and fake: D(x) and D(G(z)), the probability of being
        real, or the score for hinge and wasserstein. The discriminator's turn builds no graph of the generator, the
        generator's no gradients of the discriminator's weights. Batch normalization takes the statistics of real and
        generated images apart.
        """
        objective = self.config.objective
        x = self.scale(images)
        label = self.encode_condition(labels, x)
        z = torch.randn(len(x), self.latent, device=x.device, dtype=x.dtype)
        if turn == "generator":
            with self.discriminator.turn(learning=False):
                fake = self.discriminator(self.generator(z, label), label).float()
            loss = generator_loss(objective, fake)
            return loss, {"generator_loss": loss}
        with torch.no_grad():
            generated = self.generator(z, label).to(x.dtype)
        with self.discriminator.turn(learning=True):
            real, fake = (self.discriminator(batch, label).float() for batch in (x, generated))
            loss = discriminator_loss(objective, real, fake)
            scores = {"real": believed(objective, real), "fake": believed(objective, fake)}
            if objective == "wasserstein":
                with torch.autocast(x.device.type, enabled=False):  # gradients of gradients: not in half precision
                    penalty = gradient_penalty(lambda between: self.discriminator(between, label), x, generated)
                loss, scores["gradient_penalty"] = loss + self.config.penalty * penalty, penalty
        return loss, {"discriminator_loss": loss, **scores}


PRESETS = {
    "mnist": GANConfig((1, 28, 28), levels=256, network="dcgan", latent=64, channels=32),
    "small": GANConfig((1, 28, 28), levels=256, network="mlp", latent=64, hidden=256, hidden_layers=2),
    "mnist-wgan-gp": GANConfig(
        (1, 28, 28), levels=256, network="dcgan", latent=64, channels=32, objective="wasserstein", discriminator_steps=5
    ),
    "cifar10": GANConfig((3, 32, 32), levels=256, network="sngan", latent=128, channels=64, objective="hinge"),
    "digits": GANConfig((1, 8, 8), levels=17, network="dcgan", latent=16, channels=16),
}
