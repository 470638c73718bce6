"""Generators and discriminators: fully connected, DCGAN, and the convolutional network of the SNGAN paper.

mlp     ReLU layers against LeakyReLU layers; a label joins z, and the pixels.
dcgan   Radford et al. 2016 (arXiv 1511.06434): 4x4 up-convolutions of stride 2 with batch normalization and ReLU,
        against 4x4 convolutions of stride 2 with LeakyReLU.
sngan   Miyato et al. 2018 (arXiv 1802.05957), table 3: the same with one more 3x3 convolution at the end, against 3x3
        and 4x4 convolutions in turns.

The convolutional ones halve height and width, rounded up, until both are at most ``BASE``: 28 -> 14 -> 7 and
32 -> 16 -> 8 -> 4. The generator retraces these sizes exactly, odd ones included. A label chooses gain and bias of each
batch normalization (Dumoulin et al. 2017, arXiv 1610.07629) and is projected on the discriminator's features (Miyato &
Koyama 2018, arXiv 1802.05637, equation 4).
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize

from genfast.errors import GenfastError
from genfast.models.base import ImageConfig, check_int

Network = Literal["mlp", "dcgan", "sngan"]
Norm = Literal["auto", "none", "batch", "layer", "spectral"]
BASE = 7  # height and width of the smallest feature maps are at most this
SLOPES = {"mlp": 0.2, "dcgan": 0.2, "sngan": 0.1}  # of LeakyReLU below zero
DEVIATION = 0.02  # of the initial weights of convolutions


@dataclass(frozen=True)
class GANNetworkConfig(ImageConfig):
    """Size of a generator and its discriminator. dcgan and sngan take any image of at least 2x2 pixels that is not much
    longer than it is wide; mlp takes any."""

    network: Network = "dcgan"
    """mlp: fully connected layers; dcgan: (up-)convolutions of stride 2; sngan: the network of the SNGAN paper."""
    latent: int = 100
    """Numbers in the latent variable z."""
    hidden: int = 256
    """Width of a hidden layer (mlp)."""
    hidden_layers: int = 2
    """Hidden layers of the generator, and of the discriminator (mlp)."""
    channels: int = 64
    """Feature maps of the largest size; each halving of height and width doubles them (dcgan and sngan)."""
    discriminator_norm: Norm = "auto"
    """Normalization in the discriminator: none, batch (all but the first layer), layer, or spectral (of the weights);
    auto is batch for dcgan (layer for a wasserstein critic), spectral for sngan and none for mlp."""
    num_classes: int | None = None
    """Condition both networks on a class label 0 .. num_classes-1 (default: no labels)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, choices in (("network", Network), ("discriminator_norm", Norm)):
            if getattr(self, name) not in get_args(choices):
                raise GenfastError(
                    f"{name} must be one of {', '.join(get_args(choices))}, not {getattr(self, name)!r}."
                )
        for name in ("latent", "hidden", "hidden_layers", "channels"):
            check_int(name, getattr(self, name), 1)
        if self.num_classes is not None:
            check_int("num_classes", self.num_classes, 1)
        height, width = self.image_shape[1:]
        if self.network != "mlp" and min(height, width) < 2**self.halvings:
            raise GenfastError(
                f"A {self.network} halves height and width {self.halvings} times, so it needs images of at least "
                f"{2**self.halvings}x{2**self.halvings} pixels, not {height}x{width}: use network mlp."
            )
        if self.network == "mlp" and self.discriminator_norm in ("batch", "layer"):
            raise GenfastError("The fully connected discriminator takes discriminator_norm none or spectral.")

    @property
    def halvings(self) -> int:
        """How many layers of stride 2 there are: as many as bring height and width to at most BASE, and at least 1."""
        longest = max(self.image_shape[1:])
        return max(1, next(n for n in range(32) if -(-longest // 2**n) <= BASE))

    @property
    def sizes(self) -> list[tuple[int, int]]:
        """(height, width) of the image and after each halving, rounded up."""
        height, width = self.image_shape[1:]
        return [(-(-height // 2**n), -(-width // 2**n)) for n in range(self.halvings + 1)]


class ConditionalBatchNorm(nn.Module):
    """Batch normalization whose gain and bias belong to the image's class.  # [B, C, H, W], one-hot [B, K]"""

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()
        self.normalize = nn.BatchNorm2d(channels, affine=False)
        self.gain = nn.Linear(classes, channels, bias=False)
        self.bias = nn.Linear(classes, channels, bias=False)

    def forward(self, x: Tensor, label: Tensor) -> Tensor:
        gain, bias = self.gain(label)[:, :, None, None], self.bias(label)[:, :, None, None]
        return torch.addcmul(bias, self.normalize(x), gain)


class Generator(nn.Module):
    """z [B, latent] and a one-hot label [B, K] (or None) -> images on the scale -1 .. 1 (tanh).  # [B, C, H, W]"""

    def __init__(self, config: GANNetworkConfig) -> None:
        super().__init__()
        build = _mlp_generator if config.network == "mlp" else _conv_generator
        self.joins = config.network == "mlp"  # the label joins z
        self.layers = nn.ModuleList(build(config))
        self.apply(_initialise)

    def forward(self, z: Tensor, label: Tensor | None) -> Tensor:
        x = z if label is None or not self.joins else torch.cat([z, label], 1)
        for layer in self.layers:
            x = layer(x, label) if isinstance(layer, ConditionalBatchNorm) else layer(x)
        return x


class Discriminator(nn.Module):
    """Images [B, C, H, W] on the scale -1 .. 1 and a one-hot label [B, K] (or None) -> logits of being real.  # [B]

    norm: of its layers, see GANNetworkConfig.discriminator_norm; by now not auto.
    """

    def __init__(self, config: GANNetworkConfig, norm: Norm) -> None:
        super().__init__()
        build = _mlp_discriminator if config.network == "mlp" else _conv_discriminator
        classes = config.num_classes or 0
        self.joins = config.network == "mlp"  # the label joins the pixels; elsewhere it is projected
        self.layers = nn.Sequential(*build(config, norm))
        with torch.no_grad():
            pixels = math.prod(config.image_shape) + classes if self.joins else 0
            empty = torch.zeros(2, pixels) if self.joins else torch.zeros(2, *config.image_shape)
            features = self.layers.eval()(empty).shape[1]
            self.layers.train()
        self.head = nn.Linear(features, 1)
        self.projection = nn.Linear(classes, features, bias=False) if classes and not self.joins else None
        self.apply(_initialise)
        self.spectral: list[Any] = (
            [m for m in self.modules() if isinstance(m, nn.Linear | nn.Conv2d)] if norm == "spectral" else []
        )
        for layer in self.spectral:
            parametrizations.spectral_norm(layer)

    def forward(self, x: Tensor, label: Tensor | None) -> Tensor:
        if self.joins:
            x = x.flatten(1) if label is None else torch.cat([x.flatten(1), label], 1)
        features = self.layers(x)
        logits = self.head(features)[:, 0]
        return logits if self.projection is None else logits + (self.projection(label) * features).sum(1)

    @contextmanager
    def turn(self, learning: bool) -> Iterator[None]:
        """Within, all forward passes use the same normalized weights. learning: it is the discriminator that learns.

        Then each spectral norm takes exactly one power iteration, in float32; otherwise none, as the weights are those
        of the last one, and no gradients of the weights are computed.
        """
        flags = [parameter.requires_grad for parameter in self.parameters()]
        for layer in self.spectral:
            layer.parametrizations.weight.train(learning)
        try:
            if not learning:
                self.requires_grad_(False)
            with parametrize.cached():
                with torch.autocast(next(self.parameters()).device.type, enabled=False):
                    for layer in self.spectral:
                        layer.weight  # noqa: B018  (computes and keeps it)
                yield
        finally:
            for parameter, flag in zip(self.parameters(), flags, strict=True):
                parameter.requires_grad_(flag)
            for layer in self.spectral:
                layer.parametrizations.weight.train(self.training)


# ---- layers ----


def _mlp_generator(config: GANNetworkConfig) -> Iterator[nn.Module]:
    widths = [config.latent + (config.num_classes or 0)] + [config.hidden] * config.hidden_layers
    for n, m in pairwise(widths):
        yield from (nn.Linear(n, m), nn.ReLU(inplace=True))
    yield from (nn.Linear(widths[-1], math.prod(config.image_shape)), nn.Unflatten(1, config.image_shape), nn.Tanh())


def _mlp_discriminator(config: GANNetworkConfig, norm: Norm) -> Iterator[nn.Module]:
    widths = [math.prod(config.image_shape) + (config.num_classes or 0)] + [config.hidden] * config.hidden_layers
    for n, m in pairwise(widths):
        yield from (nn.Linear(n, m), nn.LeakyReLU(SLOPES["mlp"], inplace=True))


def _conv_generator(config: GANNetworkConfig) -> Iterator[nn.Module]:
    def normalized(channels: int) -> Iterator[nn.Module]:
        classes = config.num_classes
        yield nn.BatchNorm2d(channels) if classes is None else ConditionalBatchNorm(channels, classes)
        yield nn.ReLU(inplace=True)

    colours, sizes = config.image_shape[0], config.sizes[::-1]
    # dcgan paints with its last up-convolution, sngan with a convolution after it.
    after = 1 if config.network == "sngan" else 0
    widths = [config.channels * 2**i for i in range(config.halvings + after)][::-1]
    yield nn.Linear(config.latent, widths[0] * math.prod(sizes[0]), bias=False)
    yield nn.Unflatten(1, (widths[0], *sizes[0]))
    yield from normalized(widths[0])
    steps = zip(pairwise([*widths, colours][: len(sizes)]), pairwise(sizes), strict=True)
    for i, ((n, m), (before, size)) in enumerate(steps, 1):
        # A size h becomes 2h, or 2h - 1 where the image has an odd size to retrace.
        odd = (2 * before[0] - size[0], 2 * before[1] - size[1])
        padding = (1 + odd[0], 1 + odd[1])
        painting = i == config.halvings and not after
        yield nn.ConvTranspose2d(n, m, 4, stride=2, padding=padding, output_padding=odd, bias=painting)
        if not painting:
            yield from normalized(m)
    if after:
        yield nn.Conv2d(widths[-1], colours, 3, padding=1)
    yield nn.Tanh()


def _conv_discriminator(config: GANNetworkConfig, norm: Norm) -> Iterator[nn.Module]:
    def convolution(n: int, m: int, kernel: int, stride: int, first: bool) -> Iterator[nn.Module]:
        yield nn.Conv2d(n, m, kernel, stride, padding=1, bias=first or norm != "batch")
        if norm in ("batch", "layer") and not first:
            # Layer normalization: of all feature maps of an image together.
            yield nn.BatchNorm2d(m) if norm == "batch" else nn.GroupNorm(1, m)
        yield nn.LeakyReLU(SLOPES[config.network], inplace=True)

    n = config.image_shape[0]
    for i in range(config.halvings):
        m = config.channels * 2**i
        if config.network == "sngan":
            yield from convolution(n, m, 3, 1, i == 0)
            n = m
        yield from convolution(n, m, 4, 2, i == 0 and config.network == "dcgan")
        n = m
    if config.network == "sngan":
        yield from convolution(n, 2 * n, 3, 1, False)
    yield nn.Flatten()


def _initialise(layer: nn.Module) -> None:
    """As the DCGAN paper does; fully connected networks keep PyTorch's."""
    if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
        nn.init.normal_(layer.weight, 0.0, DEVIATION)
    elif isinstance(layer, nn.BatchNorm2d) and layer.affine:
        nn.init.normal_(layer.weight, 1.0, DEVIATION)
    elif isinstance(layer, ConditionalBatchNorm):
        nn.init.normal_(layer.gain.weight, 1.0, DEVIATION)
        nn.init.zeros_(layer.bias.weight)
