"""PixelSNAIL: causal convolutions, and attention to every earlier pixel (Chen et al. 2018, PixelSNAIL: An Improved
Autoregressive Generative Model)."""

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genfast.errors import GenfastError
from genfast.likelihoods import Likelihood, LogisticMixture, make_likelihood
from genfast.models.base import ImageConfig, check_condition, check_dropout, check_int
from genfast.models.gated_resnet import GatedResnet, shift_down, shift_right
from genfast.models.mixture_model import MixtureModel
from genfast.nn import ShiftedConv2d

LIKELIHOODS = ("auto", "bernoulli", "categorical", "logistic_mixture")


@dataclass(frozen=True)
class PixelSNAILConfig(ImageConfig):
    """Size of a PixelSNAIL."""

    filters: int = 256
    """Feature maps."""
    blocks: int = 12
    """Blocks, each of them resnets and an attention layer."""
    resnets: int = 4
    """Gated resnets of a block, before its attention."""
    heads: int = 1
    """Heads of an attention layer."""
    key_channels: int = 16
    """Numbers in a query and in a key of all heads together, a multiple of heads."""
    value_channels: int = 128
    """Numbers in what attention reads of a pixel, of all heads together, a multiple of heads."""
    likelihood: Literal["auto", "bernoulli", "categorical", "logistic_mixture"] = "auto"
    """Distribution of a pixel; auto is bernoulli for 2 levels and logistic_mixture otherwise."""
    components: int = 10
    """Logistics in the mixture of a pixel."""
    dropout: float = 0.5
    """Share of the features inside a resnet that training drops."""
    num_classes: int | None = None
    """Condition on a class label 0 .. num_classes-1 (default: no labels)."""
    condition_dim: int | None = None
    """Condition on a vector of this many floats (default: no vector)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("filters", "blocks", "resnets", "heads", "key_channels", "value_channels", "components"):
            check_int(name, getattr(self, name), 1)
        for name in ("key_channels", "value_channels"):
            if getattr(self, name) % self.heads:
                raise GenfastError(f"{name} must be a multiple of the {self.heads} heads, not {getattr(self, name)}.")
        check_dropout(self.dropout)
        check_condition(self.num_classes, self.condition_dim)
        self._check_likelihood()

    def _check_likelihood(self) -> None:
        if self.likelihood not in LIKELIHOODS:
            raise GenfastError(f"likelihood must be one of {', '.join(LIKELIHOODS)}, not {self.likelihood!r}.")
        colors, name = self.image_shape[0], self.likelihood_name
        if name == "bernoulli" and self.levels != 2:
            raise GenfastError(f"A bernoulli likelihood needs levels = 2, not {self.levels}: use logistic_mixture.")
        if name == "logistic_mixture" and colors not in (1, 3):
            raise GenfastError(f"A logistic_mixture is for images of 1 or 3 channels, not {colors}.")
        if name != "logistic_mixture" and colors != 1:
            raise GenfastError(
                f"With a {name} likelihood a PixelSNAIL is for images of one channel, not {colors}: the colours of a "
                "pixel would know nothing of each other; use logistic_mixture."
            )

    @property
    def likelihood_name(self) -> str:
        """The likelihood, where auto is the one that it stands for."""
        if self.likelihood != "auto":
            return self.likelihood
        return "bernoulli" if self.levels == 2 else "logistic_mixture"


def earlier(query: Tensor, key: Tensor, value: Tensor, heads: int) -> Tensor:
    """Attention of each pixel to those before it in raster order, zeros at the first, which has none before it.

    query, key [B, heads * d, H, W], value [B, heads * v, H, W] -> [B, heads * v, H, W]. Equation 1 of Vaswani et al.
    2017 (arXiv 1706.03762), with keys and values moved on by one pixel: the triangle of the mask then has its diagonal,
    and no row without a key, where a softmax would look at everything.
    """
    q, k, v = (x.unflatten(1, (heads, -1)).flatten(3).transpose(2, 3) for x in (query, key, value))  # [B, heads, HW, d]
    if q.shape[2] == 1:
        return torch.zeros_like(value)
    seen = F.scaled_dot_product_attention(q[:, :, 1:], k[:, :, :-1], v[:, :, :-1], is_causal=True)
    return F.pad(seen, (0, 0, 1, 0)).transpose(2, 3).reshape(value.shape)


class Block(nn.Module):
    """Gated resnets, then attention: figure 2 of the paper.

    Keys and values come of the features, the image and the place; queries of the features and the place. What attention
    finds enters a last resnet from aside.  # [B, h, H, W]
    """

    def __init__(self, config: PixelSNAILConfig) -> None:
        super().__init__()
        h, keys, values = config.filters, config.key_channels, config.value_channels
        condition = config.num_classes or config.condition_dim or 0
        asking, content = h + PLACES, h + PLACES + config.image_shape[0]
        self.heads, self.split = config.heads, (keys, values)
        self.resnets = nn.ModuleList(
            GatedResnet(h, (2, 2), True, config.dropout, condition=condition) for _ in range(config.resnets)
        )
        self.content = GatedResnet(content, (1, 1), False, config.dropout)
        self.key_value = ShiftedConv2d(content, keys + values, (1, 1))
        self.asking = GatedResnet(asking, (1, 1), False, config.dropout)
        self.query = ShiftedConv2d(asking, keys, (1, 1))
        self.mix = GatedResnet(h, (1, 1), False, config.dropout, skip=values, condition=condition)

    def forward(self, x: Tensor, image: Tensor, places: Tensor, condition: Tensor | None) -> Tensor:
        for resnet in self.resnets:
            x = resnet(x, None, condition)
        key, value = self.key_value(self.content(torch.cat([image, x, places], 1))).split(self.split, 1)
        query = self.query(self.asking(torch.cat([x, places], 1)))
        out: Tensor = self.mix(x, earlier(query, key, value, self.heads), condition)
        return out


PLACES = 2  # channels that tell where a pixel is


def places_of(x: Tensor) -> Tensor:
    """How far down and to the right each pixel is, from -1/2 up to 1/2.  # [B, 2, H, W]"""
    height, width = x.shape[2:]
    down, right = (torch.arange(n, dtype=x.dtype, device=x.device) / n - 0.5 for n in (height, width))
    return torch.stack(torch.meshgrid(down, right, indexing="ij")).expand(x.shape[0], -1, -1, -1)


class PixelSNAIL(MixtureModel):
    """The PixelSNAIL of Chen et al. 2018 (arXiv 1712.09763), conditional if the config says so.

    Images of levels [B, C, H, W], labels [B] or vectors [B, D] -> likelihood parameters [B, ..., C, H, W]; those of a
    mixture are [B, rows, K, C, H, W] (see ``LogisticMixture``). Every output reads every earlier pixel, however far
    away, and no colour of its own pixel. Weights are normalised; ``initialize(images)`` sets their gains and the
    biases.
    """

    config: PixelSNAILConfig

    def __init__(self, config: PixelSNAILConfig) -> None:
        colors, h, name = config.image_shape[0], config.filters, config.likelihood_name
        likelihood: Likelihood
        if name == "logistic_mixture":
            likelihood = LogisticMixture(colors, config.levels, config.components)
        else:
            likelihood = make_likelihood(name, colors, config.levels)
        super().__init__(config, config.num_classes, config.condition_dim, likelihood)
        # The image and a channel of ones, which tells where the image ends.
        self.first_row_above = ShiftedConv2d(colors + 1, h, (1, 3))
        self.first_left = ShiftedConv2d(colors + 1, h, (2, 1), right=True)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.blocks))
        self.head = ShiftedConv2d(h, likelihood.param_channels, (1, 1))

    def network(self, x: Tensor, condition: Tensor | None) -> Tensor:
        image, places = x, places_of(x)
        x = torch.cat([x, torch.ones_like(x[:, :1])], 1)
        x = shift_down(self.first_row_above(x)) + shift_right(self.first_left(x))
        for block in self.blocks:
            x = block(x, image, places, condition)
        out: Tensor = self.head(F.elu(x))
        return out


PRESETS = {
    "cifar10": PixelSNAILConfig((3, 32, 32), levels=256),
    "mnist": PixelSNAILConfig(
        (1, 28, 28), levels=256, filters=64, blocks=4, resnets=2, key_channels=16, value_channels=64, dropout=0.2
    ),
    "small": PixelSNAILConfig(
        (1, 28, 28), levels=2, filters=32, blocks=2, resnets=2, key_channels=16, value_channels=16, dropout=0.0
    ),
    "digits": PixelSNAILConfig(
        (1, 8, 8), levels=17, filters=32, blocks=2, resnets=2, key_channels=16, value_channels=32, components=5,
        dropout=0.2,
    ),
}  # fmt: skip
