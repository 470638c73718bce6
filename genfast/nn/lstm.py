"""RowLSTM and DiagonalBiLSTM: the recurrent layers of PixelRNN (van den Oord et al. 2016, arXiv 1601.06759)."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genfast import ops
from genfast.kernels.masked_conv2d.mask import causal_mask, check_mask

GATES = 4  # input, forget, candidate, output (i, f, g, o): the order of nn.LSTM
FORGET = 1  # the position of the forget gate


class ConvLSTM(nn.Module):
    """What both layers share: the parameters, their masks, and the input-to-state convolution (section 3.1).

    weight_ih [4h, I, 1, k] and bias [4h]: the masked input-to-state convolution. weight_hh [4h, h, T]: the
    state-to-state one over T earlier neighbours; it only reads other pixels, so it has no mask. h0, c0 [h]: the learned
    state outside the image. The 4h channels are four blocks of h, one for each gate in the order i, f, g, o.

    Hidden feature j has one colour group, and so do its four gates: the mask is that of a convolution to h channels,
    four times over, and not that of one to 4h channels, whose groups would cut across the gates and leak.
    """

    def __init__(
        self, in_channels: int, hidden: int, kernel_size: int, taps: int, mask_type: str, color_groups: int
    ) -> None:
        super().__init__()
        check_mask((1, kernel_size), mask_type, color_groups)
        if mask_type not in ("A", "B"):
            raise ValueError(f"mask_type must be A or B, not {mask_type}: that one reads pixels to the right.")
        if in_channels < 1 or hidden < 1:
            raise ValueError(f"in_channels and hidden must be at least 1, not {in_channels} and {hidden}.")
        self.in_channels = in_channels
        self.hidden = hidden
        self.kernel_size = kernel_size
        self.mask_type = mask_type
        self.color_groups = color_groups
        self.weight_ih = nn.Parameter(torch.empty(GATES * hidden, in_channels, 1, kernel_size))
        self.bias = nn.Parameter(torch.empty(GATES * hidden))
        self.weight_hh = nn.Parameter(torch.empty(GATES * hidden, hidden, taps))
        self.h0 = nn.Parameter(torch.empty(hidden))
        self.c0 = nn.Parameter(torch.empty(hidden))
        self.reset_parameters()

    def mask(self) -> Tensor:
        """Ones where weight_ih is used.  # [4h, I, 1, k]"""
        size = (1, self.kernel_size)
        mask = causal_mask(self.hidden, self.in_channels, size, self.mask_type, self.color_groups)
        return mask.repeat(GATES, 1, 1, 1).to(self.weight_ih)

    def reset_parameters(self) -> None:
        """Weights of variance 1 / fan-in, where the fan-in counts only the taps that exist.

        PyTorch's own have a third of that, and a new LSTM shrinks what is small once more: its output is about 0.4 of
        its candidates. The forget gates start open (bias 1, as Jozefowicz et al. 2015 recommend): a cell then keeps
        0.73 of its state from one pixel to the next, and not half, so gradients come back from further away.
        """
        with torch.no_grad():
            mask = self.mask()
            for weight, fan_in in (
                (self.weight_ih, float(mask.sum()) / len(mask)),
                (self.weight_hh, self.weight_hh[0].numel()),
            ):
                bound = (3 / max(fan_in, 1)) ** 0.5
                weight.uniform_(-bound, bound)
            self.weight_ih.mul_(mask)
            self.bias.zero_()
            self.bias.chunk(GATES)[FORGET].fill_(1)
            self.h0.zero_()
            self.c0.zero_()

    def input_to_state(self, x: Tensor) -> Tensor:
        """The part of the gates that the input decides, for the whole map.  # [B, I, H, W] -> [B, 4h, H, W]"""
        if self.color_groups == 1:
            return ops.masked_conv2d(x, self.weight_ih, self.bias, self.mask_type)
        gates = zip(self.weight_ih.chunk(GATES), self.bias.chunk(GATES), strict=True)
        return torch.cat([ops.masked_conv2d(x, w, b, self.mask_type, self.color_groups) for w, b in gates], 1)

    def extra_repr(self) -> str:
        groups = f", color_groups={self.color_groups}" if self.color_groups > 1 else ""
        return f"{self.in_channels}, {self.hidden}, mask_type={self.mask_type!r}{groups}"

    def _load_from_state_dict(self, *args: Any) -> None:
        super()._load_from_state_dict(*args)
        with torch.no_grad():
            self.weight_ih.mul_(self.mask())


class RowLSTM(ConvLSTM):
    """A Row LSTM layer: a convolutional LSTM that goes down the image row by row (section 3.1, equation 3).

    [B, I, H, W] -> [B, hidden, H, W], in the memory format of the input. The input-to-state convolution reads
    kernel_size pixels around each pixel in its row, as far as the mask lets it; the state-to-state convolution reads
    kernel_size pixels of the row above. So a pixel sees a triangle above itself: n rows up, n * (kernel_size // 2)
    columns to each side, and kernel_size // 2 more on the left by input-to-state. Above the image the state is h0, c0.

    mask_type: "B", or "A" for a layer that reads the image itself: it then does not see its own pixel (with
    color_groups, its own and later colours). color_groups: 1, or 3 for R before G before B; in_channels and hidden are
    then split in contiguous groups. Masked weights are held at zero: they start there, get no gradient, and are zeroed
    on loading.

    Raises ValueError for sizes below 1, an even kernel size or another mask.
    """

    def __init__(
        self, in_channels: int, hidden: int, mask_type: str = "B", color_groups: int = 1, kernel_size: int = 3
    ) -> None:
        super().__init__(in_channels, hidden, kernel_size, kernel_size, mask_type, color_groups)

    def forward(self, x: Tensor) -> Tensor:
        return ops.row_lstm(self.input_to_state(x), self.weight_hh, self.h0, self.c0)

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, kernel_size={self.kernel_size}"


class DiagonalLSTM(ConvLSTM):
    """One direction of a DiagonalBiLSTM: 1x1 input-to-state, then a state from above and one from the side."""

    def __init__(self, in_channels: int, hidden: int, mask_type: str, color_groups: int, reverse: bool) -> None:
        super().__init__(in_channels, hidden, 1, 2, mask_type, color_groups)
        self.reverse = reverse

    def forward(self, x: Tensor) -> Tensor:
        return ops.diagonal_lstm(self.input_to_state(x), self.weight_hh, self.h0, self.c0, self.reverse)

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}{', reverse=True' if self.reverse else ''}"


class DiagonalBiLSTM(nn.Module):
    """A Diagonal BiLSTM layer: two LSTMs cross the image from its two upper corners (section 3.2).

    [B, I, H, W] -> [B, hidden, H, W], in the memory format of the input. left_to_right reads a pixel, and its states at
    the pixel above and to the left: everything above and left. right_to_left is its mirror image; it has seen pixels to
    the right, so its map goes down by one row (zeros enter at the top) before the two are added. Together they see
    every earlier pixel. left_to_right and right_to_left each have their own weight_ih [4h, I, 1, 1], bias [4h],
    weight_hh [4h, h, 2] (taps up, side), h0 and c0 [h] (the state beside the image).

    mask_type: "B"; "A" leaves nothing of a 1x1 convolution but colours before one's own, so a model begins with a
    masked convolution instead. color_groups and masked weights are as in RowLSTM.

    Raises ValueError for sizes below 1 or another mask.
    """

    def __init__(self, in_channels: int, hidden: int, mask_type: str = "B", color_groups: int = 1) -> None:
        super().__init__()
        self.left_to_right = DiagonalLSTM(in_channels, hidden, mask_type, color_groups, reverse=False)
        self.right_to_left = DiagonalLSTM(in_channels, hidden, mask_type, color_groups, reverse=True)

    def forward(self, x: Tensor) -> Tensor:
        above = self.right_to_left(x)[:, :, :-1]
        return self.left_to_right(x) + F.pad(above, (0, 0, 1, 0))
