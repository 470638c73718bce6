"""attend in Triton, the device code: a program of the grid is one query of one image, in one head, for some of the
channels of the result.

Queries, keys and values lie in the arena that tap_gemm/triton_kernel.py describes. Every query has its own list of keys
and of values: slots, one after the other in ``tables``, so that layers which see the same share a list. A key serves a
single query, so there is nothing for a product of tiles to do; the time is that of reading keys and values, once.

The softmax is taken in passing (Milakov and Gimelshein 2018, Online normalizer calculation for softmax): whenever a
block of keys holds a larger score, what was summed before is scaled down. The blocks come one after the other,
whatever else the launch computes. Importing this file imports triton.
"""

# Kernel parameters carry no types: Triton gives them theirs.
# mypy: disable-error-code="no-untyped-def, assignment"

import triton
import triton.language as tl

from genfast.kernels.common.triton_math import exp
from genfast.kernels.tap_gemm.triton_kernel import entries

INFINITY = tl.constexpr(float("inf"))
RUN_TIME = ("n", "begin", "cells", "table", "positions", "keys", "values", "key", "value", "bias", "blocks")


@triton.jit
def rows_of(arena, list_of, j, there, region, image, n, STRIDE: tl.constexpr):
    """Where the rows of an image in the slots of a list begin, [J, 1], and which are there."""
    slot = tl.load(list_of + j, mask=there, other=-1)[:, None]
    return arena + (region + slot * STRIDE).to(tl.int64) * n + image * STRIDE, slot >= 0


@triton.jit(do_not_specialize=RUN_TIME)
def attend_kernel(
    arena,
    constants,
    tables,
    n,
    begin,
    cells,
    table,
    positions,
    keys,
    values,
    key,
    value,
    bias,
    blocks,
    HEADS: tl.constexpr,
    DEPTH: tl.constexpr,
    WIDTH: tl.constexpr,
    SCALE: tl.constexpr,
    QUERY: tl.constexpr,
    FIRST: tl.constexpr,
    SEEN: tl.constexpr,
    KEY_STRIDE: tl.constexpr,
    KEY_COLUMN: tl.constexpr,
    VALUE_STRIDE: tl.constexpr,
    VALUE_COLUMN: tl.constexpr,
    BIASED: tl.constexpr,
    STORES: tl.constexpr,
    BLOCK_J: tl.constexpr,
    BLOCK_D: tl.constexpr,
    BLOCK_W: tl.constexpr,
):
    """Positions begin .. begin + cells - 1 of a kernel, of n images.

    tables + table: int32 [rows, positions]: row QUERY[0] the entries of the queries, with stride QUERY[1] from column
    QUERY[2] on; row FIRST where the position's list begins, row SEEN how many keys are on it. tables + keys, tables +
    values: all lists; of values -1 for one that counts in the softmax, and adds nothing. key, value: where the region
    of that value begins. blocks: of BLOCK_J keys, as many as the longest list of the launch takes.
    constants + bias: for each list [HEADS, its keys]. STORES: (row of the table, stride, column) each.
    """
    row = tl.program_id(0)
    head = tl.program_id(1)
    inside = row < cells * n
    q = begin + row // n
    image = row % n
    table = tables + table
    first = tl.load(table + FIRST * positions + q, mask=inside, other=0)
    count = tl.load(table + SEEN * positions + q, mask=inside, other=0)
    query = entries(table, QUERY[0], positions, q, inside)
    query_at = arena + query.to(tl.int64) * n + image * QUERY[1] + QUERY[2] + head * DEPTH
    channels = tl.program_id(2) * BLOCK_W + tl.arange(0, BLOCK_W)
    within = channels < WIDTH

    top = tl.full([1], -INFINITY, tl.float32)
    total = tl.zeros([1], tl.float32)
    sums = tl.zeros([BLOCK_W], tl.float32)
    block = 0
    while block < blocks:
        j = block * BLOCK_J + tl.arange(0, BLOCK_J)
        seen = j < count
        key_at, there = rows_of(arena, tables + keys + first, j, seen, key, image, n, KEY_STRIDE)
        scores = tl.zeros([BLOCK_J], tl.float32)
        for begin_at in tl.static_range(0, DEPTH, BLOCK_D):
            depth = begin_at + tl.arange(0, BLOCK_D)
            asked = tl.load(query_at + depth, mask=(query >= 0) & (depth < DEPTH), other=0.0)[None, :]
            column = (KEY_COLUMN + head * DEPTH + depth)[None, :]
            scores += tl.sum(asked * tl.load(key_at + column, mask=there & (depth < DEPTH)[None, :], other=0.0), 1)
        scores = scores * SCALE
        if BIASED:
            scores += tl.load(constants + bias + first * HEADS + head * count + j, mask=seen, other=0.0)
        scores = tl.where(seen, scores, -INFINITY)
        larger = tl.maximum(top, tl.max(scores, 0))
        shift = tl.where(larger > -INFINITY, larger, 0.0)  # of -inf alone, whose exponentials are 0; NaN stays NaN
        weights = exp(scores - shift)
        shrink = exp(top - shift)
        top = larger
        total = total * shrink + tl.sum(weights, 0)
        value_at, there = rows_of(arena, tables + values + first, j, seen, value, image, n, VALUE_STRIDE)
        column = (VALUE_COLUMN + head * WIDTH + channels)[None, :]
        terms = tl.load(value_at + column, mask=there & within[None, :], other=0.0)
        sums = sums * shrink + tl.sum(weights[:, None] * terms, 0)
        block += 1
    result = tl.where(count > 0, tl.div_rn(sums, tl.broadcast_to(total, [BLOCK_W])), 0.0)
    for i in tl.static_range(len(STORES)):
        entry = entries(table, STORES[i][0], positions, q, inside)
        offset = entry.to(tl.int64) * n + image * STORES[i][1] + STORES[i][2] + head * WIDTH
        tl.store(arena + offset + channels, result, mask=(entry >= 0) & within)
