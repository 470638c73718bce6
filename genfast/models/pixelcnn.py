"""PixelCNN: a deep stack of masked convolutions (van den Oord et al. 2016, Pixel Recurrent Neural Networks)."""

from dataclasses import dataclass

from torch import Tensor, nn

from genfast.models.base import ImageModel, ModelConfig, channels_last, check_int, check_kernel
from genfast.models.head import output_head
from genfast.nn import MaskedConv2d


@dataclass(frozen=True)
class PixelCNNConfig(ModelConfig):
    """Size of a PixelCNN."""

    hidden: int = 128
    """Feature maps h inside a residual block; 2h run between the blocks."""
    blocks: int = 15
    """Number of residual blocks; each lets a pixel see one row and one column further."""
    head: int = 1024
    """Feature maps of the two 1x1 layers after the blocks."""
    first_kernel: int = 7
    """Height and width of the first convolution (mask A), odd."""
    kernel: int = 3
    """Height and width of the convolution in each block (mask B), odd."""

    def __post_init__(self) -> None:
        super().__post_init__()
        channels = self.image_shape[0]  # every colour needs a feature map
        check_int("blocks", self.blocks, 0)
        check_kernel("first_kernel", self.first_kernel, 3)
        check_kernel("kernel", self.kernel)
        check_int("hidden", self.hidden, channels)
        check_int("head", self.head, channels)


class ResidualBlock(nn.Module):
    """x + (ReLU, 1x1 to h, ReLU, k x k to h, ReLU, 1x1 to 2h), all mask B: figure 5, left.  # [B, 2h, H, W]"""

    def __init__(self, hidden: int, kernel: int, color_groups: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.ReLU(),
            MaskedConv2d(2 * hidden, hidden, 1, "B", color_groups),
            nn.ReLU(inplace=True),
            MaskedConv2d(hidden, hidden, kernel, "B", color_groups),
            nn.ReLU(inplace=True),
            MaskedConv2d(hidden, 2 * hidden, 1, "B", color_groups),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layers(x)


class PixelCNN(ImageModel):
    """The PixelCNN of van den Oord et al. 2016 (arXiv 1601.06759, sections 3.3 to 3.5 and table 1).

    Images of levels [B, C, H, W] -> likelihood parameters [B, ..., C, H, W]. In every layer the feature maps are split
    in C colour groups: R is drawn before G before B. Stacked masks leave a *blind spot*: n rows above itself, a pixel
    sees at most n + 2 columns to its right (with the default 7x7 and 3x3 filters), however many blocks there are.
    GatedPixelCNN has no blind spot.
    """

    config: PixelCNNConfig

    def __init__(self, config: PixelCNNConfig) -> None:
        super().__init__(config)
        colors, h, head = config.image_shape[0], config.hidden, config.head
        self.first = MaskedConv2d(colors, 2 * h, config.first_kernel, "A", colors)
        self.blocks = nn.Sequential(*(ResidualBlock(h, config.kernel, colors) for _ in range(config.blocks)))
        self.head = output_head(2 * h, head, self.likelihood.param_channels, colors)

    def network(self, x: Tensor, condition: Tensor | None) -> Tensor:
        return self.head(self.blocks(channels_last(self.first(x))))


PRESETS = {
    "cifar10": PixelCNNConfig((3, 32, 32), levels=256, hidden=128, blocks=15, head=1024),
    "cifar10-small": PixelCNNConfig((3, 32, 32), levels=256, hidden=48, blocks=4, head=96),
    "mnist": PixelCNNConfig((1, 28, 28), levels=2, hidden=16, blocks=7, head=32),
    "small": PixelCNNConfig((1, 28, 28), levels=2, hidden=48, blocks=5, head=64, first_kernel=21, kernel=5),
    "digits": PixelCNNConfig((1, 8, 8), levels=17, hidden=32, blocks=4, head=64, first_kernel=5),
}
