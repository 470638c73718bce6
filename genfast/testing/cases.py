"""The shapes that every backend must survive: odd, prime, one pixel wide, one over a vector, any strides."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class MaskedConv2dCase:
    """One call of masked_conv2d: x [B, I, H, W] with weight [O, I, kh, kw]."""

    batch: int
    in_channels: int
    out_channels: int
    height: int
    width: int
    kernel_size: tuple[int, int]
    mask_type: str
    color_groups: int = 1
    layout: str = "contiguous"  # or channels_last, sliced (a slice of a larger tensor), swapped (x-major: W before H)
    bias: bool = True

    @property
    def id(self) -> str:
        kh, kw = self.kernel_size
        groups = f"-g{self.color_groups}" if self.color_groups > 1 else ""
        bias = "" if self.bias else "-nobias"
        sizes = f"b{self.batch}-{self.in_channels}to{self.out_channels}-{self.height}x{self.width}"
        return f"{self.mask_type}-k{kh}x{kw}-{sizes}{groups}-{self.layout}{bias}"

    def inputs(
        self, dtype: torch.dtype, device: str | torch.device = "cpu", seed: int = 0
    ) -> tuple[Tensor, Tensor, Tensor | None, Tensor]:
        """x, weight, bias (or None) and an output gradient: normal numbers rounded to ``dtype``.

        x has this case's layout; so has the gradient [B, O, H, W]. The same numbers on every device.
        """
        generator = torch.Generator().manual_seed(seed)
        kh, kw = self.kernel_size

        def normal(*shape: int) -> Tensor:
            return torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype).to(device)

        x = arrange(normal(self.batch, self.in_channels, self.height, self.width), self.layout)
        weight = normal(self.out_channels, self.in_channels, kh, kw) / (self.in_channels * kh * kw) ** 0.5
        bias = normal(self.out_channels) if self.bias else None
        grad = arrange(normal(self.batch, self.out_channels, self.height, self.width), self.layout)
        return x, weight, bias, grad


def arrange(image: Tensor, layout: str) -> Tensor:
    """The same values [B, C, H, W] under other strides; what lies between the elements of a slice is NaN."""
    if layout == "contiguous":
        return image.contiguous()
    if layout == "channels_last":
        return image.contiguous(memory_format=torch.channels_last)
    if layout == "swapped":
        return image.transpose(2, 3).contiguous().transpose(2, 3)
    if layout == "sliced":
        b, c, h, w = image.shape
        larger = image.new_full((b, c + 2, h + 1, 2 * w + 1), float("nan"))
        view = larger[:, 1 : c + 1, 1:, 1::2]
        view.copy_(image)
        return view
    raise ValueError(f"layout must be contiguous, channels_last, swapped or sliced, not {layout!r}.")


Case = MaskedConv2dCase

MASKED_CONV2D_CASES: tuple[MaskedConv2dCase, ...] = (
    # every mask at the usual size, and channels one over a vector
    Case(2, 3, 17, 5, 7, (3, 3), "A"),
    Case(2, 17, 3, 5, 7, (3, 3), "B"),
    Case(2, 3, 5, 5, 7, (3, 3), "VA", layout="channels_last"),
    Case(2, 5, 3, 5, 7, (3, 3), "VB", layout="sliced"),
    Case(1, 65, 65, 4, 5, (3, 3), "B", layout="channels_last"),
    Case(2, 64, 32, 6, 6, (3, 3), "B"),
    # large filters, larger than the image too
    Case(2, 1, 17, 9, 9, (7, 7), "A"),
    Case(1, 3, 8, 3, 2, (7, 7), "B", layout="swapped"),
    # rectangular filters, one row or one column of taps
    Case(1, 3, 4, 5, 6, (1, 5), "A", bias=False),
    Case(2, 4, 3, 5, 6, (1, 5), "B", layout="sliced"),
    Case(1, 3, 4, 6, 5, (5, 3), "B", layout="channels_last"),
    Case(1, 3, 4, 6, 5, (5, 3), "VB"),
    Case(1, 2, 3, 6, 5, (5, 1), "A"),
    # filters of one tap; under mask A nothing is left but the bias
    Case(2, 17, 17, 3, 5, (1, 1), "B", bias=False),
    Case(2, 3, 5, 3, 5, (1, 1), "A"),
    Case(1, 3, 2, 3, 4, (1, 1), "VA", bias=False),
    Case(1, 3, 2, 3, 4, (1, 3), "VB"),
    # images of one pixel, one row, one column; primes
    Case(1, 1, 1, 1, 1, (3, 3), "B"),
    Case(3, 2, 3, 11, 1, (3, 3), "A", layout="swapped"),
    Case(3, 2, 3, 1, 13, (3, 3), "B", layout="channels_last"),
    # colour groups: even, uneven (17 -> 6, 6, 5), more groups than channels, two groups
    Case(2, 3, 9, 5, 4, (3, 3), "A", color_groups=3),
    Case(2, 17, 19, 5, 4, (3, 3), "B", color_groups=3, layout="channels_last"),
    Case(1, 6, 6, 3, 3, (1, 1), "A", color_groups=3),
    Case(1, 6, 7, 3, 3, (1, 1), "B", color_groups=3, bias=False),
    Case(1, 2, 4, 4, 3, (5, 3), "B", color_groups=3, layout="sliced"),
    Case(1, 8, 4, 4, 3, (3, 5), "A", color_groups=2),
    # no images at all
    Case(0, 3, 4, 5, 5, (3, 3), "B"),
)
