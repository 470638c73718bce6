"""Drawing levels in Triton: from logits, and what every likelihood's draw shares. In float64, as everywhere.

A program draws for some rows; a row is a sub-pixel of one image. Nothing is sorted for top_k and top_p: the level at
which the ranking is cut is found bit by bit. Importing this file imports triton.
"""

# Kernel parameters carry no types: Triton gives them theirs.
# mypy: disable-error-code="no-untyped-def"

import triton
import triton.language as tl

from genfast.kernels.common.triton_math import exp, log

RUN_TIME = ("n", "begin", "draws", "table", "positions", "channel", "channels", "pixels")
INFINITY = tl.constexpr(float("inf"))


@triton.jit
def places(tables, table, positions, begin, draws, n, BLOCK_R: tl.constexpr):
    """(image, pixel, entry of the parameters, entry of the input, whether there is such a row) of a program's rows."""
    r = tl.program_id(0) * BLOCK_R + tl.arange(0, BLOCK_R)
    rows = r < draws * n
    q = table + begin + r // n
    pixel = tl.load(tables + q, mask=rows, other=0)
    params = tl.load(tables + positions + q, mask=rows, other=0)
    level = tl.load(tables + 2 * positions + q, mask=rows, other=-1)
    return r % n, pixel, params, level, rows


@triton.jit
def ordered(x):
    """float64 as int64 in the same order, both zeros alike."""
    bits = (x + 0.0).to(tl.int64, bitcast=True)
    return tl.where(bits < 0, bits ^ 0x7FFFFFFFFFFFFFFF, bits)


@triton.jit
def threshold(keys, weights, least):
    """The largest key such that the weights of all keys from it on come to ``least`` or more.  # int64 [rows, 1]"""
    reached = tl.sum(tl.where(keys >= 0, weights, 0.0), 1)[:, None] >= least
    low = tl.full(reached.shape, -0x7FFFFFFFFFFFFFFF - 1, tl.int64)
    found = tl.where(reached, 0, low)
    bit = tl.full(reached.shape, 1 << 62, tl.int64)
    for _ in range(63):
        higher = found + bit
        reached = tl.sum(tl.where(keys >= higher, weights, 0.0), 1)[:, None] >= least
        found = tl.where(reached, higher, found)
        bit = bit >> 1
    return found


@triton.jit
def first_part(logits, inside, weights, least):
    """The levels of the ranking, most probable first and the lower of equals, before whose own weight those of the
    ones before come to less than ``least``."""
    keys = ordered(logits)
    cut = threshold(keys, tl.where(inside, weights, 0.0), least)
    above = inside & (keys > cut)
    equal = inside & (keys == cut)
    own = tl.where(equal, weights, 0.0)
    before = tl.sum(tl.where(above, weights, 0.0), 1)[:, None] + (tl.cumsum(own, 1) - own)
    return above | (equal & (before < least))


@triton.jit
def draw_level(logits, inside, temperature, top_k, top_p, uniform, LEVELS: tl.constexpr, BLOCK_L: tl.constexpr):
    """The smallest level at which the distribution function passes the uniform.  # int32 [rows]

    logits float64 [rows, levels], minus infinity where there is no level; uniform [rows]. See likelihoods/draw.py.
    """
    levels = tl.arange(0, BLOCK_L)[None, :]
    top = tl.max(logits, 1)[:, None]
    coldest = temperature == 0.0
    weights = exp((logits - top) / tl.where(coldest, 1.0, temperature))
    weights = tl.where(inside, weights, 0.0)
    kept = weights
    if top_k < LEVELS:
        kept = tl.where(first_part(logits, inside, tl.where(inside, weights * 0.0 + 1.0, 0.0), top_k), kept, 0.0)
    if top_p < 1.0:
        least = top_p * tl.sum(weights, 1)[:, None]
        kept = tl.where(first_part(logits, inside, weights, least), kept, 0.0)
    cdf = tl.cumsum(kept, 1)
    total = tl.sum(tl.where(levels == BLOCK_L - 1, cdf, 0.0), 1)
    passed = (cdf > (uniform * total)[:, None]) & (kept > 0.0)
    drawn = tl.min(tl.where(passed, levels, BLOCK_L), 1)
    last = tl.max(tl.where(kept > 0.0, levels, 0), 1)
    drawn = tl.where(drawn == BLOCK_L, last, drawn)
    probable = tl.min(tl.where(logits == top, levels, BLOCK_L - 1), 1)
    return tl.where(coldest, probable, drawn)


@triton.jit
def log_prob(logits, inside, level, BLOCK_L: tl.constexpr):
    """ln P(level).  # float64 [rows]"""
    top = tl.max(logits, 1)
    total = tl.sum(tl.where(inside, exp(logits - top[:, None]), 0.0), 1)
    own = tl.sum(tl.where(tl.arange(0, BLOCK_L)[None, :] == level[:, None], logits, 0.0), 1)
    return own - top - log(total)


@triton.jit
def put(arena, images, log_probs, sub_pixel, level, nats, entry, image, n, rows):
    """Writes a level, its log-probability, and the number that the network will read."""
    tl.store(images + sub_pixel, level, mask=rows)
    tl.store(log_probs + sub_pixel, nats, mask=rows)
    tl.store(arena + entry.to(tl.int64) * n + image, level.to(tl.float32), mask=rows & (entry >= 0))


@triton.jit(do_not_specialize=RUN_TIME)
def categorical_kernel(
    arena,
    tables,
    images,
    known,
    uniforms,
    log_probs,
    settings,
    failed,
    n,
    begin,
    draws,
    table,
    positions,
    channel,
    channels,
    pixels,
    STRIDE: tl.constexpr,
    COLUMN: tl.constexpr,
    LEVELS: tl.constexpr,
    BERNOULLI: tl.constexpr,
    BLOCK_R: tl.constexpr,
    BLOCK_L: tl.constexpr,
):
    """Draws begin .. begin + draws - 1 of a channel's table, of n images.

    arena: see cells. images int32, uniforms and log_probs float64 [n, channels, pixels]; known uint8 [n, pixels].
    settings: float64 temperature, top_k, top_p. failed: int32, set to 1 where logits to draw from are no distribution.
    """
    image, pixel, entry, input_entry, rows = places(tables, table, positions, begin, draws, n, BLOCK_R)
    levels = tl.arange(0, BLOCK_L)[None, :]
    inside = rows[:, None] & (levels < LEVELS)
    source = arena + (entry.to(tl.int64) * n + image * STRIDE + COLUMN)[:, None]
    if BERNOULLI:  # the logits of the levels are 0 and the parameter
        given = tl.load(source + levels * 0, mask=inside & (levels == 1), other=0.0)
    else:
        given = tl.load(source + levels, mask=inside, other=0.0)
    is_nan = tl.max(tl.where(given != given, 1, 0), 1) > 0
    logits = tl.where(inside, given.to(tl.float64), tl.where(levels < LEVELS, 0.0, -INFINITY))
    top = tl.max(tl.where(given != given, 0.0, logits), 1)
    wrong = is_nan | (top == INFINITY) | (top == -INFINITY)

    sub_pixel = (image.to(tl.int64) * channels + channel) * pixels + pixel
    is_known = tl.load(known + image.to(tl.int64) * pixels + pixel, mask=rows, other=1) != 0
    uniform = tl.load(uniforms + sub_pixel, mask=rows, other=0.5)
    drawn = draw_level(
        logits, inside, tl.load(settings), tl.load(settings + 1), tl.load(settings + 2), uniform, LEVELS, BLOCK_L
    )  # fmt: skip
    drawn = tl.where(wrong, 0, drawn)
    tl.store(failed + tl.zeros_like(pixel), 1, mask=rows & wrong & (is_known == 0))
    level = tl.where(is_known, tl.load(images + sub_pixel, mask=rows, other=0), drawn)
    nats = log_prob(logits, inside, level, BLOCK_L)
    put(arena, images, log_probs, sub_pixel, level, tl.where(is_nan, float("nan"), nats), input_entry, image, n, rows)


@triton.jit(do_not_specialize=RUN_TIME)
def params_kernel(
    arena,
    tables,
    out,
    n,
    begin,
    draws,
    table,
    positions,
    channel,
    channels,
    pixels,
    STRIDE: tl.constexpr,
    COLUMN: tl.constexpr,
    WIDTH: tl.constexpr,
    BLOCK_R: tl.constexpr,
    BLOCK_L: tl.constexpr,
):
    """Copies the parameters of draws begin .. begin + draws - 1 to out float32 [n, channels, pixels, WIDTH]."""
    image, pixel, entry, _, rows = places(tables, table, positions, begin, draws, n, BLOCK_R)
    columns = tl.program_id(1) * BLOCK_L + tl.arange(0, BLOCK_L)[None, :]
    inside = rows[:, None] & (columns < WIDTH)
    given = tl.load(arena + (entry.to(tl.int64) * n + image * STRIDE + COLUMN)[:, None] + columns, mask=inside)
    sub_pixel = (image.to(tl.int64) * channels + channel) * pixels + pixel
    tl.store(out + sub_pixel[:, None] * WIDTH + columns, given, mask=inside)
