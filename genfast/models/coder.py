"""Encoder and decoder of images: what the autoencoder, the VAE and the classifier share; and what a model with a code
can do, which is what samplers and pictures ask for.

Two symmetric pairs. "mlp": fully connected layers with ReLU. "conv": four 3x3 convolutions of stride 2, each with twice
the feature maps of the one before, against four up-convolutions that retrace their sizes exactly, odd ones included.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from torch import Tensor, nn

from genfast.errors import GenfastError
from genfast.models.base import ImageConfig, check_int

CONVOLUTIONS = 4


@dataclass(frozen=True)
class CoderConfig(ImageConfig):
    """Size of an encoder, and of the decoder that mirrors it."""

    network: Literal["mlp", "conv"] = "conv"
    """mlp: fully connected layers; conv: four convolutions against four up-convolutions."""
    latent: int = 40
    """Numbers in the code of an image."""
    hidden: int = 400
    """Width of a hidden layer (mlp)."""
    hidden_layers: int = 1
    """Hidden layers of the encoder, and of the decoder (mlp)."""
    channels: int = 32
    """Feature maps of the first convolution; each following one has twice as many (conv)."""
    input_range: Literal["signed", "unit"] = "signed"
    """The encoder reads levels as -1 to 1 (signed) or 0 to 1 (unit): then black, most of a digit, moves no weights."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.network not in ("mlp", "conv"):
            raise GenfastError(f"network must be mlp or conv, not {self.network!r}.")
        if self.input_range not in ("signed", "unit"):
            raise GenfastError(f"input_range must be signed or unit, not {self.input_range!r}.")
        for name in ("latent", "hidden", "hidden_layers", "channels"):
            check_int(name, getattr(self, name), 1)

    @property
    def sizes(self) -> list[tuple[int, int]]:
        """(height, width) of the image and after each convolution: halved, rounded up."""
        sizes = [self.image_shape[1:]]
        for _ in range(CONVOLUTIONS):
            height, width = sizes[-1]
            sizes.append(((height + 1) // 2, (width + 1) // 2))
        return sizes

    @property
    def widths(self) -> list[int]:
        """Feature maps of the image and after each convolution."""
        return [self.image_shape[0], *(self.channels * 2**i for i in range(CONVOLUTIONS))]

    @property
    def features(self) -> int:
        """Numbers that come out of the encoder, before the code."""
        return self.hidden if self.network == "mlp" else self.widths[-1] * math.prod(self.sizes[-1])


class UnitRange(nn.Module):
    """Scaled images, -1 to 1, as 0 to 1.

    A step of Adam moves every weight of a black pixel alike; with -1 for black hundreds of them add up, and an mlp must
    learn at a lower rate.
    """

    def forward(self, x: Tensor) -> Tensor:
        return (x + 1) / 2


class Encoder(nn.Sequential):
    """Scaled images [B, C, H, W] -> features [B, config.features], all of them positive: the last layer is a ReLU."""

    def __init__(self, config: CoderConfig) -> None:
        layers: list[nn.Module] = [UnitRange()] if config.input_range == "unit" else []
        if config.network == "mlp":
            layers.append(nn.Flatten())
            for n, m in pairwise([math.prod(config.image_shape)] + [config.hidden] * config.hidden_layers):
                layers += [nn.Linear(n, m), nn.ReLU()]
        else:
            for n, m in pairwise(config.widths):
                layers += [nn.Conv2d(n, m, 3, stride=2, padding=1), nn.ReLU()]
            layers.append(nn.Flatten())
        super().__init__(*layers)


class Decoder(nn.Sequential):
    """Codes [B, inputs] -> [B, outputs, H, W]: the encoder's layers in reverse."""

    def __init__(self, config: CoderConfig, inputs: int, outputs: int) -> None:
        _, height, width = config.image_shape
        layers: list[nn.Module] = []
        if config.network == "mlp":
            for n, m in pairwise([inputs] + [config.hidden] * config.hidden_layers):
                layers += [nn.Linear(n, m), nn.ReLU()]
            layers += [nn.Linear(config.hidden, outputs * height * width), nn.Unflatten(1, (outputs, height, width))]
        else:
            widths, sizes = config.widths[::-1], config.sizes[::-1]
            widths[-1] = outputs
            layers += [nn.Linear(inputs, config.features), nn.ReLU(), nn.Unflatten(1, (widths[0], *sizes[0]))]
            for (n, m), ((h, w), (up_h, up_w)) in zip(pairwise(widths), pairwise(sizes), strict=True):
                # Without padding a size h becomes 2h - 1; one more where the encoder had an even size to halve.
                more = (up_h - (2 * h - 1), up_w - (2 * w - 1))
                layers += [nn.ConvTranspose2d(n, m, 3, stride=2, padding=1, output_padding=more), nn.ReLU()]
            layers.pop()  # the outputs may be negative
        super().__init__(*layers)


class Coder:
    """A model with an encoder."""

    encoder: Encoder
    latent: int

    def features(self, images: Tensor, labels: Tensor | None = None) -> Tensor:
        """The code of each image.  # levels [B, C, H, W] -> float [B, latent]"""
        raise NotImplementedError


class Painter:
    """A model that makes an image of a code."""

    latent: int

    def expected(self, z: Tensor, condition: Tensor | None = None) -> Tensor:
        """The image that belongs to a code, in levels that need not be whole.  # [B, latent] -> float [B, C, H, W]"""
        raise NotImplementedError


class PriorPainter(Painter):
    """A painter whose codes have a prior, N(0, 1): it draws new images."""

    def draw(
        self,
        z: Tensor,
        uniforms: Callable[[], Tensor],
        condition: Tensor | None = None,
        temperature: float = 1.0,
        top_k: int | None = None,
        top_p: float | None = None,
    ) -> Tensor:
        """An image given z.  # [B, latent] -> uint8 levels [B, C, H, W]

        uniforms: makes the draws [B, C, H, W] in 0 .. 1 of a model whose pixels are random even given z; temperature,
        top_k, top_p: of those pixels, see Likelihood.draw. Raises GenfastError for bad input.
        """
        raise NotImplementedError


class Reconstructor(Coder, Painter):
    """A model that encodes and decodes."""

    def reconstruct(self, images: Tensor, labels: Tensor | None = None) -> Tensor:
        """The image that belongs to an image's code.  # float [B, C, H, W]"""
        return self.expected(self.features(images, labels), labels)
