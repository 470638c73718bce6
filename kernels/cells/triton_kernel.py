"""cells in Triton, the device code: one kernel that reads its steps from compile-time constants.

A program of the grid computes BLOCK_M rows (position, image) by BLOCK_N of WIDTH *lanes*. Lane l of a register is
column offset + l of what a plan calls a register, so that a gate, which multiplies two halves of one vector, is two
registers, and an LSTM cell has four sums side by side. BODY holds the instructions, each five numbers:

    HEAD      i, column, one          the head's result at its columns column + lane; of a product its i-th sum
    READ      read, stride, column, one      numbers from the arena (tap_gemm/triton_kernel.py says where)
    CONSTANT  read, varies, column, one      numbers from ``constants``: the table's entry is where a row of them starts
    op        a, b, c, -              an operation of pointwise/triton_kernel.py on registers a, b, c

``one``: the column is the same for all lanes. STORES: (register, read, stride, column) each. PIECES of a copy:
(read, stride, its first column, where it goes, width, -1 or for constants whether they vary).

Everything else, addresses and sizes, comes at run time: layers of the same kind share one compilation, and so do all
batches, whose results therefore agree to the bit. Importing this file imports triton.
"""

# Kernel parameters carry no types: Triton gives them theirs.
# mypy: disable-error-code="no-untyped-def, assignment"

import triton
import triton.language as tl

from genfast.kernels.pointwise.triton_kernel import apply
from genfast.kernels.reduce.triton_kernel import reduced, summary
from genfast.kernels.tap_gemm.triton_kernel import entries, gather, take, tap_gemm

NO_HEAD, LINEAR, LOOKUP, REDUCE, COPY = (tl.constexpr(i) for i in range(5))
HEAD, READ, CONSTANT = (tl.constexpr(i) for i in (100, 101, 102))
RUN_TIME = ("n", "begin", "cells", "table", "positions", "meta", "weight")  # one compilation, whatever their values


@triton.jit
def constant(constants, table, read, positions, q, rows, columns, inside, VARIES: tl.constexpr):
    """[rows or 1, columns]"""
    if VARIES:
        start = entries(table, read, positions, q, rows)[:, None]
        return tl.load(constants + start + columns, mask=(start >= 0) & inside, other=0.0)
    else:
        start = tl.load(table + read * positions)
        return tl.load(constants + start + columns, mask=inside, other=0.0)


@triton.jit
def head_at(
    arena, constants, weight, table, meta, positions, q, image, n, rows, columns, inside, index, first, second,
    HEAD_KIND: tl.constexpr, KIND: tl.constexpr, PIECES: tl.constexpr, DEPTH: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """The result of a head that is no product, at columns [lanes] of it.  # [rows, lanes]"""
    if HEAD_KIND == LOOKUP:
        source = constants + weight + index * COLUMNS + columns[None, :]
        return tl.load(source, mask=rows[:, None] & inside[None, :], other=0.0)
    elif HEAD_KIND == REDUCE:
        x = first
        if KIND >= 3:  # as many results as numbers
            k = tl.where(inside, columns, 0)
            x = gather(arena, table, meta, positions, q, image, n, rows, k, DEPTH)
        return reduced(x, first, second, KIND)
    else:
        result = tl.full([q.shape[0], columns.shape[0]], float("nan"), tl.float32)
        for i in tl.static_range(len(PIECES)):
            column = columns - PIECES[i][3]
            within = (inside & (column >= 0) & (column < PIECES[i][4]))[None, :]
            if PIECES[i][5] < 0:
                entry = entries(table, PIECES[i][0], positions, q, rows)
                there = within & (entry >= 0)[:, None]
                x = take(arena, entry, image, n, PIECES[i][1], (PIECES[i][2] + column)[None, :], within, False)
            else:
                there = within
                x = constant(
                    constants, table, PIECES[i][0], positions, q, rows, column[None, :], within, PIECES[i][5]
                )  # fmt: skip
            result = tl.where(there, x, result)
        return result


@triton.jit
def evaluate(
    OP: tl.constexpr, A: tl.constexpr, B: tl.constexpr, C: tl.constexpr, D: tl.constexpr,
    registers, totals, arena, constants, weight, table, meta, positions, q, image, n, rows, lanes, inside,
    index, first, second,
    HEAD_KIND: tl.constexpr, KIND: tl.constexpr, PIECES: tl.constexpr, DEPTH: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """The register that an instruction makes: [rows, lanes], or one lane, or of a constant one row."""
    if OP == HEAD:
        if HEAD_KIND == LINEAR:
            return totals[A]
        else:
            columns = B + (tl.arange(0, 1) if C else lanes)
            return head_at(
                arena, constants, weight, table, meta, positions, q, image, n, rows, columns,
                tl.arange(0, 1) == 0 if C else inside, index, first, second,
                HEAD_KIND, KIND, PIECES, DEPTH, COLUMNS,
            )  # fmt: skip
    elif OP == READ:
        entry = entries(table, A, positions, q, rows)
        if D:
            column = (C + tl.arange(0, 1))[None, :]
            return take(arena, entry, image, n, B, column, column >= 0, False)
        else:
            return take(arena, entry, image, n, B, (C + lanes)[None, :], inside[None, :], (B % 4 == 0) & (C % 4 == 0))
    elif OP == CONSTANT:
        if D:
            column = (C + tl.arange(0, 1))[None, :]
            return constant(constants, table, A, positions, q, rows, column, column >= 0, B)
        else:
            return constant(constants, table, A, positions, q, rows, (C + lanes)[None, :], inside[None, :], B)
    else:
        return apply(OP, registers[A], registers[B], registers[C])


@triton.jit(do_not_specialize=RUN_TIME)
def cells_kernel(
    arena,
    weights,
    constants,
    tables,
    n,
    begin,
    cells,
    table,
    positions,
    meta,
    weight,
    HEAD_KIND: tl.constexpr,
    KIND: tl.constexpr,
    EPS: tl.constexpr,
    PIECES: tl.constexpr,
    OFFSETS: tl.constexpr,
    BODY: tl.constexpr,
    STORES: tl.constexpr,
    WIDTH: tl.constexpr,
    COLUMNS: tl.constexpr,
    TOTAL: tl.constexpr,
    STEPS: tl.constexpr,
    GATHERS: tl.constexpr,
    ALIGNED: tl.constexpr,
    REGULAR: tl.constexpr,
    PRECISION: tl.constexpr,
    HALF: tl.constexpr,
    WIDEN: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
):
    """Positions begin .. begin + cells - 1 of a kernel, of n images.

    tables + table: int32 [reads, positions] entries; tables + meta: what tap_gemm and summary ask for.
    weight: where the weights of a product start in ``weights``, or a lookup's table in ``constants``.
    """
    m = tl.program_id(0) * BLOCK_M + tl.arange(0, BLOCK_M)
    rows = m < cells * n
    q = begin + m // n
    image = m % n
    lanes = tl.program_id(1) * BLOCK_N + tl.arange(0, BLOCK_N)
    inside = lanes < WIDTH
    table = tables + table
    meta = tables + meta

    totals = ()
    index = image[:, None]
    first = 0.0
    second = 0.0
    if HEAD_KIND == LINEAR:
        totals = tap_gemm(
            arena, weights + tl.multiple_of(weight, 16), table, meta, positions, q, image, n, rows, lanes,
            STEPS, GATHERS, ALIGNED, REGULAR, OFFSETS, COLUMNS, PRECISION, HALF, WIDEN, BLOCK_M, BLOCK_N, BLOCK_K,
        )  # fmt: skip
    elif HEAD_KIND == LOOKUP:
        entry = entries(table, 0, positions, q, rows)
        level = tl.load(
            arena + entry.to(tl.int64) * n + image * PIECES[0][1] + PIECES[0][2], mask=entry >= 0, other=0.0
        )
        index = tl.minimum(tl.maximum(level.to(tl.int32), 0), TOTAL - 1)[:, None]
    elif HEAD_KIND == REDUCE:
        first, second = summary(
            arena, table, meta, positions, q, image, n, rows, KIND, TOTAL, EPS, STEPS, BLOCK_K,
        )  # fmt: skip

    registers = ()
    for i in tl.static_range(len(BODY)):
        made = evaluate(
            BODY[i][0], BODY[i][1], BODY[i][2], BODY[i][3], BODY[i][4],
            registers, totals, arena, constants, weight, table, meta, positions, q, image, n, rows, lanes, inside,
            index, first, second,
            HEAD_KIND, KIND, PIECES, STEPS * BLOCK_K, COLUMNS,
        )  # fmt: skip
        registers = registers + (made,)
    for i in tl.static_range(len(STORES)):
        entry = entries(table, STORES[i][1], positions, q, rows)
        offset = entry.to(tl.int64) * n + image * STORES[i][2] + STORES[i][3]
        if (STORES[i][2] % 4 == 0) & (STORES[i][3] % 4 == 0):
            offset = tl.multiple_of(offset, 4)
        value = tl.broadcast_to(registers[STORES[i][0]], [BLOCK_M, BLOCK_N])
        tl.store(arena + offset[:, None] + lanes[None, :], value, mask=(entry >= 0)[:, None] & inside[None, :])
