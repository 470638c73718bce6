"""PixelRNN: a deep stack of recurrent layers over the image (van den Oord et al. 2016, Pixel Recurrent Neural
Networks)."""

from dataclasses import dataclass
from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

from genfast.errors import GenfastError
from genfast.models.base import ImageModel, ModelConfig, channels_last, check_int, check_kernel
from genfast.models.head import output_head
from genfast.nn import DiagonalBiLSTM, MaskedConv2d, RowLSTM

Variant = Literal["row", "diagonal"]


@dataclass(frozen=True)
class PixelRNNConfig(ModelConfig):
    """Size of a PixelRNN."""

    variant: Variant = "row"
    """Kind of recurrent layer: row sees a triangle above a pixel, diagonal every earlier pixel."""
    hidden: int = 128
    """Features h of an LSTM's state; 2h feature maps run between the layers."""
    layers: int = 12
    """Number of recurrent layers."""
    head: int = 1024
    """Feature maps of the two 1x1 layers after the recurrent ones."""
    first_kernel: int = 7
    """Height and width of the first convolution (mask A), odd."""
    kernel: int = 3
    """Width of the Row LSTM's two convolutions along a row, odd; the diagonal variant has no such filter."""

    def __post_init__(self) -> None:
        super().__post_init__()
        channels = self.image_shape[0]  # every colour needs a feature map
        if self.variant not in ("row", "diagonal"):
            raise GenfastError(f"variant must be row or diagonal, not {self.variant!r}.")
        check_int("layers", self.layers, 1)
        check_kernel("first_kernel", self.first_kernel, 3)
        check_kernel("kernel", self.kernel)
        check_int("hidden", self.hidden, channels)
        check_int("head", self.head, channels)


class ResidualLayer(nn.Module):
    """x + (LSTM to h, 1x1 to 2h), all mask B: figure 5, right.  # [B, 2h, H, W]"""

    def __init__(self, config: PixelRNNConfig) -> None:
        super().__init__()
        colors, h = config.image_shape[0], config.hidden
        self.lstm: nn.Module
        if config.variant == "row":
            self.lstm = RowLSTM(2 * h, h, "B", colors, config.kernel)
        else:
            self.lstm = DiagonalBiLSTM(2 * h, h, "B", colors)
        self.up = MaskedConv2d(h, 2 * h, 1, "B", colors)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.up(self.lstm(x))


class PixelRNN(ImageModel):
    """The PixelRNN of van den Oord et al. 2016 (arXiv 1601.06759, sections 3.1 to 3.5 and table 1).

    Images of levels [B, C, H, W] -> likelihood parameters [B, ..., C, H, W]. In every layer the feature maps are split
    in C colour groups: R is drawn before G before B.

    The diagonal variant runs on maps with one column more than the image, right of it, and drops that column before the
    head. Otherwise one pixel would be out of sight: the last of the row above. Features at a pixel do not contain the
    pixel itself (mask A), and what would carry that last one to the right-to-left LSTM lies beyond the edge. The column
    has no parameters and costs 1/W of the work.
    """

    config: PixelRNNConfig

    def __init__(self, config: PixelRNNConfig) -> None:
        super().__init__(config)
        colors, h = config.image_shape[0], config.hidden
        self.first = MaskedConv2d(colors, 2 * h, config.first_kernel, "A", colors)
        self.layers = nn.Sequential(*(ResidualLayer(config) for _ in range(config.layers)))
        self.head = output_head(2 * h, config.head, self.likelihood.param_channels, colors)

    def network(self, x: Tensor, condition: Tensor | None) -> Tensor:
        if self.config.variant == "row":
            return self.head(self.layers(channels_last(self.first(x))))
        wider = channels_last(self.first(F.pad(x, (0, 1))))
        return self.head(channels_last(self.layers(wider)[..., :-1]))


# The paper's networks, and three that train on a few CPU cores. Names say the variant, where there is one of each.
PRESETS = {
    "cifar10-row": PixelRNNConfig((3, 32, 32), levels=256, variant="row", hidden=128, layers=12, head=1024),
    "cifar10-diagonal": PixelRNNConfig((3, 32, 32), levels=256, variant="diagonal", hidden=128, layers=12, head=1024),
    "mnist-row": PixelRNNConfig((1, 28, 28), levels=2, variant="row", hidden=16, layers=7, head=32),
    "mnist-diagonal": PixelRNNConfig((1, 28, 28), levels=2, variant="diagonal", hidden=16, layers=7, head=32),
    "mnist-diagonal-1": PixelRNNConfig((1, 28, 28), levels=2, variant="diagonal", hidden=32, layers=1, head=32),
    "small-row": PixelRNNConfig((1, 28, 28), levels=2, variant="row", hidden=48, layers=5, head=64, first_kernel=21),
    "small-diagonal": PixelRNNConfig(
        (1, 28, 28), levels=2, variant="diagonal", hidden=48, layers=4, head=64, first_kernel=15
    ),
    "digits": PixelRNNConfig((1, 8, 8), levels=17, variant="row", hidden=32, layers=3, head=64, first_kernel=5),
}
