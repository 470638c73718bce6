"""Which taps of a filter a causal convolution may read.

Every mask of this family keeps a *prefix* of the filter in raster order, so a mask is one number: how many taps it
keeps. That is why no backend ever looks at a mask tensor, and why none computes a masked tap.

    "A"   the rows above, and the pixels to the left          (van den Oord et al. 2016a, first layer)
    "B"   as A, and the pixel itself                          (van den Oord et al. 2016a, later layers)
    "VA"  the rows above                                      (vertical stack of van den Oord et al. 2016b, first layer)
    "VB"  the rows above and the whole row of the pixel       (vertical stack, later layers: its input is causal by
    rows)

With ``color_groups`` G > 1 the channels are G contiguous groups, in the order R, G, B. At the pixel itself an output
channel of group g reads the input channels of groups < g ("A") or <= g ("B"); everywhere else it reads all of them.
"""

from typing import Literal, get_args

import torch
from torch import Tensor

MaskType = Literal["A", "B", "VA", "VB"]
MASK_TYPES: tuple[str, ...] = get_args(MaskType)  # the operators' schemas take the position in this list


def check_mask(kernel_size: tuple[int, int], mask_type: str, color_groups: int) -> None:
    """Raises ValueError, in one sentence, for a mask that does not exist."""
    kh, kw = kernel_size
    if mask_type not in MASK_TYPES:
        raise ValueError(f"mask_type must be one of {', '.join(MASK_TYPES)}, not {mask_type!r}.")
    if kh < 1 or kw < 1 or kh % 2 == 0 or kw % 2 == 0:
        raise ValueError(f"kernel sizes must be odd and positive, so that the output keeps the size; got {kh}x{kw}.")
    if color_groups < 1:
        raise ValueError(f"color_groups must be at least 1, not {color_groups}.")
    if color_groups > 1 and mask_type in ("VA", "VB"):
        raise ValueError(f"mask {mask_type} reads whole rows and so has no colour order; use color_groups=1.")


def num_taps(kernel_size: tuple[int, int], mask_type: str, color_groups: int) -> int:
    """How many taps, counted in raster order from the top left, are not masked for every channel pair."""
    kh, kw = kernel_size
    if mask_type == "VA":
        return (kh // 2) * kw
    if mask_type == "VB":
        return (kh // 2 + 1) * kw
    center = (kh // 2) * kw + kw // 2
    return center + 1 if mask_type == "B" or color_groups > 1 else center


def group_of(channels: int, color_groups: int) -> list[int]:
    """The colour group of each channel: contiguous groups, sizes that differ by at most one (128 -> 43, 43, 42)."""
    return [c * color_groups // channels for c in range(channels)]


def causal_mask(
    out_channels: int, in_channels: int, kernel_size: tuple[int, int], mask_type: str, color_groups: int = 1
) -> Tensor:
    """The mask as a float tensor of ones and zeros.  # [O, I, kh, kw]"""
    check_mask(kernel_size, mask_type, color_groups)
    kh, kw = kernel_size
    mask = torch.zeros(out_channels, in_channels, kh * kw)
    mask[:, :, : num_taps(kernel_size, mask_type, color_groups)] = 1
    if mask_type in ("A", "B") and color_groups > 1:
        out_group = torch.tensor(group_of(out_channels, color_groups))[:, None]
        in_group = torch.tensor(group_of(in_channels, color_groups))[None, :]
        reads = in_group < out_group if mask_type == "A" else in_group <= out_group
        mask[:, :, (kh // 2) * kw + kw // 2] = reads.to(mask.dtype)
    return mask.reshape(out_channels, in_channels, kh, kw)
