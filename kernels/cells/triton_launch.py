"""cells in Triton, the host code: the tiles of a launch, and its arguments by name. Importing this file imports triton.

Tiles are chosen by what a kernel is, never by how many rows a launch has: then the numbers of an image do not depend on
the batch. No GPU has measured them.
"""

from typing import Any, NamedTuple

import torch
import triton
from torch import Tensor

from genfast.kernels.cells.triton_kernel import (
    CONSTANT,
    COPY,
    HEAD,
    LINEAR,
    LOOKUP,
    NO_HEAD,
    READ,
    REDUCE,
    cells_kernel,
)
from genfast.kernels.common.triton_launch import INTERPRETED, Launch
from genfast.kernels.pointwise import triton_kernel as pointwise
from genfast.kernels.reduce import triton_kernel as reduce

HEADS = {"none": NO_HEAD, "linear": LINEAR, "lookup": LOOKUP, "reduce": REDUCE, "copy": COPY}
OPS = {**pointwise.NUMBER, "head": HEAD.value, "read": READ.value, "constant": CONSTANT.value}
KINDS = reduce.NUMBER
PRECISIONS = {"float32": "ieee", "tf32": "tf32", "bfloat16": "ieee"}  # as tl.dot calls them
ROWS = 32  # of a tile of a product
ELEMENTS = 1024  # numbers of a tile of anything else
STAGES = 5  # of a product's pipeline: fewer leave what is found through tables out of it
DEPTH = 32  # numbers of a row that a step of a product takes; of bfloat16, twice as many


class Tile(NamedTuple):
    m: int
    n: int
    k: int
    warps: int
    stages: int


def depth(width: int, precision: str) -> int:
    """How many numbers a step of a product takes where reads are so wide: a power of two, at least 16."""
    return min(DEPTH if precision == "float32" else 2 * DEPTH, max(16, triton.next_power_of_2(width)))


def tile(head: str, lanes: int, sums: int, k: int, precision: str) -> Tile:
    if head == "linear":  # sums side by side have their registers together
        n = 16 if sums > 2 else 32 if sums == 2 or precision == "float32" else 64
        return Tile(ROWS, min(n, max(16, triton.next_power_of_2(lanes))), k, 4, STAGES)
    n = min(128, triton.next_power_of_2(lanes))
    if head == "reduce":
        return Tile(16, min(n, 64), k, 4, 1)
    return Tile(min(64, ELEMENTS // n), n, k, 4, 1)


class Constants(NamedTuple):
    """What of a launch is compiled in: see triton_kernel.py. body: names of operations; the engine's numbers."""

    head: str
    body: tuple[tuple[Any, ...], ...]
    stores: tuple[tuple[int, ...], ...]
    lanes: int
    kind: str = ""
    eps: float = 0.0
    pieces: tuple[tuple[int, ...], ...] = ()
    sums: tuple[int, ...] = ()  # the columns at which products start
    columns: int = 0  # of a product's weights or a lookup's table
    total: int = 0  # numbers that are reduced, or rows of a table
    steps: int = 0
    gathers: bool = False
    aligned: bool = False
    regular: tuple[int, ...] = ()  # see tap_gemm/triton_kernel.py
    k: int = 16


class Numbers(NamedTuple):
    """What of a launch is given at run time."""

    begin: int
    cells: int
    table: int
    positions: int
    meta: int
    weight: int


class Buffers(NamedTuple):
    """On one device: float32 numbers of the cells, weights as products take them, float32 constants, int32 tables."""

    arena: Tensor
    weights: Tensor
    constants: Tensor
    tables: Tensor


def launch(buffers: Buffers, constants: Constants, numbers: Numbers, n: int, precision: str) -> Launch:
    """The launch for n images."""
    t = tile(constants.head, constants.lanes, len(constants.sums), constants.k, precision)
    half = precision == "bfloat16"
    args: dict[str, Any] = {
        **buffers._asdict(),
        "n": n,
        **numbers._asdict(),
        "HEAD_KIND": HEADS[constants.head].value,
        "KIND": KINDS[constants.kind] if constants.kind else -1,
        "EPS": constants.eps,
        "PIECES": constants.pieces,
        "OFFSETS": constants.sums,
        "BODY": tuple((OPS[op], *numbers) for op, *numbers in constants.body),
        "STORES": constants.stores,
        "WIDTH": constants.lanes,
        "COLUMNS": constants.columns,
        "TOTAL": constants.total,
        "STEPS": constants.steps,
        "GATHERS": constants.gathers,
        "ALIGNED": constants.aligned,
        "REGULAR": constants.regular,
        "PRECISION": PRECISIONS[precision],
        "HALF": half,
        "WIDEN": half and INTERPRETED,
        "BLOCK_M": t.m,
        "BLOCK_N": t.n,
        "BLOCK_K": t.k,
    }
    grid = (triton.cdiv(max(1, numbers.cells * n), t.m), triton.cdiv(constants.lanes, t.n))
    return Launch(cells_kernel, grid, args, {"num_warps": t.warps, "num_stages": t.stages})


def weight_dtype(precision: str) -> torch.dtype:
    return torch.bfloat16 if precision == "bfloat16" else torch.float32
