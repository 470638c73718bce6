"""tap_gemm in Triton, the device code: the sum over taps, of rows that are found through tables.

A launch has ``cells`` positions and ``n`` images, and a row for each pair: row m is position m // n, image m % n. What
a position reads lies at

    arena + entry * n + image * stride + column

where ``entry`` comes from a table with one number for each (read, position): -1, nothing is there, counts as zeros.
Importing this file imports triton.
"""

# Kernel parameters carry no types: Triton gives them theirs.
# mypy: disable-error-code="no-untyped-def, assignment"

import triton
import triton.language as tl


@triton.jit
def entries(table, row, positions, q, inside):
    """Where what read ``row`` takes at positions q lies, for one image; -1: nowhere."""
    return tl.load(table + row * positions + q, mask=inside, other=-1)


@triton.jit
def take(arena, entry, image, n, stride, columns, inside, ALIGNED: tl.constexpr):
    """[rows, columns] numbers, zeros where there is nothing. entry, image [rows]; columns, inside [1, columns].

    ALIGNED: entries, strides and the first of the columns are multiples of four numbers.
    """
    offset = entry.to(tl.int64) * n + image * stride
    if ALIGNED:
        offset = tl.multiple_of(offset, 4)
    return tl.load(arena + offset[:, None] + columns, mask=(entry >= 0)[:, None] & inside, other=0.0)


@triton.jit
def gather(arena, table, meta, positions, q, image, n, rows, k, DEPTH: tl.constexpr):
    """[rows, depth] numbers of narrow reads side by side: number k is of read meta[0, k], which has stride meta[1, k],
    from column meta[2, k]. A read of -1: nothing."""
    read = tl.load(meta + k)
    stride = tl.load(meta + DEPTH + k)
    column = tl.load(meta + 2 * DEPTH + k)
    inside = rows[:, None] & (read >= 0)[None, :]
    entry = entries(table, read[None, :], positions, q[:, None], inside)
    source = arena + entry.to(tl.int64) * n + image[:, None] * stride[None, :] + column[None, :]
    return tl.load(source, mask=entry >= 0, other=0.0)


@triton.jit
def to_bfloat16(x):
    """float32 rounded to bfloat16, halves to even, as float32."""
    bits = x.to(tl.int32, bitcast=True)
    rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) & -0x10000
    return tl.where(x != x, x, rounded.to(tl.float32, bitcast=True))


@triton.jit
def product(a, b, total, PRECISION: tl.constexpr, HALF: tl.constexpr, WIDEN: tl.constexpr):
    """total + a @ b. HALF: b is bfloat16, a is rounded to it. WIDEN: for the interpreter, which cuts off what a GPU
    rounds, and multiplies bfloat16 as if it were integers."""
    if WIDEN:
        a = to_bfloat16(a)
        b = b.to(tl.float32)
    elif HALF:
        a = a.to(tl.bfloat16)
    return tl.dot(a, b, total, input_precision=PRECISION, out_dtype=tl.float32)


@triton.jit
def tap_gemm(
    arena,
    weights,
    table,
    meta,
    positions,
    q,
    image,
    n,
    rows,
    columns,
    STEPS: tl.constexpr,
    GATHERS: tl.constexpr,
    ALIGNED: tl.constexpr,
    REGULAR: tl.constexpr,
    OFFSETS: tl.constexpr,
    COLUMNS: tl.constexpr,
    PRECISION: tl.constexpr,
    HALF: tl.constexpr,
    WIDEN: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
):
    """For each of OFFSETS the sum over taps at the weights' columns offset + ``columns``.  # float32 [rows, columns]

    weights: [STEPS * BLOCK_K, COLUMNS]. A step takes BLOCK_K numbers, of one tap: meta[step] is its read, the read's
    stride, its first column and how many there are; or with GATHERS of several: see ``gather``. REGULAR: all taps have
    (first read, steps, stride, first column, width) and nothing need be looked up, or () if they differ.
    The steps are added one after the other, whatever else the launch computes.
    """
    totals = ()
    for _ in tl.static_range(len(OFFSETS)):
        totals = totals + (tl.zeros([BLOCK_M, BLOCK_N], tl.float32),)
    for step in range(STEPS):
        k = tl.arange(0, BLOCK_K)
        if GATHERS:
            a = gather(arena, table, meta, positions, q, image, n, rows, step * BLOCK_K + k, STEPS * BLOCK_K)
        else:
            if len(REGULAR) > 0:
                read = REGULAR[0] + step // REGULAR[1]
                stride = REGULAR[2]
                begin = step % REGULAR[1] * BLOCK_K
                first = REGULAR[3] + begin
                width = REGULAR[4] - begin
            else:
                read = tl.load(meta + 4 * step)
                stride = tl.load(meta + 4 * step + 1)
                first = tl.load(meta + 4 * step + 2)
                width = tl.load(meta + 4 * step + 3)
            if ALIGNED and len(REGULAR) == 0:
                stride = tl.multiple_of(stride, 4)
                first = tl.multiple_of(first, 4)
                width = tl.multiple_of(width, 4)
            entry = entries(table, read, positions, q, rows)
            a = take(arena, entry, image, n, stride, (first + k)[None, :], (k < width)[None, :], ALIGNED)
        row = weights + (step * BLOCK_K + k)[:, None] * COLUMNS
        added = ()
        for i in tl.static_range(len(OFFSETS)):
            column = OFFSETS[i] + columns
            b = tl.load(row + column[None, :], mask=(column < COLUMNS)[None, :], other=0.0)
            added = added + (product(a, b, totals[i], PRECISION, HALF, WIDEN),)
        totals = added
    return totals
