"""Gated PixelCNN: two stacks and no blind spot (van den Oord et al. 2016, Conditional Image Generation with PixelCNN
Decoders)."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from genfast import ops
from genfast.errors import GenfastError
from genfast.models.base import ImageModel, ModelConfig, channels_last, check_condition, check_int, check_kernel
from genfast.nn import MaskedConv2d


@dataclass(frozen=True)
class GatedPixelCNNConfig(ModelConfig):
    """Size of a Gated PixelCNN."""

    hidden: int = 96
    """Feature maps of each stack; a multiple of the image's channels, so that each colour gets an equal share."""
    layers: int = 10
    """Number of gated layers; each lets a pixel see one row and one column further."""
    head: int = 128
    """Feature maps of the skip connections and of the 1x1 layer after them."""
    first_kernel: int = 7
    """Height and width of the first layer's filters, odd."""
    kernel: int = 3
    """Height and width of the other layers' filters, odd."""
    num_classes: int | None = None
    """Condition on a class label 0 .. num_classes-1 (default: no labels)."""
    condition_dim: int | None = None
    """Condition on a vector of this many floats (default: no vector)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        channels = self.image_shape[0]
        check_int("layers", self.layers, 1)
        check_kernel("first_kernel", self.first_kernel, 3)
        check_kernel("kernel", self.kernel)
        check_int("hidden", self.hidden, 1)
        check_int("head", self.head, channels)
        if self.hidden % channels:
            raise GenfastError(f"hidden must be a multiple of the image's {channels} channels, not {self.hidden}.")
        check_condition(self.num_classes, self.condition_dim)


class GatedLayer(nn.Module):
    """One layer of both stacks: figure 2 of the paper, with the condition inside the gates (equations 2 to 4).

    vertical [B, h, H, W]: features of the rows above, whole rows at a time, so without colour groups.
    horizontal [B, h, H, W]: features of the pixels to the left, and of the vertical stack. The first layer takes
    the image for both. Returns (vertical, horizontal, skip); after the last layer only skip is used.
    """

    def __init__(self, config: GatedPixelCNNConfig, first: bool, last: bool) -> None:
        super().__init__()
        colors, h = config.image_shape[0], config.hidden
        inputs, k = (colors, config.first_kernel) if first else (h, config.kernel)
        self.color_groups, self.first = colors, first
        self.vertical = MaskedConv2d(inputs, 2 * h, k, "VA" if first else "VB")
        self.vertical_to_horizontal = nn.Conv2d(2 * h, 2 * h, 1)
        self.horizontal = MaskedConv2d(inputs, 2 * h, (1, k), "A" if first else "B", colors)
        self.residual = nn.Identity() if last else MaskedConv2d(h, h, 1, "B", colors)
        self.skip = MaskedConv2d(h, config.head, 1, "B", colors)
        size = config.num_classes or config.condition_dim
        self.condition = nn.Linear(size, 4 * h, bias=False) if size else None
        self.keep_scale()

    def keep_scale(self) -> None:
        """Enlarge the initial weights so that features keep their size from layer to layer.

        PyTorch's own have a variance of 1 / (3 fan-in), and a gate halves what is small: there tanh(f) sigmoid(g) is
        f / 2. The vertical stack has no residual connection: in it, every layer would leave a third of the one before.
        """
        with torch.no_grad():
            for conv in (self.vertical, self.horizontal, self.vertical_to_horizontal):
                conv.weight.mul_(3**0.5)
            if not self.first:
                self.vertical.weight.mul_(2)

    def forward(self, vertical: Tensor, horizontal: Tensor, condition: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        v = channels_last(self.vertical(vertical))
        x = channels_last(self.horizontal(horizontal)) + self.vertical_to_horizontal(v)
        if self.condition is not None:
            for_v, for_x = self.condition(condition)[:, :, None, None].chunk(2, 1)
            v, x = v + for_v, x + for_x
        x = ops.gated_activation(x, self.color_groups)
        residual = self.residual(x)
        return ops.gated_activation(v), residual if self.first else horizontal + residual, self.skip(x)


class GatedPixelCNN(ImageModel):
    """The Gated PixelCNN of van den Oord et al. 2016 (arXiv 1606.05328, section 2), conditional if the config says so.

    Images of levels [B, C, H, W], labels [B] or vectors [B, D] -> likelihood parameters [B, ..., C, H, W].
    The vertical stack reads the rows above and passes its features on to the horizontal stack, which reads the pixels
    to the left: together they see every earlier pixel within reach. Only the horizontal stack needs colour groups.
    """

    config: GatedPixelCNNConfig

    def __init__(self, config: GatedPixelCNNConfig) -> None:
        super().__init__(config, config.num_classes, config.condition_dim)
        colors, head, n = config.image_shape[0], config.head, config.layers
        self.layers = nn.ModuleList(GatedLayer(config, first=i == 0, last=i == n - 1) for i in range(n))
        self.head = nn.Sequential(
            nn.ReLU(),
            MaskedConv2d(head, head, 1, "B", colors),
            nn.ReLU(inplace=True),
            MaskedConv2d(head, self.likelihood.param_channels, 1, "B", colors),
        )

    def network(self, x: Tensor, condition: Tensor | None) -> Tensor:
        vertical, horizontal, skips = x, x, x.new_zeros(())
        for layer in self.layers:
            vertical, horizontal, skip = layer(vertical, horizontal, condition)
            skips = skips + skip
        return self.head(skips)


PRESETS = {
    "cifar10": GatedPixelCNNConfig((3, 32, 32), levels=256, hidden=192, layers=15, head=384),
    "mnist": GatedPixelCNNConfig((1, 28, 28), levels=2, hidden=128, layers=10, head=128),
    "small": GatedPixelCNNConfig((1, 28, 28), levels=2, hidden=32, layers=6, head=64, first_kernel=21, kernel=5),
    "digits": GatedPixelCNNConfig((1, 8, 8), levels=17, hidden=32, layers=4, head=64, first_kernel=5),
}
