"""The gated resnet of PixelCNN++ and PixelSNAIL, and what these networks shift."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genfast.nn import ShiftedConv2d

OUT_GAIN = 0.1  # what a resnet adds at first, in deviations of what goes through it


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

    Salimans et al. 2017 (arXiv 1701.05517), section 2.3. size, right: of the filters, as in ShiftedConv2d. skip:
    feature maps of what comes from aside, or 0. condition: numbers in the condition, or 0.  # [B, h, H, W]
    """

    def __init__(
        self, filters: int, size: tuple[int, int], right: bool, dropout: float, skip: int = 0, condition: int = 0
    ) -> None:
        super().__init__()
        h = filters
        self.conv_in = ShiftedConv2d(2 * h, h, size, right)
        self.skip = ShiftedConv2d(2 * skip, h, (1, 1)) if skip else None
        self.dropout = nn.Dropout(dropout)
        self.conv_out = ShiftedConv2d(2 * h, 2 * h, size, right, gain=OUT_GAIN)
        self.condition = nn.Linear(condition, 2 * h, bias=False) if condition else None

    def forward(self, x: Tensor, aside: Tensor | None = None, condition: Tensor | None = None) -> Tensor:
        inner = self.conv_in(concat_elu(x))
        if self.skip is not None and aside is not None:
            inner = inner + self.skip(concat_elu(aside))
        gates = self.conv_out(self.dropout(concat_elu(inner)))
        if self.condition is not None:
            gates = gates + self.condition(condition)[:, :, None, None]
        a, b = gates.chunk(2, 1)
        return x + a * torch.sigmoid(b)
