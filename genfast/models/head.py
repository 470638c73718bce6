"""What follows the deep part of PixelCNN and PixelRNN: two hidden layers at each pixel, then likelihood parameters."""

from torch import nn

from genfast.nn import MaskedConv2d


def output_head(inputs: int, hidden: int, outputs: int, color_groups: int) -> nn.Sequential:
    """ReLU and a 1x1 convolution (mask B), three times (van den Oord et al. 2016, arXiv 1601.06759, table 1).

    [B, inputs, H, W] -> [B, outputs, H, W], with two layers of ``hidden`` feature maps in between.
    """
    return nn.Sequential(
        nn.ReLU(),
        MaskedConv2d(inputs, hidden, 1, "B", color_groups),
        nn.ReLU(inplace=True),
        MaskedConv2d(hidden, hidden, 1, "B", color_groups),
        nn.ReLU(inplace=True),
        MaskedConv2d(hidden, outputs, 1, "B", color_groups),
    )
