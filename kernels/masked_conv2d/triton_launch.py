"""masked_conv2d in Triton, the host code: which kernels of triton_kernel.py run, over how many tiles of which size.

The bias's gradient is the weight's gradient of a 1x1 filter over one channel of ones, by the same kernels.

float32, float64, bfloat16, float16; 16-bit inputs accumulate in float32. float32 stays float32 in products unless the
user allows TF32 for matrix products (torch.backends.cuda.matmul.fp32_precision, or torch.set_float32_matmul_precision).
Importing this file imports triton.
"""

from typing import Any, NamedTuple

import torch
import triton
from torch import Tensor

from genfast.kernels.common.triton_launch import (
    INTERPRETED,
    Launch,
    dtype_and_precision,
    image_like,
    index_type,
    side,
    strides,
    sum_dtype,
)
from genfast.kernels.masked_conv2d.mask import num_taps
from genfast.kernels.masked_conv2d.triton_kernel import conv_kernel, finish_kernel, pack_kernel, weight_partials_kernel


class Tile(NamedTuple):
    """Rows, columns and depth of one program's product, its warps, and how many loads are in flight."""

    m: int
    n: int
    k: int
    warps: int
    stages: int


CONV_TILES = {
    ("half", "ieee"): Tile(128, 128, 32, 8, 3),
    ("float32", "tf32"): Tile(128, 64, 32, 4, 3),
    ("float32", "ieee"): Tile(64, 64, 16, 8, 2),
    ("float64", "ieee"): Tile(64, 32, 16, 4, 2),
}
WEIGHT_TILES = {
    ("half", "ieee"): Tile(64, 128, 32, 4, 3),
    ("float32", "tf32"): Tile(64, 64, 32, 4, 3),
    ("float32", "ieee"): Tile(64, 64, 16, 8, 2),
    ("float64", "ieee"): Tile(32, 64, 16, 4, 2),
}
WEIGHT_PROGRAMS = 512  # enough to fill a large GPU about twice; fixed, so that a sum never depends on the device
WEIGHT_STEPS = 8  # at least this many per run of pixels: writing a partial sum costs as much as a few steps
ELEMENTWISE = 1024


def masked_conv2d(
    x: Tensor, weight: Tensor, bias: Tensor | None = None, mask_type: str = "B", color_groups: int = 1
) -> Tensor:
    """x [B, I, H, W], weight [O, I, kh, kw], bias [O] -> y [B, O, H, W] in x's memory format; any strides.

    One dtype for all (float32, float64, bfloat16 or float16) and one device: a GPU, or the CPU in Triton's interpreter.
    Arguments are checked by genfast.ops; no gradient is recorded here. A masked weight is never read.
    """
    y = image_like(x, weight.shape[0])
    if y.numel():
        packed = x.new_empty(_taps(weight, mask_type, color_groups) * weight.shape[0] * weight.shape[1])
        for launch in conv_launches(x, weight, packed, bias, y, mask_type, color_groups):
            launch.run(x.device)
    return y


def masked_conv2d_bwd_input(grad: Tensor, weight: Tensor, mask_type: str = "B", color_groups: int = 1) -> Tensor:
    """grad [B, O, H, W], weight [O, I, kh, kw] -> dx [B, I, H, W] in grad's memory format; any strides."""
    dx = image_like(grad, weight.shape[1])
    if dx.numel():
        packed = grad.new_empty(_taps(weight, mask_type, color_groups) * weight.shape[0] * weight.shape[1])
        for launch in conv_launches(grad, weight, packed, None, dx, mask_type, color_groups, input_gradient=True):
            launch.run(grad.device)
    return dx


def masked_conv2d_bwd_weight(
    grad: Tensor, x: Tensor, kernel_size: tuple[int, int], mask_type: str = "B", color_groups: int = 1
) -> tuple[Tensor, Tensor]:
    """grad [B, O, H, W], x [B, I, H, W] -> dweight [O, I, kh, kw], zero where masked, and dbias [O].

    Deterministic: partial sums over runs of pixels, added in order. Costs a float32 (float64) copy of the used weights
    per run: at most about WEIGHT_PROGRAMS tiles in all.
    """
    batch, o, height, width = grad.shape
    ones = grad.new_ones(1).expand(batch, 1, height, width)
    dweight = _weight_gradient(grad, x, kernel_size, mask_type, color_groups)
    return dweight, _weight_gradient(grad, ones, (1, 1), "B", 1).reshape(o)


def _weight_gradient(
    grad: Tensor, x: Tensor, kernel_size: tuple[int, int], mask_type: str, color_groups: int
) -> Tensor:
    o, i = grad.shape[1], x.shape[1]
    taps = num_taps(kernel_size, mask_type, color_groups)
    if taps == 0 or grad.numel() == 0 or x.numel() == 0:
        return grad.new_zeros(o, i, *kernel_size)
    dweight = grad.new_empty(o, i, *kernel_size)
    splits, steps = _split_pixels(grad, o, taps * i)
    partials = grad.new_empty(
        splits, o, taps * i, dtype=torch.float64 if grad.dtype == torch.float64 else torch.float32
    )
    for launch in weight_launches(grad, x, partials, dweight, steps, mask_type, color_groups):
        launch.run(grad.device)
    return dweight


def conv_launches(
    x: Tensor,
    weight: Tensor,
    packed: Tensor,
    bias: Tensor | None,
    out: Tensor,
    mask_type: str,
    color_groups: int,
    input_gradient: bool = False,
) -> list[Launch]:
    """The launches that fill ``out``; ``packed`` is scratch of x's dtype: [taps * read channels, written channels]."""
    o, i, kh, kw = weight.shape
    taps = _taps(weight, mask_type, color_groups)
    read, written = (o, i) if input_gradient else (i, o)
    batch, _, height, width = x.shape
    tile = _fit(CONV_TILES[dtype_and_precision(x.dtype)], columns=written, depth=taps * read)
    pack = Launch(
        pack_kernel,
        (triton.cdiv(taps * o * i, ELEMENTWISE),),
        {
            "weight": weight,
            "packed": packed,
            **strides("stride", weight, "oiyx"),
            **_mask_constants(o, i, kh, kw, taps, mask_type, color_groups),
            "TRANSPOSED": input_gradient,
            "BLOCK": ELEMENTWISE,
        },
        {"num_warps": 4},
    )
    conv = Launch(
        conv_kernel,
        (triton.cdiv(batch * height * width, tile.m) * triton.cdiv(written, tile.n),),
        {
            "x": x,
            "packed": packed,
            "bias": bias if bias is not None else packed,
            "out": out,
            "pixels": batch * height * width,
            "height": height,
            "width": width,
            **strides("x", x, "bcyx"),
            **strides("out", out, "bcyx"),
            "READ": read,
            "WRITTEN": written,
            "KH": kh,
            "KW": kw,
            "TAPS": taps,
            "SIGN": -1 if input_gradient else 1,
            "HAS_BIAS": bias is not None,
            **_product_constants(tile, x, out),
        },
        {"num_warps": tile.warps, "num_stages": tile.stages},
    )
    return [pack, conv] if taps else [conv]


def weight_launches(
    grad: Tensor, x: Tensor, partials: Tensor, dweight: Tensor, steps: int, mask_type: str, color_groups: int
) -> list[Launch]:
    """The launches that fill ``dweight`` [O, I, kh, kw], contiguous; ``partials`` [splits, O, taps * I] is scratch."""
    o, i, kh, kw = dweight.shape
    splits, _, columns = partials.shape
    taps = columns // i
    batch, _, height, width = grad.shape
    tile = _fit(WEIGHT_TILES[dtype_and_precision(grad.dtype)], rows=o, columns=columns)
    product = Launch(
        weight_partials_kernel,
        (triton.cdiv(o, tile.m) * triton.cdiv(columns, tile.n), splits),
        {
            "grad": grad,
            "x": x,
            "partials": partials,
            "pixels": batch * height * width,
            "height": height,
            "width": width,
            **strides("grad", grad, "bcyx"),
            **strides("x", x, "bcyx"),
            "COUT": o,
            "CIN": i,
            "KH": kh,
            "KW": kw,
            "TAPS": taps,
            "STEPS": steps,
            **_product_constants(tile, grad, x),
        },
        {"num_warps": tile.warps, "num_stages": tile.stages},
    )
    finish = Launch(
        finish_kernel,
        (triton.cdiv(o * i * kh * kw, ELEMENTWISE),),
        {
            "partials": partials,
            "dweight": dweight,
            "splits": splits,
            **_mask_constants(o, i, kh, kw, taps, mask_type, color_groups),
            "SUM": sum_dtype(grad.dtype),
            "BLOCK": ELEMENTWISE,
        },
        {"num_warps": 4},
    )
    return [product, finish]


def _split_pixels(grad: Tensor, rows: int, columns: int) -> tuple[int, int]:
    """How many runs of pixels, and how many steps each takes: a power of two, so that few kernels are compiled."""
    tile = _fit(WEIGHT_TILES[dtype_and_precision(grad.dtype)], rows=rows, columns=columns)
    all_steps = triton.cdiv(grad.shape[0] * grad.shape[2] * grad.shape[3], tile.k)
    tiles = triton.cdiv(rows, tile.m) * triton.cdiv(columns, tile.n)
    steps = triton.next_power_of_2(max(WEIGHT_STEPS, triton.cdiv(all_steps, max(1, WEIGHT_PROGRAMS // tiles))))
    return triton.cdiv(all_steps, steps), steps


def _taps(weight: Tensor, mask_type: str, color_groups: int) -> int:
    return num_taps((weight.shape[2], weight.shape[3]), mask_type, color_groups)


def _mask_constants(
    o: int, i: int, kh: int, kw: int, taps: int, mask_type: str, color_groups: int
) -> dict[str, int | bool]:
    strict = mask_type == "A"
    return {"COUT": o, "CIN": i, "KH": kh, "KW": kw, "TAPS": taps, "GROUPS": color_groups, "STRICT": strict}


def _product_constants(tile: Tile, *tensors: Tensor) -> dict[str, Any]:
    dtype = tensors[0].dtype
    return {
        "INDEX": index_type(*tensors),
        "SUM": sum_dtype(dtype),
        "PRECISION": dtype_and_precision(dtype)[1],
        "WIDEN": INTERPRETED and dtype == torch.bfloat16,  # the interpreter multiplies bfloat16 as if it were integers
        "BLOCK_M": tile.m,
        "BLOCK_N": tile.n,
        "BLOCK_K": tile.k,
    }


def _fit(tile: Tile, rows: int | None = None, columns: int | None = None, depth: int | None = None) -> Tile:
    """The tile, shrunk to the problem: a side is a power of two and at least 16, the least that a product takes."""
    return tile._replace(m=side(tile.m, rows), n=side(tile.n, columns), k=side(tile.k, depth))
