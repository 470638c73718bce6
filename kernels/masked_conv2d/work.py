"""What masked_conv2d computes: two FLOPs for each weight that is not masked, at each pixel. Forward, the gradient of x
and that of the weights cost the same; taps beyond the edge count, as is usual for convolutions."""

from genfast.kernels.common.work import Work
from genfast.kernels.masked_conv2d.mask import group_of, num_taps


def active_weights(
    out_channels: int, in_channels: int, kernel_size: tuple[int, int], mask_type: str, color_groups: int = 1
) -> int:
    """How many weights the mask keeps."""
    taps = num_taps(kernel_size, mask_type, color_groups)
    if color_groups == 1:
        return out_channels * in_channels * taps
    out_group, in_group = group_of(out_channels, color_groups), group_of(in_channels, color_groups)
    reads = sum(i < o if mask_type == "A" else i <= o for o in out_group for i in in_group)
    return out_channels * in_channels * (taps - 1) + reads


def work(
    pixels: int,
    out_channels: int,
    in_channels: int,
    kernel_size: tuple[int, int],
    mask_type: str,
    color_groups: int = 1,
) -> Work:
    """pixels: of all images together, B * H * W."""
    return Work(flops=2 * pixels * active_weights(out_channels, in_channels, kernel_size, mask_type, color_groups))
