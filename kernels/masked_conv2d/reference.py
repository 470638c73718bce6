"""masked_conv2d in plain PyTorch: any device, any floating dtype, differentiable to any order.

bfloat16 and float16 follow the contract of every backend: stored narrow, accumulated in float32, rounded once.
"""

import torch.nn.functional as F
from torch import Tensor

from genfast.kernels.masked_conv2d.mask import causal_mask


def masked_conv2d(
    x: Tensor, weight: Tensor, bias: Tensor | None = None, mask_type: str = "B", color_groups: int = 1
) -> Tensor:
    """x [B, I, H, W], weight [O, I, kh, kw], bias [O] -> [B, O, H, W]: a convolution with zero padding that keeps the
    size.

    A masked weight is never read: a NaN there changes nothing.
    """
    o, i, kh, kw = weight.shape
    mask = causal_mask(o, i, (kh, kw), mask_type, color_groups).to(weight.device)
    kept = weight.masked_fill(mask == 0, 0)
    dtype = x.dtype
    if dtype.itemsize == 2:
        x, kept = x.float(), kept.float()
        bias = bias.float() if bias is not None else None
    return F.conv2d(x, kept, bias, padding=(kh // 2, kw // 2)).to(dtype)
