"""The scan of row_lstm and diagonal_lstm in Triton, the host code: one program an image, with tiles of which size.

float32, float64, bfloat16, float16; 16-bit floats are only stored, so gates, c, sums and the gradients that run through
the recurrence are float32. Products of 16-bit factors are exact; in backward one factor is float32, which TF32 then
rounds to 11 bits, as many as float16 has. float32 stays float32 unless the user allows TF32 for matrix products.
Importing this file imports triton.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from genfast.kernels.common.triton_launch import (
    INTERPRETED,
    Launch,
    dtype_and_precision,
    index_type,
    side,
    strides,
    sum_dtype,
)
from genfast.kernels.lstm.reference import wide
from genfast.kernels.lstm.scan import Scan, gradients
from genfast.kernels.lstm.triton_kernel import backward_kernel, forward_kernel


class Tile(NamedTuple):
    """Slots, hidden channels and depth of one product, a program's warps, and how many loads are in flight."""

    s: int
    j: int
    k: int
    warps: int
    stages: int


FORWARD_TILES = {  # four such products at a time, one a gate
    ("half", "ieee"): Tile(32, 64, 32, 8, 3),
    ("float32", "tf32"): Tile(32, 64, 32, 8, 3),
    ("float32", "ieee"): Tile(32, 32, 16, 8, 2),
    ("float64", "ieee"): Tile(16, 16, 16, 8, 1),
}
BACKWARD_TILES = {
    ("half", "ieee"): Tile(32, 64, 32, 8, 3),
    ("float32", "tf32"): Tile(32, 64, 32, 8, 3),
    ("float32", "ieee"): Tile(32, 64, 16, 8, 2),
    ("float64", "ieee"): Tile(32, 32, 16, 8, 2),
}


def forward(x: Tensor, weight: Tensor, h0: Tensor, c0: Tensor, scan: Scan, keep: bool) -> tuple[Tensor, Tensor, Tensor]:
    """x [B, 4h, H, W] in any strides, weight [4h, h, taps], h0, c0 [h] -> h [B, h, H, W] in the memory format of x, and
    for backward gates [B, H, W, 4h] and c [B, H, W, h], or with keep=False two empty tensors.

    On a GPU, or on the CPU in Triton's interpreter. Arguments are checked by genfast.ops; no gradient is recorded here.
    """
    batch, four_h, height, width = x.shape
    h = x.new_empty(batch, height, width, four_h // 4)
    c = torch.empty_like(h, dtype=wide(x.dtype))  # the cells of the line before are read from here
    gates = x.new_empty((batch, height, width, four_h) if keep else (0,), dtype=c.dtype)
    if h.numel():
        packed = weight.permute(2, 1, 0).contiguous()
        forward_launch(x, packed, h0.contiguous(), c0.to(c.dtype).contiguous(), h, c, gates, scan, keep).run(x.device)
    out = h.permute(0, 3, 1, 2)
    last = x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous()
    return out if last else out.contiguous(), gates, c if keep else c.new_empty(0)


def backward(
    grad: Tensor, h: Tensor, gates: Tensor, c: Tensor, weight: Tensor, h0: Tensor, c0: Tensor, scan: Scan
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The gradient of h [B, h, H, W], and h, gates, c as ``forward`` returned them -> those of x (channels_last),
    weight, h0 and c0. Deterministic. Needs memory for dc [B, H, W, h] and, of 16-bit x, dgates [B, H, W, 4h]."""
    dgates, dc = torch.empty_like(gates), torch.empty_like(c)
    if dc.numel():
        packed = weight.permute(2, 0, 1).contiguous()
        backward_launch(grad, gates, c, packed, c0.to(c.dtype).contiguous(), dgates, dc, scan).run(grad.device)
    # What a line gives to the c before it is that of c0 where there is no pixel before: in the first row or column.
    columns = slice(-1, None) if scan.reverse else slice(0, 1)
    edge = dc[:, :, columns] if scan.diagonal else dc[:, :1]
    return gradients(scan, dgates, edge, h, weight, h0)


def forward_launch(
    x: Tensor, packed: Tensor, h0: Tensor, c0: Tensor, h: Tensor, c: Tensor, gates: Tensor, scan: Scan, keep: bool
) -> Launch:
    """What fills h and c [B, H, W, h] and, if asked to keep them, gates; ``packed`` is weight as [taps, h, 4h]."""
    batch, height, width, hidden = h.shape
    key = dtype_and_precision(x.dtype)
    tile = _fit(FORWARD_TILES[key], scan.slots(height, width), hidden, hidden)
    args: dict[str, Any] = {
        "x": x,
        "weight": packed,
        "h0": h0,
        "c0": c0,
        "h": h,
        "c": c,
        "gates": gates,
        "height": height,
        "width": width,
        **strides("x", x, "bcyx"),
        **_scan_constants(scan, hidden, tile),
        "KEEP": keep,
        "INDEX": index_type(x),
        "SUM": sum_dtype(x.dtype),
        "PRECISION": key[1],
        "WIDEN": INTERPRETED
        and x.dtype == torch.bfloat16,  # the interpreter multiplies bfloat16 as if it were integers
    }
    return Launch(forward_kernel, (batch,), args, {"num_warps": tile.warps, "num_stages": tile.stages})


def backward_launch(
    grad: Tensor, gates: Tensor, c: Tensor, packed: Tensor, c0: Tensor, dgates: Tensor, dc: Tensor, scan: Scan
) -> Launch:
    """What fills dgates [B, H, W, 4h] and dc [B, H, W, h]; ``packed`` is weight as [taps, 4h, h]."""
    batch, height, width, hidden = c.shape
    key = dtype_and_precision(grad.dtype)
    tile = _fit(BACKWARD_TILES[key], scan.slots(height, width), hidden, 4 * hidden)
    args: dict[str, Any] = {
        "grad": grad,
        "gates": gates,
        "c": c,
        "weight": packed,
        "c0": c0,
        "dgates": dgates,
        "dc": dc,
        "height": height,
        "width": width,
        **strides("grad", grad, "bcyx"),
        **_scan_constants(scan, hidden, tile),
        "INDEX": index_type(grad, gates),
        "SUM": sum_dtype(grad.dtype),
        "PRECISION": "tf32" if key[0] == "half" else key[1],
    }
    return Launch(backward_kernel, (batch,), args, {"num_warps": tile.warps, "num_stages": tile.stages})


def _scan_constants(scan: Scan, hidden: int, tile: Tile) -> dict[str, int | bool]:
    return {
        "HIDDEN": hidden,
        "TAPS": len(scan.taps),
        "REACH": scan.reach,
        "DIAGONAL": scan.diagonal,
        "REVERSE": scan.reverse,
        "BLOCK_S": tile.s,
        "BLOCK_J": tile.j,
        "BLOCK_K": tile.k,
    }


def _fit(tile: Tile, slots: int, hidden: int, depth: int) -> Tile:
    """The tile, shrunk to the problem."""
    return tile._replace(s=side(tile.s, slots), j=side(tile.j, hidden), k=side(tile.k, depth))
