"""logistic_mixture in Triton, the host code: which kernel of triton_kernel.py runs, over tiles of which size.

float32, float64, bfloat16, float16; 16-bit parameters are computed with, and their log-probabilities returned, in
float32. Importing this file imports triton.
"""

import math
from typing import Any

import torch
import triton
from torch import Tensor

from genfast.kernels.common.triton_launch import Launch, dtype_and_precision, image_like, index_type, strides, sum_dtype
from genfast.kernels.logistic_mixture.reference import LOWEST_LOG_SCALE, wide
from genfast.kernels.logistic_mixture.triton_kernel import independent_kernel, mixture_kernel

WARPS = 4


def tile(dtype: torch.dtype, backward: bool) -> int:
    """Pixels times components of a program: as many as have all of their numbers in registers, one to four a thread."""
    return 512 // (2 if backward else 1) // (2 if dtype == torch.float64 else 1)


def logistic_mixture(params: Tensor, images: Tensor, components: int, levels: int, min_log_scale: float) -> Tensor:
    """params [B, P, H, W], images uint8 [B, C, H, W], any strides -> nats, [B, C, H, W] for no components, else
    [B, H, W].

    On a GPU, or on the CPU in Triton's interpreter. Arguments are checked by genfast.ops; a level that is not there
    counts as the last. No gradient is recorded here.
    """
    out = images.new_empty((images.shape[0], results(images, components), *images.shape[2:]), dtype=wide(params.dtype))
    if out.numel():
        launch(params, images, out, out, components, levels, min_log_scale, backward=False).run(params.device)
    return out if components == 0 else out[:, 0]


def logistic_mixture_bwd(
    grad: Tensor, params: Tensor, images: Tensor, components: int, levels: int, min_log_scale: float
) -> Tensor:
    """The gradient of what ``logistic_mixture`` returned -> that of params, in the memory format of params."""
    dparams = image_like(params, params.shape[1])
    if dparams.numel():
        grad = grad if components == 0 else grad[:, None]
        launch(params, images, grad, dparams, components, levels, min_log_scale, backward=True).run(params.device)
    return dparams


def results(images: Tensor, components: int) -> int:
    """How many log-probabilities a pixel has."""
    return images.shape[1] if components == 0 else 1


def launch(
    params: Tensor,
    images: Tensor,
    grad: Tensor,
    out: Tensor,
    components: int,
    levels: int,
    min_log_scale: float,
    backward: bool,
) -> Launch:
    """What fills ``out``, ln P [B, results, H, W] or the gradient of params; ``grad`` is read only backward."""
    dtype_and_precision(params.dtype)  # refuses what no kernel takes
    batch, channels, height, width = images.shape
    pixels, lanes, most = batch * height * width, components or channels, tile(params.dtype, backward)
    block_n = triton.next_power_of_2(lanes)
    if components == 0:  # channels are independent, components of one pixel belong together
        block_n = min(block_n, most)
    block_m = max(1, most // block_n)
    args: dict[str, Any] = {
        "params": params,
        "images": images,
        "grad": grad,
        "out": out,
        "pixels": pixels,
        "height": height,
        "width": width,
        **strides("params", params, "bpyx"),
        **strides("images", images, "bcyx"),
        **strides("grad", grad, "bpyx"),
        **strides("out", out, "bpyx"),
        "CHANNELS": channels,
        "LANES": lanes,
        "LEVELS": levels,
        "LOG_WIDTH": math.log(2 / (levels - 1)),
        "LEAST": max(min_log_scale, LOWEST_LOG_SCALE),
        "BACKWARD": backward,
        "INDEX": index_type(params, images, grad, out),
        "T": sum_dtype(params.dtype),
        "BLOCK_M": block_m,
        "BLOCK_N": block_n,
    }
    grid = (triton.cdiv(pixels, block_m) * (triton.cdiv(lanes, block_n) if components == 0 else 1),)
    return Launch(mixture_kernel if components else independent_kernel, grid, args, {"num_warps": WARPS})
