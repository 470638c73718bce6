"""The scan of row_lstm and diagonal_lstm in Triton, the device code: one program takes one image through its lines.

    cell, cell_bwd       the formulas of cell.h
    first, end, place    lines, slots and pixels, as scan.h defines them
    forward_kernel       a line: the recurrent product, block by block of hidden channels, and the cell right after it
    backward_kernel      the lines in reverse: dh through the line after, and the gradients of the pre-activations

A line reads what the line before wrote, by other threads of the same program: so a barrier of the program stands
between lines. It is all that is needed, because every map here (h, c, dgates, dc) is written once, by one line, and
read by later lines only: no place is ever written again. It may not be taken away although the interpreter, which runs
a program's operations one after another, would never miss it. Lines are a while loop, which the compiler never
pipelines, so that no load of the next line moves above it. Programs never wait for each other.

Weights are read again for every line: those of h = 32, some 50 KB, stay in the multiprocessor's own cache. Hidden
channels, taps and tiles are compile-time constants: one compilation per layer, none per batch or image size. Importing
this file imports triton.
"""

# Kernel parameters carry no types: Triton gives them theirs.
# mypy: disable-error-code="no-untyped-def"

import triton
import triton.language as tl

from genfast.kernels.common.triton_math import sigmoid, tanh


@triton.jit
def cell(i, f, g, o, c_prev):
    """Pre-activations -> gates after their nonlinearity, c and h."""
    i = sigmoid(i)
    f = sigmoid(f)
    g = tanh(g)
    o = sigmoid(o)
    c = f * c_prev + i * g
    return i, f, g, o, c, o * tanh(c)


@triton.jit
def cell_bwd(i, f, g, o, c, c_prev, dh, dc):
    """dh and dc (what reaches c through later cells alone) -> the gradients of the pre-activations and of c_prev."""
    tanh_c = tanh(c)
    d = dc + dh * o * (1.0 - tanh_c * tanh_c)
    di = d * g * (i * (1.0 - i))
    df = d * c_prev * (f * (1.0 - f))
    dg = d * i * (1.0 - g * g)
    do = dh * tanh_c * (o * (1.0 - o))
    return di, df, dg, do, d * f


@triton.jit
def first(line, width, DIAGONAL: tl.constexpr):
    """The first slot of a line."""
    if DIAGONAL:
        return tl.maximum(line - width + 1, 0)
    else:
        return line * 0


@triton.jit
def end(line, height, width, DIAGONAL: tl.constexpr):
    """One past its last slot; a line before or after the image has none."""
    lines = height + width - 1 if DIAGONAL else height
    last = tl.minimum(line + 1, height) if DIAGONAL else line * 0 + width
    return tl.where((line >= 0) & (line < lines), last, 0)


@triton.jit
def place(line, s, width, DIAGONAL: tl.constexpr, REVERSE: tl.constexpr):
    """Row and column of the pixel in slot s."""
    if not DIAGONAL:
        return line + s * 0, s
    elif REVERSE:
        return s, width - 1 - (line - s)
    else:
        return s, line - s


@triton.jit
def filled(line, s, height, width, DIAGONAL: tl.constexpr):
    """Whether slot s of a line is a pixel."""
    return (s >= first(line, width, DIAGONAL)) & (s < end(line, height, width, DIAGONAL))


@triton.jit
def pixels(line, s, width, DIAGONAL: tl.constexpr, REVERSE: tl.constexpr, INDEX: tl.constexpr):
    """Where a line's slots lie in a map [H, W].  # [s, 1]"""
    y, x = place(line, s, width, DIAGONAL, REVERSE)
    return (y.to(INDEX) * width + x)[:, None]


@triton.jit
def forward_kernel(
    x,
    weight,
    h0,
    c0,
    h,
    c,
    gates,
    height,
    width,
    x_b,
    x_c,
    x_y,
    x_x,
    HIDDEN: tl.constexpr,
    TAPS: tl.constexpr,
    REACH: tl.constexpr,
    DIAGONAL: tl.constexpr,
    REVERSE: tl.constexpr,
    KEEP: tl.constexpr,
    INDEX: tl.constexpr,
    SUM: tl.constexpr,
    PRECISION: tl.constexpr,
    WIDEN: tl.constexpr,
    BLOCK_S: tl.constexpr,
    BLOCK_J: tl.constexpr,
    BLOCK_K: tl.constexpr,
):
    """x [B, 4h, H, W], weight [taps, h, 4h] -> h and c [B, H, W, h] and, with KEEP, gates [B, H, W, 4h]; BLOCK_S slots
    and BLOCK_J hidden channels at a time."""
    steps: tl.constexpr = (HIDDEN + BLOCK_K - 1) // BLOCK_K  # of one tap
    image = tl.program_id(0).to(INDEX)
    x += image * x_b
    h += image * height * width * HIDDEN
    c += image * height * width * HIDDEN
    gates += image * height * width * (4 * HIDDEN)
    lines = height + width - 1 if DIAGONAL else height
    slots = height if DIAGONAL else width
    line = 0
    while line < lines:
        last = end(line, height, width, DIAGONAL)
        slot = first(line, width, DIAGONAL)
        while slot < last:
            s = slot + tl.arange(0, BLOCK_S)
            inside_s = (s < last)[:, None]
            y, column = place(line, s, width, DIAGONAL, REVERSE)
            here = pixels(line, s, width, DIAGONAL, REVERSE, INDEX)
            before = pixels(line - 1, s, width, DIAGONAL, REVERSE, INDEX)
            has_before = filled(line - 1, s, height, width, DIAGONAL)[:, None]
            of_x = x + (y.to(INDEX) * x_y + column.to(INDEX) * x_x)[:, None]
            for j0 in range(0, HIDDEN, BLOCK_J):
                j = (j0 + tl.arange(0, BLOCK_J))[None, :]
                sum_i = tl.zeros([BLOCK_S, BLOCK_J], dtype=SUM)
                sum_f = tl.zeros([BLOCK_S, BLOCK_J], dtype=SUM)
                sum_g = tl.zeros([BLOCK_S, BLOCK_J], dtype=SUM)
                sum_o = tl.zeros([BLOCK_S, BLOCK_J], dtype=SUM)
                for step in range(TAPS * steps):
                    tap = step // steps
                    k = step % steps * BLOCK_K + tl.arange(0, BLOCK_K)
                    inside_k = k < HIDDEN
                    source = s + tap - REACH
                    exists = filled(line - 1, source, height, width, DIAGONAL)[:, None]
                    read = ((source >= 0) & (source < slots))[:, None] & inside_s
                    of_source = h + pixels(line - 1, source, width, DIAGONAL, REVERSE, INDEX) * HIDDEN
                    of_source = tl.where(exists, of_source, h0) + k[None, :]
                    a = tl.load(of_source, mask=read & inside_k[None, :], other=0.0)
                    of_w = weight + (tap * HIDDEN + k)[:, None] * (4 * HIDDEN) + j
                    inside_w = inside_k[:, None] & (j < HIDDEN)
                    w_i = tl.load(of_w, mask=inside_w, other=0.0)
                    w_f = tl.load(of_w + HIDDEN, mask=inside_w, other=0.0)
                    w_g = tl.load(of_w + 2 * HIDDEN, mask=inside_w, other=0.0)
                    w_o = tl.load(of_w + 3 * HIDDEN, mask=inside_w, other=0.0)
                    if WIDEN:
                        a = a.to(tl.float32)
                        w_i = w_i.to(tl.float32)
                        w_f = w_f.to(tl.float32)
                        w_g = w_g.to(tl.float32)
                        w_o = w_o.to(tl.float32)
                    sum_i = tl.dot(a, w_i, sum_i, input_precision=PRECISION, out_dtype=SUM)
                    sum_f = tl.dot(a, w_f, sum_f, input_precision=PRECISION, out_dtype=SUM)
                    sum_g = tl.dot(a, w_g, sum_g, input_precision=PRECISION, out_dtype=SUM)
                    sum_o = tl.dot(a, w_o, sum_o, input_precision=PRECISION, out_dtype=SUM)
                inside = inside_s & (j < HIDDEN)
                channel = j.to(INDEX)
                sum_i += tl.load(of_x + channel * x_c, mask=inside, other=0.0).to(SUM)
                sum_f += tl.load(of_x + (channel + HIDDEN) * x_c, mask=inside, other=0.0).to(SUM)
                sum_g += tl.load(of_x + (channel + 2 * HIDDEN) * x_c, mask=inside, other=0.0).to(SUM)
                sum_o += tl.load(of_x + (channel + 3 * HIDDEN) * x_c, mask=inside, other=0.0).to(SUM)
                c_prev = tl.load(tl.where(has_before, c + before * HIDDEN, c0) + j, mask=inside, other=0.0)
                i, f, g, o, c_here, h_here = cell(sum_i, sum_f, sum_g, sum_o, c_prev)
                tl.store(c + here * HIDDEN + j, c_here, mask=inside)
                tl.store(h + here * HIDDEN + j, h_here.to(h.dtype.element_ty), mask=inside)
                if KEEP:
                    to = gates + here * (4 * HIDDEN) + j
                    tl.store(to, i, mask=inside)
                    tl.store(to + HIDDEN, f, mask=inside)
                    tl.store(to + 2 * HIDDEN, g, mask=inside)
                    tl.store(to + 3 * HIDDEN, o, mask=inside)
            slot += BLOCK_S
        tl.debug_barrier()  # h and c of this line are there before any thread reads them for the next one
        line += 1


@triton.jit
def backward_kernel(
    grad,
    gates,
    c,
    weight,
    c0,
    dgates,
    dc,
    height,
    width,
    grad_b,
    grad_c,
    grad_y,
    grad_x,
    HIDDEN: tl.constexpr,
    TAPS: tl.constexpr,
    REACH: tl.constexpr,
    DIAGONAL: tl.constexpr,
    REVERSE: tl.constexpr,
    INDEX: tl.constexpr,
    SUM: tl.constexpr,
    PRECISION: tl.constexpr,
    BLOCK_S: tl.constexpr,
    BLOCK_J: tl.constexpr,
    BLOCK_K: tl.constexpr,
):
    """grad [B, h, H, W], what forward kept, and weight [taps, 4h, h] -> dgates [B, H, W, 4h], the gradients of the
    pre-activations, and dc [B, H, W, h], that of the c which each pixel read."""
    depth: tl.constexpr = 4 * HIDDEN
    steps: tl.constexpr = (depth + BLOCK_K - 1) // BLOCK_K  # of one tap
    image = tl.program_id(0).to(INDEX)
    grad += image * grad_b
    c += image * height * width * HIDDEN
    dc += image * height * width * HIDDEN
    gates += image * height * width * depth
    dgates += image * height * width * depth
    lines = height + width - 1 if DIAGONAL else height
    line = lines - 1
    while line >= 0:
        last = end(line, height, width, DIAGONAL)
        slot = first(line, width, DIAGONAL)
        while slot < last:
            s = slot + tl.arange(0, BLOCK_S)
            inside_s = (s < last)[:, None]
            y, column = place(line, s, width, DIAGONAL, REVERSE)
            here = pixels(line, s, width, DIAGONAL, REVERSE, INDEX)
            before = pixels(line - 1, s, width, DIAGONAL, REVERSE, INDEX)
            after = pixels(line + 1, s, width, DIAGONAL, REVERSE, INDEX)
            has_before = filled(line - 1, s, height, width, DIAGONAL)[:, None]
            has_after = filled(line + 1, s, height, width, DIAGONAL)[:, None]
            of_grad = grad + (y.to(INDEX) * grad_y + column.to(INDEX) * grad_x)[:, None]
            for j0 in range(0, HIDDEN, BLOCK_J):
                j = (j0 + tl.arange(0, BLOCK_J))[None, :]
                dh = tl.zeros([BLOCK_S, BLOCK_J], dtype=SUM)
                for step in range(TAPS * steps):
                    tap = step // steps
                    k = step % steps * BLOCK_K + tl.arange(0, BLOCK_K)
                    reader = s + REACH - tap  # slot s is its tap
                    exists = filled(line + 1, reader, height, width, DIAGONAL)[:, None] & inside_s
                    of_reader = dgates + pixels(line + 1, reader, width, DIAGONAL, REVERSE, INDEX) * depth + k[None, :]
                    a = tl.load(of_reader, mask=exists & (k < depth)[None, :], other=0.0)
                    of_w = weight + (tap * depth + k)[:, None] * HIDDEN + j
                    w = tl.load(of_w, mask=(k < depth)[:, None] & (j < HIDDEN), other=0.0).to(SUM)
                    dh = tl.dot(a, w, dh, input_precision=PRECISION, out_dtype=SUM)
                inside = inside_s & (j < HIDDEN)
                dh += tl.load(of_grad + j.to(INDEX) * grad_c, mask=inside, other=0.0).to(SUM)
                dc_here = tl.load(dc + after * HIDDEN + j, mask=inside & has_after, other=0.0)
                c_here = tl.load(c + here * HIDDEN + j, mask=inside, other=0.0)
                c_prev = tl.load(tl.where(has_before, c + before * HIDDEN, c0) + j, mask=inside, other=0.0)
                of_gates = gates + here * depth + j
                i = tl.load(of_gates, mask=inside, other=0.0)
                f = tl.load(of_gates + HIDDEN, mask=inside, other=0.0)
                g = tl.load(of_gates + 2 * HIDDEN, mask=inside, other=0.0)
                o = tl.load(of_gates + 3 * HIDDEN, mask=inside, other=0.0)
                di, df, dg, do, dc_prev = cell_bwd(i, f, g, o, c_here, c_prev, dh, dc_here)
                tl.store(dc + here * HIDDEN + j, dc_prev, mask=inside)
                to = dgates + here * depth + j
                tl.store(to, di, mask=inside)
                tl.store(to + HIDDEN, df, mask=inside)
                tl.store(to + 2 * HIDDEN, dg, mask=inside)
                tl.store(to + 3 * HIDDEN, do, mask=inside)
            slot += BLOCK_S
        tl.debug_barrier()  # dgates and dc of this line are there before any thread reads them for the one before it
        line -= 1
