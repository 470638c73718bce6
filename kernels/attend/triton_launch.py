"""attend in Triton, the host code: tiles and arguments of a launch. Importing this file imports triton.

No GPU has measured the tiles.
"""

from typing import Any, NamedTuple

import triton
from torch import Tensor

from genfast.kernels.attend.triton_kernel import attend_kernel
from genfast.kernels.common.triton_launch import Launch

ELEMENTS = 8192  # of a block of keys or values, 32 for each thread
KEYS = 128  # of a block, at most: few programs run at a time, and each waits for two loads a block
CHANNELS = 128  # of a head's result in one program, at most
DEPTH = 64  # numbers of a query that are multiplied at a time


class Constants(NamedTuple):
    """What of a launch is compiled in. Rows are rows of the launch's table; see triton_kernel.py.

    query: (row, stride, column); first, seen: rows; key, value: (stride, column); keys: on the longest list of all.
    """

    heads: int
    depth: int
    width: int
    scale: float
    query: tuple[int, int, int]
    first: int
    seen: int
    key: tuple[int, int]
    value: tuple[int, int]
    biased: bool
    stores: tuple[tuple[int, int, int], ...]
    keys: int


class Numbers(NamedTuple):
    """What of a launch is given at run time. keys, values: where the lists begin in the tables; key, value: entries of
    slot 0; bias: where the biases begin in the constants."""

    begin: int
    cells: int
    table: int
    positions: int
    keys: int
    values: int
    key: int
    value: int
    bias: int


def tile(constants: Constants) -> tuple[int, int, int]:
    """Keys, numbers of a key and channels of a block, by what the layer is: the batch is no part of it."""
    d, w = (
        min(most, triton.next_power_of_2(size))
        for most, size in ((DEPTH, constants.depth), (CHANNELS, constants.width))
    )
    j = min(KEYS, ELEMENTS // max(d, w), triton.next_power_of_2(max(1, constants.keys)))
    return j, d, w


def launch(
    arena: Tensor, floats: Tensor, tables: Tensor, constants: Constants, numbers: Numbers, longest: int, n: int
) -> Launch:
    """The launch for n images. longest: the most keys that one of its positions sees."""
    j, d, w = tile(constants)
    args: dict[str, Any] = {
        "arena": arena,
        "constants": floats,
        "tables": tables,
        "n": n,
        **numbers._asdict(),
        "blocks": triton.cdiv(longest, j),
        "HEADS": constants.heads,
        "DEPTH": constants.depth,
        "WIDTH": constants.width,
        "SCALE": constants.scale,
        "QUERY": constants.query,
        "FIRST": constants.first,
        "SEEN": constants.seen,
        "KEY_STRIDE": constants.key[0],
        "KEY_COLUMN": constants.key[1],
        "VALUE_STRIDE": constants.value[0],
        "VALUE_COLUMN": constants.value[1],
        "BIASED": constants.biased,
        "STORES": constants.stores,
        "BLOCK_J": j,
        "BLOCK_D": d,
        "BLOCK_W": w,
    }
    grid = (max(1, numbers.cells * n), constants.heads, triton.cdiv(constants.width, w))
    return Launch(attend_kernel, grid, args, {"num_warps": 8 if j * max(d, w) > ELEMENTS // 2 else 4, "num_stages": 1})
