"""ShiftedConv2d: the causal convolutions of PixelCNN++, whose filters end at the pixel instead of being masked."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

INITIAL_DEVIATION = 0.05  # of the directions v; their length does not matter
SMALLEST_DEVIATION = 1e-4  # of a channel over the data: a smaller one is that of a constant, which no gain can make 1


class ShiftedConv2d(nn.Module):
    """A convolution whose filter ends at its pixel, with weight normalisation: Salimans et al. 2017 (arXiv 1701.05517),
    section 2.2 and figure 2, and Salimans & Kingma 2016 (arXiv 1602.07868), equations 2 and 5.

    A filter of kh rows lies on the pixel's row and the kh - 1 rows above. Its kw columns are centred on the pixel
    (right=False: "down-shifted", kw odd), or are the pixel's and the kw - 1 to its left (right=True: "down-right-
    shifted"). No tap is masked, so none is wasted.

    [B, I, H, W] -> [B, O, ceil(H / stride), ceil(W / stride)]: at [Y, X] the filter ends at [stride Y, stride X].
    transposed: the reverse, stride times as large, cut to ``size``: [y, x] reads only what is at [y / stride, x /
    stride] or before. So what is made smaller and larger again has seen no later pixel, whatever the sizes.

    The weight is g v / |v|, with a norm for each output channel: parameters ``weight_g`` [O, 1, 1, 1], ``weight_v``
    [O, I, kh, kw] and ``bias`` [O]. gain: what g starts from; within ``initialized_by_data`` a forward pass sets g and
    the bias, so that every channel of its result has the mean 0 and the deviation ``gain`` over the batch.

    Raises ValueError for a filter that has no middle column (right=False, kw even).
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: tuple[int, int],
        right: bool = False,
        stride: int = 1,
        transposed: bool = False,
        gain: float = 1.0,
        device: Any = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        kh, kw = kernel_size
        if not right and kw % 2 == 0:
            raise ValueError(f"A down-shifted filter is centred on its pixel: kw must be odd, not {kw}.")
        self.in_channels, self.out_channels, self.kernel_size = in_channels, out_channels, (kh, kw)
        self.right, self.stride, self.transposed, self.gain = right, stride, transposed, gain
        self.left = kw - 1 if right else kw // 2  # columns of the filter to the left of the pixel
        self.from_data = False
        self.weight_g = nn.Parameter(torch.empty(out_channels, 1, 1, 1, device=device, dtype=dtype))
        self.weight_v = nn.Parameter(torch.empty(out_channels, in_channels, kh, kw, device=device, dtype=dtype))
        self.bias = nn.Parameter(torch.empty(out_channels, device=device, dtype=dtype))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Random directions of length ``gain``: independent inputs of variance 1 give outputs of deviation ``gain``."""
        nn.init.normal_(self.weight_v, std=INITIAL_DEVIATION)
        nn.init.constant_(self.weight_g, self.gain)
        nn.init.zeros_(self.bias)

    def weight(self) -> Tensor:
        """g v / |v|.  # [O, I, kh, kw]"""
        norm = self.weight_v.flatten(1).norm(dim=1).clamp(min=torch.finfo(self.weight_v.dtype).tiny)
        return self.weight_v * (self.weight_g / norm[:, None, None, None])

    def forward(self, x: Tensor, size: tuple[int, int] | None = None) -> Tensor:
        """size: (H, W) of the result, for a transposed convolution: at most stride times that of x."""
        if self.from_data:
            self._initialize(x, size)
        return self._convolve(x, size)

    def _convolve(self, x: Tensor, size: tuple[int, int] | None) -> Tensor:
        kh, kw = self.kernel_size
        if self.transposed:
            assert size is not None, "a transposed convolution must be told the size of its result"
            # The last rows and columns may be reached by no tap: with output_padding they are there all the same.
            out = F.conv_transpose2d(
                x, self.weight().transpose(0, 1), self.bias, self.stride, output_padding=self.stride - 1
            )
            left = 0 if self.right else self.left  # tap t of an input at X reaches stride X + t: the first is the pixel
            return out[:, :, : size[0], left : left + size[1]]
        if (kh, kw) != (1, 1):
            x = F.pad(x, (self.left, kw - 1 - self.left, kh - 1, 0))
        return F.conv2d(x, self.weight(), self.bias, self.stride)

    @torch.no_grad()
    def _initialize(self, x: Tensor, size: tuple[int, int] | None) -> None:
        """g = gain / deviation, bias = -mean g / |w| of the outputs for unit weights: equation 5."""
        self.weight_g.fill_(1)
        self.bias.zero_()
        out = self._convolve(x, size).transpose(0, 1).flatten(1)  # [O, B H W]
        deviation, mean = torch.std_mean(out, 1, correction=0)
        scale = torch.where(deviation < SMALLEST_DEVIATION, self.gain, self.gain / deviation)
        self.weight_g.copy_(scale[:, None, None, None])
        self.bias.copy_(-mean * scale)

    def extra_repr(self) -> str:
        kind = "down-right-shifted" if self.right else "down-shifted"
        up = f", {'transposed' if self.transposed else 'stride'}={self.stride}" if self.stride > 1 else ""
        return f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, {kind}{up}"


@contextmanager
def initialized_by_data(module: nn.Module) -> Iterator[None]:
    """Within, a forward pass of ``module`` initialises each of its ShiftedConv2d by what reaches it, one after the
    other (Salimans & Kingma 2016, section 3)."""
    layers = [layer for layer in module.modules() if isinstance(layer, ShiftedConv2d)]
    try:
        for layer in layers:
            layer.from_data = True
        yield
    finally:
        for layer in layers:
            layer.from_data = False
