"""PixelCNN++: two streams at three sizes, and a mixture of logistics for each pixel (Salimans et al. 2017, PixelCNN++:
Improving the PixelCNN with Discretized Logistic Mixture Likelihood and Other Modifications)."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genfast.errors import GenfastError
from genfast.likelihoods import LogisticMixture
from genfast.models.base import ImageConfig, ImageModel, check_int
from genfast.nn import ShiftedConv2d, initialized_by_data

OUT_GAIN = 0.1  # what a resnet adds at first, in deviations of what goes through it
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
        if not isinstance(self.dropout, int | float) or not 0 <= self.dropout < 1:
            raise GenfastError(f"dropout must be 0 or more and below 1, not {self.dropout!r}.")
        if self.num_classes is not None:
            check_int("num_classes", self.num_classes, 1)
        if self.condition_dim is not None:
            check_int("condition_dim", self.condition_dim, 1)
        if self.num_classes is not None and self.condition_dim is not None:
            raise GenfastError("Set num_classes or condition_dim, not both: a model has one condition.")


def concat_elu(x: Tensor) -> Tensor:
    """ELU of x and of -x, side by side.  # [B, h, H, W] -> [B, 2h, H, W]"""
    return F.elu(torch.cat([x, -x], 1))


def shift_down(x: Tensor) -> Tensor:
    """Each row in the place of the one below it, zeros in the first."""
    return F.pad(x, (0, 0, 1, -1))


def shift_right(x: Tensor) -> Tensor:
    return F.pad(x, (1, -1))


class GatedResnet(nn.Module):
    """x + a * sigmoid(b), (a, b) = conv(concat_elu(conv(concat_elu(x)) + skip(concat_elu(aside))) + condition.

    right: the horizontal stream's filters, 2x2, else the vertical stream's, 2x3. skip: feature maps of what comes from
    aside, or 0. # [B, h, H, W]
    """

    def __init__(self, config: PixelCNNPPConfig, right: bool, skip: int) -> None:
        super().__init__()
        h, size = config.filters, (2, 2) if right else (2, 3)
        condition = config.num_classes or config.condition_dim
        self.conv_in = ShiftedConv2d(2 * h, h, size, right)
        self.skip = ShiftedConv2d(2 * skip, h, (1, 1)) if skip else None
        self.dropout = nn.Dropout(config.dropout)
        self.conv_out = ShiftedConv2d(2 * h, 2 * h, size, right, gain=OUT_GAIN)
        self.condition = nn.Linear(condition, 2 * h, bias=False) if condition else None

    def forward(self, x: Tensor, aside: Tensor | None, condition: Tensor | None) -> Tensor:
        inner = self.conv_in(concat_elu(x))
        if self.skip is not None and aside is not None:
            inner = inner + self.skip(concat_elu(aside))
        gates = self.conv_out(self.dropout(concat_elu(inner)))
        if self.condition is not None:
            gates = gates + self.condition(condition)[:, :, None, None]
        a, b = gates.chunk(2, 1)
        return x + a * torch.sigmoid(b)


class ResnetPair(nn.Module):
    """A gated resnet of each stream; the horizontal one also reads the vertical stream.

    On the way up (``kept`` given) each also reads what its own stream was at this place on the way down.
    """

    def __init__(self, config: PixelCNNPPConfig, up: bool) -> None:
        super().__init__()
        h = config.filters
        self.vertical = GatedResnet(config, right=False, skip=h if up else 0)
        self.horizontal = GatedResnet(config, right=True, skip=2 * h if up else h)

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


class PixelCNNPP(ImageModel):
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

    def outputs(self, images: Tensor, condition: Tensor | None = None) -> Tensor:
        """The network's own output, one mixture a pixel.  # [B, param_channels, H, W]

        In the order of ``genfast.ops.logistic_mixture``. Takes and refuses what ``forward`` does.
        """
        x = self.scale(images)
        return self.network(x, self.encode_condition(condition, x))

    def forward(self, images: Tensor, condition: Tensor | None = None) -> Tensor:
        """Likelihood parameters of every sub-pixel given the earlier ones.  # [B, rows, K, C, H, W]

        Float images are taken as already encoded, for which levels need not be whole. Raises GenfastError for images or
        a condition that do not fit the model.
        """
        out = self.outputs(images, condition)
        levels = (images + 1) * ((self.levels - 1) / 2) if images.is_floating_point() else images
        return self.likelihood.unpack(out, levels)

    def log_prob(self, images: Tensor, condition: Tensor | None = None) -> Tensor:
        """Log-probability of images of integer levels, in nats per image.  # [B]"""
        nats = self.likelihood.log_prob_pixels(self.outputs(images, condition), images)
        return nats.flatten(1).sum(1)

    @torch.no_grad()
    def initialize(self, images: Tensor, labels: Tensor | None = None) -> None:
        """Gains and biases such that every convolution's output has mean 0 and variance 1 on these images (the last one
        of a resnet OUT_GAIN), without dropout: Salimans & Kingma 2016 (arXiv 1602.07868), section 3."""
        training = self.training
        self.eval()
        try:
            with initialized_by_data(self):
                self.outputs(images, labels)
        finally:
            self.train(training)


PRESETS = {
    "cifar10": PixelCNNPPConfig((3, 32, 32), levels=256, filters=160, resnets=5, components=10),
    "mnist": PixelCNNPPConfig((1, 28, 28), levels=256, filters=80, resnets=3, components=10),
    "small": PixelCNNPPConfig((1, 28, 28), levels=256, filters=32, resnets=2, components=5, dropout=0.0),
    "digits": PixelCNNPPConfig((1, 8, 8), levels=17, filters=32, resnets=1, scales=2, components=5, dropout=0.2),
}
