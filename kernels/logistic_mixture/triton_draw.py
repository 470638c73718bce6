"""Drawing sub-pixels from mixtures of logistics in Triton: what draw.cpp does, a row of components for each sub-pixel.

The parameters are those of LogisticMixture (genfast/likelihoods; draw.h lists them). Without top_k, top_p and
temperature 0 the level is found by halving, with 8 looks at the components for 256 levels. In float64. Importing this
file imports triton.
"""

# Kernel parameters carry no types: Triton gives them theirs.
# mypy: disable-error-code="no-untyped-def"

import triton
import triton.language as tl

from genfast.kernels.categorical.triton_kernel import RUN_TIME, draw_level, places, put
from genfast.kernels.common.triton_math import exp, log, sigmoid
from genfast.kernels.logistic_mixture.triton_kernel import bin, most_of

INFINITY = tl.constexpr(float("inf"))
LOWEST = tl.constexpr(-60.0)  # the least log-scale there is, as in reference.py
COLDEST = tl.constexpr(2.0**-40)  # in the place of temperature 0


@triton.jit
def log_bin(level, mean, log_scale, LEVELS: tl.constexpr, LOG_WIDTH: tl.constexpr):
    """ln P(level) of logistics whose means are in half bins."""
    middle = 2.0 * level.to(tl.float64) - (LEVELS - 1.0)
    exponent, ratio, _, _ = bin(middle, mean, log_scale, LEVELS, LOG_WIDTH, LOWEST)
    return exponent + log(ratio)


@triton.jit
def tempered(log_scale, temperature, LEAST: tl.constexpr):
    return most_of(log_scale, tl.full(log_scale.shape, LEAST, tl.float64)) + log(temperature)


@triton.jit
def mixture_at(
    source, inside, temperature,
    COLOURS: tl.constexpr, COMPONENTS: tl.constexpr, LEVELS: tl.constexpr, LOG_WIDTH: tl.constexpr, LEAST: tl.constexpr,
):  # fmt: skip
    """ln of the shares, unnormalised, the means in half bins and the log-scales at a temperature; source [rows,
    components] points at row 0 of the parameters."""
    SCALE: tl.constexpr = LEVELS - 1.0
    shares = tl.load(source, mask=inside, other=0.0).to(tl.float64) / temperature
    for i in tl.static_range(1, COLOURS):  # what the earlier colours say about the component
        level = tl.load(source + (3 * i) * COMPONENTS, mask=inside, other=-1.0).to(tl.float64)
        mean = tl.load(source + (3 * i + 1) * COMPONENTS, mask=inside, other=0.0).to(tl.float64) * SCALE
        log_scale = tl.load(source + (3 * i + 2) * COMPONENTS, mask=inside, other=0.0).to(tl.float64)
        said = log_bin(
            tl.where(level < 0.0, 0.0, level), mean, tempered(log_scale, temperature, LEAST), LEVELS, LOG_WIDTH
        )
        shares += tl.where(level < 0.0, 0.0, said)
    mean = tl.load(source + COMPONENTS, mask=inside, other=0.0).to(tl.float64) * SCALE
    log_scale = tl.load(source + 2 * COMPONENTS, mask=inside, other=0.0).to(tl.float64)
    return tl.where(inside, shares, -INFINITY), mean, tempered(log_scale, temperature, LEAST)


@triton.jit
def log_sum(x):
    """[rows, components] -> [rows, 1]"""
    top = tl.max(x, 1)[:, None]
    return top + log(tl.sum(exp(x - top), 1)[:, None])


@triton.jit
def invert(shares, mean, log_scale, uniform, LEVELS: tl.constexpr, LOOKS: tl.constexpr):
    """The smallest level at which the mixture's distribution function passes the uniform.  # int32 [rows, 1]"""
    weights = exp(shares - tl.max(shares, 1)[:, None])
    inverse = exp(-most_of(log_scale, tl.full(log_scale.shape, LOWEST, tl.float64))) / (LEVELS - 1.0)
    target = uniform * tl.sum(weights, 1)[:, None]
    low = tl.zeros(target.shape, tl.int32)
    high = low + (LEVELS - 1)
    for _ in range(LOOKS):
        middle = (low + high) // 2
        edge = 2.0 * middle.to(tl.float64) + (2.0 - LEVELS)
        below = tl.sum(weights * sigmoid((edge - mean) * inverse), 1)[:, None]
        passed = (target < below) | (low == high)
        low, high = tl.where(passed, low, middle + 1), tl.where(passed, middle, high)
    return low


@triton.jit
def every_level(
    source, rows, temperature, levels,
    COLOURS: tl.constexpr, COMPONENTS: tl.constexpr, LEVELS: tl.constexpr, LOG_WIDTH: tl.constexpr, LEAST: tl.constexpr,
):  # fmt: skip
    """ln P of all levels, up to the sum of the shares.  # float64 [rows, levels]"""
    total = tl.zeros([rows.shape[0], levels.shape[1]], tl.float64) - INFINITY
    for k in range(COMPONENTS):
        shares, mean, log_scale = mixture_at(
            source + k, rows[:, None], temperature, COLOURS, COMPONENTS, LEVELS, LOG_WIDTH, LEAST
        )  # fmt: skip
        x = shares + log_bin(levels, mean, log_scale, LEVELS, LOG_WIDTH)
        top = most_of(total, x)
        both = top + log(exp(total - top) + exp(x - top))
        total = tl.where(total == -INFINITY, x, both)
    return total


@triton.jit(do_not_specialize=RUN_TIME)
def mixture_draw_kernel(
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
    COLOURS: tl.constexpr,
    COMPONENTS: tl.constexpr,
    LOOKS: tl.constexpr,
    LOG_WIDTH: tl.constexpr,
    LEAST: tl.constexpr,
    BLOCK_R: tl.constexpr,
    BLOCK_L: tl.constexpr,
    BLOCK_C: tl.constexpr,
):
    """As categorical_kernel. LOOKS: how often the levels can be halved. LEAST: the least log-scale."""
    image, pixel, entry, input_entry, rows = places(tables, table, positions, begin, draws, n, BLOCK_R)
    components = tl.arange(0, BLOCK_C)[None, :]
    inside = rows[:, None] & (components < COMPONENTS)
    origin = arena + (entry.to(tl.int64) * n + image * STRIDE + COLUMN)[:, None]
    source = origin + components
    wrong = tl.zeros([BLOCK_R], tl.int32)
    for i in range(3 * COLOURS):
        x = tl.load(source + i * COMPONENTS, mask=inside, other=0.0)
        wrong = tl.maximum(wrong, tl.max(tl.where(x - x == 0.0, 0, 1), 1))

    sub_pixel = (image.to(tl.int64) * channels + channel) * pixels + pixel
    is_known = tl.load(known + image.to(tl.int64) * pixels + pixel, mask=rows, other=1) != 0
    uniform = tl.load(uniforms + sub_pixel, mask=rows, other=0.5)
    temperature = tl.load(settings)
    top_k = tl.load(settings + 1)
    top_p = tl.load(settings + 2)
    warm = tl.where(temperature == 0.0, COLDEST, temperature)
    if (temperature == 0.0) | (top_k < LEVELS) | (top_p < 1.0):
        levels = tl.arange(0, BLOCK_L)[None, :]
        there = rows[:, None] & (levels < LEVELS)
        logits = every_level(origin, rows, warm, levels, COLOURS, COMPONENTS, LEVELS, LOG_WIDTH, LEAST)
        logits = tl.where(levels < LEVELS, tl.where(rows[:, None], logits, 0.0), -INFINITY)
        drawn = draw_level(
            logits, there, tl.where(temperature == 0.0, temperature, 1.0), top_k, top_p, uniform, LEVELS, BLOCK_L
        )  # fmt: skip
    else:
        shares, mean, log_scale = mixture_at(
            source, inside, warm, COLOURS, COMPONENTS, LEVELS, LOG_WIDTH, LEAST
        )  # fmt: skip
        shares = tl.where(rows[:, None], shares, 0.0)
        drawn = tl.max(invert(shares, mean, log_scale, uniform[:, None], LEVELS, LOOKS), 1)
    drawn = tl.where(wrong > 0, 0, drawn)
    tl.store(failed + tl.zeros_like(pixel), 1, mask=rows & (wrong > 0) & (is_known == 0))
    level = tl.where(is_known, tl.load(images + sub_pixel, mask=rows, other=0), drawn)

    plain = temperature * 0.0 + 1.0
    shares, mean, log_scale = mixture_at(source, inside, plain, COLOURS, COMPONENTS, LEVELS, LOG_WIDTH, LEAST)
    shares = tl.where(rows[:, None], shares, 0.0)
    joint = shares + log_bin(level[:, None], mean, log_scale, LEVELS, LOG_WIDTH)
    nats = tl.max(log_sum(joint) - log_sum(shares), 1)
    put(
        arena, images, log_probs, sub_pixel, level, tl.where(wrong > 0, float("nan"), nats), input_entry, image, n, rows
    )  # fmt: skip
