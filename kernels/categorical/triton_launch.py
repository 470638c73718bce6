"""Draws in Triton, the host code: which kernel draws from a likelihood, and its arguments by name. Importing this file
imports triton."""

import math
from typing import Any, NamedTuple

import triton
from torch import Tensor

from genfast.kernels.categorical.triton_kernel import categorical_kernel, params_kernel
from genfast.kernels.common.triton_launch import Launch
from genfast.kernels.logistic_mixture.reference import LOWEST_LOG_SCALE
from genfast.kernels.logistic_mixture.triton_draw import mixture_draw_kernel

ELEMENTS = 512  # numbers of a tile


class Distribution(NamedTuple):
    """levels, and how many numbers a sub-pixel's parameters are. components: of a mixture of logistics, or 0."""

    levels: int
    width: int
    bernoulli: bool = False
    components: int = 0
    colours: int = 1
    min_log_scale: float = -math.inf


class Sheet(NamedTuple):
    """Where draws go: see categorical_kernel."""

    images: Tensor
    known: Tensor
    uniforms: Tensor
    log_probs: Tensor
    settings: Tensor
    failed: Tensor


class Draws(NamedTuple):
    """Some draws of a channel: rows of a table, which lies at ``table`` and has ``positions`` columns. stride, column:
    where an image's parameters are."""

    begin: int
    draws: int
    table: int
    positions: int
    channel: int
    channels: int
    pixels: int
    stride: int
    column: int


def draw_launch(arena: Tensor, tables: Tensor, sheet: Sheet, d: Distribution, draws: Draws, n: int) -> Launch:
    """The launch that draws, for n images."""
    levels = triton.next_power_of_2(d.levels)
    rows = max(1, ELEMENTS // levels)
    rows = min(rows, 64)
    args = {"arena": arena, "tables": tables, **sheet._asdict(), **_numbers(draws, n)}
    args |= {"LEVELS": d.levels, "BLOCK_R": rows, "BLOCK_L": levels}
    grid = (triton.cdiv(max(1, draws.draws * n), rows),)
    options = {"num_warps": 4 if levels <= 1024 else 16}
    if d.components == 0:
        return Launch(categorical_kernel, grid, args | {"BERNOULLI": d.bernoulli}, options)
    args |= {
        "COLOURS": d.colours,
        "COMPONENTS": d.components,
        "LOOKS": (d.levels - 1).bit_length(),
        "LOG_WIDTH": math.log(2 / (d.levels - 1)),
        "LEAST": float(max(d.min_log_scale, LOWEST_LOG_SCALE)),
        "BLOCK_C": triton.next_power_of_2(d.components),
    }
    return Launch(mixture_draw_kernel, grid, args, options)


def params_launch(arena: Tensor, tables: Tensor, out: Tensor, width: int, draws: Draws, n: int) -> Launch:
    """The launch that copies the parameters of draws to out [n, channels, pixels, width]."""
    columns = min(ELEMENTS, triton.next_power_of_2(width))
    rows = min(64, max(1, ELEMENTS // columns))
    args = {"arena": arena, "tables": tables, "out": out, **_numbers(draws, n)}
    args |= {"WIDTH": width, "BLOCK_R": rows, "BLOCK_L": columns}
    grid = (triton.cdiv(max(1, draws.draws * n), rows), triton.cdiv(width, columns))
    return Launch(params_kernel, grid, args, {"num_warps": 4})


def _numbers(draws: Draws, n: int) -> dict[str, Any]:
    numbers = draws._asdict()
    return {"n": n, "STRIDE": numbers.pop("stride"), "COLUMN": numbers.pop("column"), **numbers}
