"""Every reduction in Triton, float32: of the numbers of several reads side by side, found through tables.

First what all numbers of a row say together, ``summary``; then ``reduced``, the result at any columns, from that and
the numbers there. Importing this file imports triton.
"""

# Kernel parameters carry no types: Triton gives them theirs.
# mypy: disable-error-code="no-untyped-def"

import triton
import triton.language as tl

from genfast.kernels.common.triton_math import exp, log
from genfast.kernels.tap_gemm.triton_kernel import gather

NUMBER = {"sum": 0, "max": 1, "min": 2, "standardize": 3, "softmax": 4, "log_softmax": 5}
SUM, MAX, MIN, STANDARDIZE, SOFTMAX, LOG_SOFTMAX = (tl.constexpr(i) for i in range(6))
INFINITY = tl.constexpr(float("inf"))
NAN = tl.constexpr(float("nan"))


@triton.jit
def row_sum(x):
    return tl.sum(x, 1)[:, None]


@triton.jit
def row_max(x):
    """The largest of a row, NaN if there is one."""
    is_nan = tl.max(tl.where(x != x, 1, 0), 1)[:, None]
    return tl.where(is_nan > 0, NAN, tl.max(tl.where(x != x, 0.0, x), 1)[:, None])


@triton.jit
def larger(a, b):
    return tl.where((a > b) | (a != a), a, b)


@triton.jit
def summary(
    arena, table, meta, positions, q, image, n, rows,
    KIND: tl.constexpr, TOTAL: tl.constexpr, EPS: tl.constexpr, STEPS: tl.constexpr, BLOCK_K: tl.constexpr,
):  # fmt: skip
    """Two numbers of each row [rows, 1]: (sum, -), (largest, -), (-smallest, -), (mean, 1 / deviation), or (largest,
    sum of exponentials). TOTAL: how many numbers there are."""
    DEPTH: tl.constexpr = STEPS * BLOCK_K
    first = tl.zeros([q.shape[0], 1], tl.float32)
    second = tl.zeros([q.shape[0], 1], tl.float32)
    if (KIND != SUM) & (KIND != STANDARDIZE):
        first = first - INFINITY
    for step in range(STEPS):
        k = step * BLOCK_K + tl.arange(0, BLOCK_K)
        x = gather(arena, table, meta, positions, q, image, n, rows, k, DEPTH)
        if (KIND == SUM) | (KIND == STANDARDIZE):
            first += row_sum(x)  # what is not there is 0
        else:
            x = -x if KIND == MIN else x
            first = larger(first, row_max(tl.where((k < TOTAL)[None, :], x, -INFINITY)))
    if KIND == STANDARDIZE:
        first = first / TOTAL
    if (KIND == STANDARDIZE) | (KIND == SOFTMAX) | (KIND == LOG_SOFTMAX):
        for step in range(STEPS):
            k = step * BLOCK_K + tl.arange(0, BLOCK_K)
            x = gather(arena, table, meta, positions, q, image, n, rows, k, DEPTH)
            if KIND == STANDARDIZE:
                off = tl.where((k < TOTAL)[None, :], x - first, 0.0)
                second += row_sum(off * off)
            else:
                second += row_sum(tl.where((k < TOTAL)[None, :], exp(x - first), 0.0))
    if KIND == STANDARDIZE:
        second = tl.div_rn(tl.full(second.shape, 1.0, tl.float32), tl.sqrt_rn(second / TOTAL + EPS))
    return first, second


@triton.jit
def reduced(x, first, second, KIND: tl.constexpr):
    """The result where the numbers are x."""
    if (KIND == SUM) | (KIND == MAX):
        return first
    elif KIND == MIN:
        return -first
    elif KIND == STANDARDIZE:
        return (x - first) * second
    elif KIND == SOFTMAX:
        return exp(x - first) / second
    else:
        tl.static_assert(KIND == LOG_SOFTMAX, "There is no such reduction.")
        return x - first - log(second)
