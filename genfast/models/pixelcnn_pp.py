"""PixelCNN++: two streams at three sizes, and a mixture of logistics for each pixel (Salimans et al. 2017, PixelCNN++:
Improving the PixelCNN with Discretized Logistic Mixture Likelihood and Other Modifications)."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genfast.errors import GenfastError
from genfast.likelihoods import LogisticMixture
from genfast.models.base import ImageConfig, check_condition, check_dropout, check_int
from genfast.models.gated_resnet import GatedResnet, shift_down, shift_right
from genfast.models.mixture_model import MixtureModel
from genfast.nn import ShiftedConv2d

Streams = tuple[Tensor, Tensor]  # vertical, horizontal


@dataclass(frozen=True)
class PixelCNNPPConfig(ImageConfig):
    """Size of a PixelCNN++. Its likelihood is a mixture of discretized logistics: images of 1 or 3 channels."""

    filters: int = 160
    """Feature maps of each stream."""
    resnets: int = 5
    """Gated resnets of each stream at each size, on the way down; on the way up one more, except at the smallest."""
    scales: int = 3
    """Sizes at which the streams run; each has half the height and width of the one before."""
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
        if self.image_shape[0] not in (1, 3):
            raise GenfastError(f"A PixelCNN++ is for images of 1 or 3 channels, not {self.image_shape[0]}.")
        for name in ("filters", "resnets", "scales", "components"):
            check_int(name, getattr(self, name), 1)
        check_dropout(self.dropout)
        check_condition(self.num_classes, self.condition_dim)


class ResnetPair(nn.Module):
    """A gated resnet of each stream; the horizontal one also reads the vertical stream.

    On the way up (``kept`` given) each also reads what its own stream was at this place on the way down.
    """

    def __init__(self, config: PixelCNNPPConfig, up: bool) -> None:
        super().__init__()
        h, condition = config.filters, config.num_classes or config.condition_dim or 0
        self.vertical = GatedResnet(h, (2, 3), False, config.dropout, h if up else 0, condition)
        self.horizontal = GatedResnet(h, (2, 2), True, config.dropout, 2 * h if up else h, condition)

    def forward(self, streams: Streams, condition: Tensor | None, kept: Streams | None = None) -> Streams:
        vertical = self.vertical(streams[0], None if kept is None else kept[0], condition)
        aside = vertical if kept is None else torch.cat([vertical, kept[1]], 1)
        return vertical, self.horizontal(streams[1], aside, condition)


class Resize(nn.Module):
    """Both streams at half the height and width, or at twice (cut to ``size``)."""

    def __init__(self, filters: int, transposed: bool) -> None:
        super().__init__()
        self.vertical = ShiftedConv2d(filters, filters, (2, 3), stride=2, transposed=transposed)
        self.horizontal = ShiftedConv2d(filters, filters, (2, 2), right=True, stride=2, transposed=transposed)

    def forward(self, streams: Streams, size: tuple[int, int] | None = None) -> Streams:
        return self.vertical(streams[0], size), self.horizontal(streams[1], size)


class PixelCNNPP(MixtureModel):
    """The PixelCNN++ of Salimans et al. 2017 (arXiv 1701.05517, section 2), conditional if the config says so.

    Images of levels [B, C, H, W], labels [B] or vectors [B, D] -> likelihood parameters [B, rows, K, C, H, W] (see
    ``LogisticMixture``). The vertical stream reads the rows above, the horizontal one these and the pixels to the left;
    each runs down to small sizes and up again, where it also reads what it was on the way down (section 2.3, figure 2).
    No colour of a pixel is read before the pixel is drawn: what green owes to red is in the likelihood (section 2.2).

    Weights are normalised; ``initialize(images)`` sets their gains and the biases from a batch, as the paper's code
    does before training. Any height and width: odd ones are rounded up on the way down, and cut on the way up.
    """

    config: PixelCNNPPConfig
    likelihood: LogisticMixture

    def __init__(self, config: PixelCNNPPConfig) -> None:
        colors, h = config.image_shape[0], config.filters
        mixture = LogisticMixture(colors, config.levels, config.components)
        super().__init__(config, config.num_classes, config.condition_dim, mixture)
        # The image and a channel of ones, which tells where the image ends.
        self.first_above = ShiftedConv2d(colors + 1, h, (2, 3))
        self.first_row_above = ShiftedConv2d(colors + 1, h, (1, 3))
        self.first_left = ShiftedConv2d(colors + 1, h, (2, 1), right=True)
        last = config.scales - 1

        def pairs(count: int, up: bool) -> nn.ModuleList:
            return nn.ModuleList(ResnetPair(config, up) for _ in range(count))

        self.down = nn.ModuleList(pairs(config.resnets, up=False) for _ in range(config.scales))
        self.smaller = nn.ModuleList(Resize(h, transposed=False) for _ in range(last))
        # In the order of running, so from the smallest size; what entered a larger size needs one resnet more.
        self.up = nn.ModuleList(pairs(config.resnets + (i > 0), up=True) for i in range(config.scales))
        self.larger = nn.ModuleList(Resize(h, transposed=True) for _ in range(last))
        self.head = ShiftedConv2d(h, mixture.param_channels, (1, 1))

    def network(self, x: Tensor, condition: Tensor | None) -> Tensor:
        x = torch.cat([x, torch.ones_like(x[:, :1])], 1)
        left = shift_down(self.first_row_above(x)) + shift_right(self.first_left(x))
        streams: Streams = shift_down(self.first_above(x)), left
        kept = [streams]
        for i, resnets in enumerate(self.down):
            if i > 0:
                kept.append(self.smaller[i - 1](kept[-1]))
            assert isinstance(resnets, nn.ModuleList)
            for pair in resnets:
                kept.append(pair(kept[-1], condition))
        streams = kept.pop()
        for i, resnets in enumerate(self.up):
            if i > 0:
                streams = self.larger[i - 1](streams, tuple(kept[-1][0].shape[2:]))
            assert isinstance(resnets, nn.ModuleList)
            for pair in resnets:
                streams = pair(streams, condition, kept.pop())
        out: Tensor = self.head(F.elu(streams[1]))
        return out


PRESETS = {
    "cifar10": PixelCNNPPConfig((3, 32, 32), levels=256, filters=160, resnets=5, components=10),
    "mnist": PixelCNNPPConfig((1, 28, 28), levels=256, filters=80, resnets=3, components=10),
    "small": PixelCNNPPConfig((1, 28, 28), levels=256, filters=32, resnets=2, components=5, dropout=0.0),
    "digits": PixelCNNPPConfig((1, 8, 8), levels=17, filters=32, resnets=1, scales=2, components=5, dropout=0.2),
}
