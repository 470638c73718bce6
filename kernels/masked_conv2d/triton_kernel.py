"""masked_conv2d in Triton, the device code: implicit matrix products over the taps that the mask keeps.

Four kernels, each one idea:

    pack      weight [O, I, kh, kw] -> [taps * read channels, written channels]; masked pairs become zeros, never read
    conv      out[pixel, n] = bias[n] + sum over k = (tap, channel) of x[pixel + offset(tap), channel] * packed[k, n].
              The input gradient is the same sum with the offsets negated and the two kinds of channel swapped.
    weight_partials   the product over pixels that gives the weight's gradient, one partial sum per run of pixels
    finish    adds the partial sums in order (no atomics, so equal inputs give equal bits) and zeroes masked weights

Channels, taps and tile sizes are compile-time constants: one compilation per layer shape, none per batch or image size.
triton_launch.py chooses them, and what is summed in which precision. Importing this file imports triton.
"""

# Kernel parameters carry no types: Triton gives them theirs.
# mypy: disable-error-code="no-untyped-def"

import triton
import triton.language as tl


@triton.jit
def reads(o, i, COUT: tl.constexpr, CIN: tl.constexpr, GROUPS: tl.constexpr, STRICT: tl.constexpr):
    """Whether output channel o reads input channel i at the pixel itself (mask.py: group_of)."""
    if STRICT:
        return i * GROUPS // CIN < o * GROUPS // COUT
    else:
        return i * GROUPS // CIN <= o * GROUPS // COUT


@triton.jit
def pack_kernel(
    weight,
    packed,
    stride_o,
    stride_i,
    stride_y,
    stride_x,
    COUT: tl.constexpr,
    CIN: tl.constexpr,
    KH: tl.constexpr,
    KW: tl.constexpr,
    TAPS: tl.constexpr,
    GROUPS: tl.constexpr,
    STRICT: tl.constexpr,
    TRANSPOSED: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """packed[t, i, o] = weight[o, i, t] (TRANSPOSED: packed[t, o, i]) for t < TAPS; a masked pair is 0, never read."""
    e = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    t = e // (COUT * CIN)
    if TRANSPOSED:
        o = e // CIN % COUT
        i = e % CIN
    else:
        i = e // COUT % CIN
        o = e % COUT
    kept = e < TAPS * COUT * CIN
    if GROUPS > 1:
        kept = kept & ((t != KH // 2 * KW + KW // 2) | reads(o, i, COUT, CIN, GROUPS, STRICT))
    source = weight + o.to(tl.int64) * stride_o + i * stride_i + t // KW * stride_y + t % KW * stride_x
    tl.store(packed + e, tl.load(source, mask=kept, other=0.0), mask=e < TAPS * COUT * CIN)


@triton.jit
def conv_kernel(
    x,
    packed,
    bias,
    out,
    pixels,
    height,
    width,
    x_b,
    x_c,
    x_y,
    x_x,
    out_b,
    out_c,
    out_y,
    out_x,
    READ: tl.constexpr,
    WRITTEN: tl.constexpr,
    KH: tl.constexpr,
    KW: tl.constexpr,
    TAPS: tl.constexpr,
    SIGN: tl.constexpr,
    HAS_BIAS: tl.constexpr,
    INDEX: tl.constexpr,
    SUM: tl.constexpr,
    PRECISION: tl.constexpr,
    WIDEN: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
):
    """One tile of BLOCK_M pixels x BLOCK_N written channels; SIGN +1 is forward, -1 the input gradient."""
    n_blocks: tl.constexpr = (WRITTEN + BLOCK_N - 1) // BLOCK_N
    # Tiles of the same pixels run side by side, so that the second one finds x in the L2 cache.
    m = (tl.program_id(0) // n_blocks).to(INDEX) * BLOCK_M + tl.arange(0, BLOCK_M)
    n = tl.program_id(0) % n_blocks * BLOCK_N + tl.arange(0, BLOCK_N)
    px = (m % width)[:, None]
    py = (m // width % height)[:, None]
    batch = (m // width // height)[:, None]
    inside_m = (m < pixels)[:, None]
    inside_n = (n < WRITTEN)[None, :]
    origin = x + batch * x_b + py * x_y + px * x_x  # [BLOCK_M, 1]

    total = tl.zeros([BLOCK_M, BLOCK_N], dtype=SUM)
    for step in range((TAPS * READ + BLOCK_K - 1) // BLOCK_K):
        k = step * BLOCK_K + tl.arange(0, BLOCK_K)
        if READ % BLOCK_K == 0:  # a step stays within one tap: its offset is a scalar
            tap = step * BLOCK_K // READ
            channel = (k - tap * READ)[None, :]
            dy = SIGN * (tap // KW - KH // 2)
            dx = SIGN * (tap % KW - KW // 2)
            inside = inside_m
        else:
            taps = k // READ
            channel = (k % READ)[None, :]
            dy = (SIGN * (taps // KW - KH // 2))[None, :]
            dx = (SIGN * (taps % KW - KW // 2))[None, :]
            inside = inside_m & (k < TAPS * READ)[None, :]
        inside = inside & (py + dy >= 0) & (py + dy < height) & (px + dx >= 0) & (px + dx < width)
        source = origin + (dy * x_y + dx * x_x) + channel.to(INDEX) * x_c
        a = tl.load(source, mask=inside, other=0.0)
        w = tl.load(packed + k[:, None] * WRITTEN + n[None, :], mask=(k < TAPS * READ)[:, None] & inside_n, other=0.0)
        if WIDEN:
            a = a.to(tl.float32)
            w = w.to(tl.float32)
        total = tl.dot(a, w, total, input_precision=PRECISION, out_dtype=SUM)

    if HAS_BIAS:
        total += tl.load(bias + n, mask=n < WRITTEN, other=0.0).to(SUM)[None, :]
    target = out + batch * out_b + py * out_y + px * out_x + n[None, :].to(INDEX) * out_c
    tl.store(target, total.to(out.dtype.element_ty), mask=inside_m & inside_n)


@triton.jit
def weight_partials_kernel(
    grad,
    x,
    partials,
    pixels,
    height,
    width,
    grad_b,
    grad_c,
    grad_y,
    grad_x,
    x_b,
    x_c,
    x_y,
    x_x,
    COUT: tl.constexpr,
    CIN: tl.constexpr,
    KH: tl.constexpr,
    KW: tl.constexpr,
    TAPS: tl.constexpr,
    STEPS: tl.constexpr,
    INDEX: tl.constexpr,
    SUM: tl.constexpr,
    PRECISION: tl.constexpr,
    WIDEN: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
):
    """partials[s, o, t * I + i] = sum of grad[o, p] * x[i, p + offset(t)] over the s-th STEPS * BLOCK_K pixels."""
    n_blocks: tl.constexpr = (TAPS * CIN + BLOCK_N - 1) // BLOCK_N
    o = tl.program_id(0) // n_blocks * BLOCK_M + tl.arange(0, BLOCK_M)
    n = tl.program_id(0) % n_blocks * BLOCK_N + tl.arange(0, BLOCK_N)
    split = tl.program_id(1)
    tap = n // CIN
    dy = (tap // KW - KH // 2)[None, :]
    dx = (tap % KW - KW // 2)[None, :]
    x_column = x + (n % CIN)[None, :].to(INDEX) * x_c + dy * x_y + dx * x_x
    grad_row = grad + o[:, None].to(INDEX) * grad_c
    inside_o = (o < COUT)[:, None]
    inside_n = (n < TAPS * CIN)[None, :]

    total = tl.zeros([BLOCK_M, BLOCK_N], dtype=SUM)
    for step in range(STEPS):
        p = (split * STEPS + step).to(INDEX) * BLOCK_K + tl.arange(0, BLOCK_K)
        px = p % width
        py = p // width % height
        batch = p // width // height
        a = tl.load(
            grad_row + (batch * grad_b + py * grad_y + px * grad_x)[None, :],
            mask=inside_o & (p < pixels)[None, :],
            other=0.0,
        )
        ty = py[:, None] + dy
        tx = px[:, None] + dx
        inside = inside_n & (p < pixels)[:, None] & (ty >= 0) & (ty < height) & (tx >= 0) & (tx < width)
        b = tl.load(x_column + (batch * x_b + py * x_y + px * x_x)[:, None], mask=inside, other=0.0)
        if WIDEN:
            a = a.to(tl.float32)
            b = b.to(tl.float32)
        total = tl.dot(a, b, total, input_precision=PRECISION, out_dtype=SUM)

    row = (split * COUT + o).to(tl.int64)[:, None]
    tl.store(partials + row * (TAPS * CIN) + n[None, :], total, mask=inside_o & inside_n)


@triton.jit
def finish_kernel(
    partials,
    dweight,
    splits,
    COUT: tl.constexpr,
    CIN: tl.constexpr,
    KH: tl.constexpr,
    KW: tl.constexpr,
    TAPS: tl.constexpr,
    GROUPS: tl.constexpr,
    STRICT: tl.constexpr,
    SUM: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """dweight[o, i, t] = sum over s, in order, of partials[s, o, t * I + i]; zero where the mask is."""
    e = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    t = e % (KH * KW)
    i = e // (KH * KW) % CIN
    o = e // (KH * KW * CIN)
    kept = (o < COUT) & (t < TAPS)
    if GROUPS > 1:
        kept = kept & ((t != KH // 2 * KW + KW // 2) | reads(o, i, COUT, CIN, GROUPS, STRICT))
    source = partials + o.to(tl.int64) * (TAPS * CIN) + t * CIN + i
    total = tl.zeros([BLOCK], dtype=SUM)
    s = 0
    while s < splits:
        total += tl.load(source, mask=kept, other=0.0)
        source += COUT * TAPS * CIN
        s += 1
    tl.store(dweight + e, total.to(dweight.dtype.element_ty), mask=o < COUT)
