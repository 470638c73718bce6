"""logistic_mixture in Triton, the device code: a tile of pixels by components (or channels), every parameter read once.

    bin                  one logistic and one bin of it, with derivatives (cuda_bin.cuh says how, in the same names)
    mixture_kernel       ln P of each pixel, or the gradient of its parameters
    independent_kernel   the same for one logistic a channel

A pixel's numbers depend on that pixel alone, to the bit. The numbers of components, channels and levels are
compile-time constants: one compilation per likelihood, none per batch or image size. Importing this file imports
triton.
"""

# Kernel parameters carry no types: Triton gives them theirs.
# mypy: disable-error-code="no-untyped-def"

import triton
import triton.language as tl

from genfast.kernels.common.triton_math import decay, exp, log, tanh


@triton.jit
def least_of(a, b):
    return tl.where(b < a, b, a)  # a NaN in a stays


@triton.jit
def most_of(a, b):
    return tl.where(b > a, b, a)


@triton.jit
def bin(middle, mean, log_scale, LEVELS: tl.constexpr, LOG_WIDTH: tl.constexpr, LEAST: tl.constexpr):
    """ln P = exponent + ln(ratio), and its derivatives by the mean and the log-scale; middle and mean in half bins.

    LOG_WIDTH is ln(2 / (LEVELS - 1)), LEAST the lowest log-scale.
    """
    mean, middle = tl.broadcast(mean, middle)
    least = tl.full(mean.shape, LEAST, mean.dtype)
    farthest = tl.full(mean.shape, 1e30, mean.dtype)
    raised = most_of(log_scale, least)
    t = exp(-raised) * (1.0 / (LEVELS - 1))  # 1 / s, of half bins
    a = most_of(least_of((middle - 1.0 - mean) * t, farthest), -farthest)
    b = most_of(least_of((middle + 1.0 - mean) * t, farthest), -farthest)
    w = most_of(2.0 * t, tl.full(mean.shape, 1e-15, mean.dtype))  # narrower, 1 - e^-w is w
    first = middle <= 1.0 - LEVELS
    last = middle >= LEVELS - 1.0
    inside = (middle > 1.0 - LEVELS) & (middle < LEVELS - 1.0)
    across, across_less_1 = decay(-w)
    u, _ = decay(tl.where(a > 0.0, -a, a))
    v, _ = decay(tl.where(b > 0.0, -b, b))
    u = tl.where(first, 0.0, u)
    v = tl.where(last, 0.0, v)
    lower = tl.where(first, 0.0, tl.where(a > 0.0, -a, a * 0.0))
    upper = tl.where(last, 0.0, tl.where(b < 0.0, b, b * 0.0))
    width = LOG_WIDTH - raised
    width = tl.where(inside, tl.where(width > 0.0, width * 0.0, width), 0.0)
    rise = tl.where(inside, -across_less_1, 1.0)
    per = tl.where(inside, tl.where(w > 1.0, 1.0, w), 1.0)
    of_both = 1.0 / ((1.0 + u) * (1.0 + v))
    of_rise = 1.0 / (rise * per)
    exponent = lower + upper + width
    ratio = rise * rise * of_rise * of_both
    of_u = (1.0 + v) * of_both
    of_v = (1.0 + u) * of_both
    at_a = tl.where(first, 0.0, tl.where(a > 0.0, of_u, u * of_u))  # sigmoid(a)
    at_b = tl.where(last, 0.0, tl.where(b > 0.0, v * of_v, of_v))  # sigmoid(-b)
    of_w = tl.where(inside, w * across * per * of_rise, 0.0)  # w / (e^w - 1)
    dmean = t * (at_a - at_b)
    dlog_scale = tl.where(log_scale < least, 0.0, at_a * a - at_b * b - of_w)
    return exponent, ratio, dmean, dlog_scale


@triton.jit
def load_half_bins(images, inside, LEVELS: tl.constexpr, T: tl.constexpr):
    """The middles of the levels' bins."""
    return (2 * tl.load(images, mask=inside, other=0).to(tl.int32) - (LEVELS - 1)).to(T)


@triton.jit
def load_row(
    origin, lane, row: tl.constexpr, stride, inside, LANES: tl.constexpr, INDEX: tl.constexpr, T: tl.constexpr
):
    """One number of each component: params[:, row * LANES + lane]."""
    return tl.load(origin + (row * LANES + lane).to(INDEX) * stride, mask=inside, other=0.0).to(T)


@triton.jit
def store_row(origin, lane, row: tl.constexpr, stride, inside, value, LANES: tl.constexpr, INDEX: tl.constexpr):
    target = origin + (row * LANES + lane).to(INDEX) * stride
    tl.store(target, value.to(origin.dtype.element_ty), mask=inside)


@triton.jit
def mixture_kernel(
    params,
    images,
    grad,
    out,
    pixels,
    height,
    width,
    params_b,
    params_p,
    params_y,
    params_x,
    images_b,
    images_c,
    images_y,
    images_x,
    grad_b,
    grad_p,
    grad_y,
    grad_x,
    out_b,
    out_p,
    out_y,
    out_x,
    CHANNELS: tl.constexpr,
    LANES: tl.constexpr,
    LEVELS: tl.constexpr,
    LOG_WIDTH: tl.constexpr,
    LEAST: tl.constexpr,
    BACKWARD: tl.constexpr,
    INDEX: tl.constexpr,
    T: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
):
    """BLOCK_M pixels by BLOCK_N >= LANES components. out: ln P [B, 1, H, W], or with BACKWARD the gradient of params.

    Of each colour there are a row of means, one of log-scales and, of three colours, one of coefficients.
    """
    m = tl.program_id(0).to(INDEX) * BLOCK_M + tl.arange(0, BLOCK_M)
    x = (m % width)[:, None]
    y = (m // width % height)[:, None]
    batch = (m // width // height)[:, None]
    n = tl.arange(0, BLOCK_N)[None, :]
    inside_m = (m < pixels)[:, None]
    inside = inside_m & (n < LANES)
    source = params + batch * params_b + y * params_y + x * params_x  # [BLOCK_M, 1]
    pixel = images + batch * images_b + y * images_y + x * images_x
    SCALE: tl.constexpr = LEVELS - 1.0

    red = load_half_bins(pixel, inside_m, LEVELS, T)
    mean = load_row(source, n, 1, params_p, inside, LANES, INDEX, T) * SCALE
    log_scale = load_row(source, n, 2, params_p, inside, LANES, INDEX, T)
    exponent, ratio, dmean_r, dlog_r = bin(red, mean, log_scale, LEVELS, LOG_WIDTH, LEAST)
    if CHANNELS == 3:
        c0 = tanh(load_row(source, n, 3, params_p, inside, LANES, INDEX, T))
        c1 = tanh(load_row(source, n, 6, params_p, inside, LANES, INDEX, T))
        c2 = tanh(load_row(source, n, 9, params_p, inside, LANES, INDEX, T))
        green = load_half_bins(pixel + images_c, inside_m, LEVELS, T)
        mean = load_row(source, n, 4, params_p, inside, LANES, INDEX, T) * SCALE + c0 * red
        log_scale = load_row(source, n, 5, params_p, inside, LANES, INDEX, T)
        exponent_g, ratio_g, dmean_g, dlog_g = bin(green, mean, log_scale, LEVELS, LOG_WIDTH, LEAST)
        two = tl.full([1, 1], 2, INDEX)
        blue = load_half_bins(pixel + two * images_c, inside_m, LEVELS, T)
        mean = load_row(source, n, 7, params_p, inside, LANES, INDEX, T) * SCALE + (c1 * red + c2 * green)
        log_scale = load_row(source, n, 8, params_p, inside, LANES, INDEX, T)
        exponent_b, ratio_b, dmean_b, dlog_b = bin(blue, mean, log_scale, LEVELS, LOG_WIDTH, LEAST)
        exponent += exponent_g + exponent_b
        ratio *= ratio_g * ratio_b

    logit = load_row(source, n, 0, params_p, inside, LANES, INDEX, T)
    logit = tl.where(n < LANES, logit, float("-inf"))
    logit = logit - tl.max(logit, 1)[:, None]
    weight = exp(logit)
    weights = tl.sum(weight, 1)[:, None]
    z = logit + exponent
    top = tl.max(z, 1)[:, None]
    joint = exp(z - top) * ratio
    total = tl.sum(joint, 1)[:, None]
    target = out + batch * out_b + y * out_y + x * out_x
    if BACKWARD:
        g = tl.load(grad + batch * grad_b + y * grad_y + x * grad_x, mask=inside_m, other=0.0)
        share = joint * (1.0 / total)  # of P that this component has
        count = g * share
        store_row(target, n, 0, out_p, inside, g * (share - weight * (1.0 / weights)), LANES, INDEX)
        store_row(target, n, 1, out_p, inside, count * dmean_r * SCALE, LANES, INDEX)
        store_row(target, n, 2, out_p, inside, count * dlog_r, LANES, INDEX)
        if CHANNELS == 3:
            to_g = count * dmean_g
            to_b = count * dmean_b
            store_row(target, n, 3, out_p, inside, to_g * red * (1.0 - c0 * c0), LANES, INDEX)
            store_row(target, n, 4, out_p, inside, to_g * SCALE, LANES, INDEX)
            store_row(target, n, 5, out_p, inside, count * dlog_g, LANES, INDEX)
            store_row(target, n, 6, out_p, inside, to_b * red * (1.0 - c1 * c1), LANES, INDEX)
            store_row(target, n, 7, out_p, inside, to_b * SCALE, LANES, INDEX)
            store_row(target, n, 8, out_p, inside, count * dlog_b, LANES, INDEX)
            store_row(target, n, 9, out_p, inside, to_b * green * (1.0 - c2 * c2), LANES, INDEX)
    else:
        tl.store(target, top + log(total / weights), mask=inside_m)


@triton.jit
def independent_kernel(
    params,
    images,
    grad,
    out,
    pixels,
    height,
    width,
    params_b,
    params_p,
    params_y,
    params_x,
    images_b,
    images_c,
    images_y,
    images_x,
    grad_b,
    grad_p,
    grad_y,
    grad_x,
    out_b,
    out_p,
    out_y,
    out_x,
    CHANNELS: tl.constexpr,
    LANES: tl.constexpr,
    LEVELS: tl.constexpr,
    LOG_WIDTH: tl.constexpr,
    LEAST: tl.constexpr,
    BACKWARD: tl.constexpr,
    INDEX: tl.constexpr,
    T: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
):
    """BLOCK_M pixels by BLOCK_N channels out of LANES. out: ln P [B, C, H, W], or with BACKWARD the gradient of
    params."""
    blocks: tl.constexpr = (LANES + BLOCK_N - 1) // BLOCK_N
    m = (tl.program_id(0) // blocks).to(INDEX) * BLOCK_M + tl.arange(0, BLOCK_M)
    x = (m % width)[:, None]
    y = (m // width % height)[:, None]
    batch = (m // width // height)[:, None]
    n = tl.program_id(0) % blocks * BLOCK_N + tl.arange(0, BLOCK_N)[None, :]
    inside = (m < pixels)[:, None] & (n < LANES)
    source = params + batch * params_b + y * params_y + x * params_x  # [BLOCK_M, 1]
    target = out + batch * out_b + y * out_y + x * out_x
    pixel = images + batch * images_b + y * images_y + x * images_x + n.to(INDEX) * images_c
    SCALE: tl.constexpr = LEVELS - 1.0

    middle = load_half_bins(pixel, inside, LEVELS, T)
    mean = load_row(source, n, 0, params_p, inside, LANES, INDEX, T) * SCALE
    log_scale = load_row(source, n, 1, params_p, inside, LANES, INDEX, T)
    exponent, ratio, dmean, dlog_scale = bin(middle, mean, log_scale, LEVELS, LOG_WIDTH, LEAST)
    if BACKWARD:
        of_grad = grad + batch * grad_b + y * grad_y + x * grad_x + n.to(INDEX) * grad_p
        g = tl.load(of_grad, mask=inside, other=0.0)
        store_row(target, n, 0, out_p, inside, g * dmean * SCALE, LANES, INDEX)
        store_row(target, n, 1, out_p, inside, g * dlog_scale, LANES, INDEX)
    else:
        store_row(target, n, 0, out_p, inside, exponent + log(ratio), LANES, INDEX)
