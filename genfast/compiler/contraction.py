"""Sums of products with constants: convolutions of all kinds, matrix products."""

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from genfast.compiler import attention
from genfast.compiler.builder import Tap
from genfast.compiler.cells import Cells, Ids, find_images
from genfast.compiler.frontend import Tracer, handles
from genfast.compiler.tables import ImagesMixed, Unsupported, as_cells, one_image
from genfast.kernels.masked_conv2d.mask import MASK_TYPES, causal_mask


def numbers(tensor: Tensor) -> np.ndarray:
    return np.asarray(tensor.detach().double().cpu().numpy())


def sources(
    size: Sequence[int], out: Sequence[int], tap: Sequence[int], stride: Sequence[int], padding: Sequence[int],
    dilation: Sequence[int], transposed: bool,
) -> np.ndarray:  # fmt: skip
    """For every output place, the input place that a tap of the filter reads, -1 outside.  # int64 [Q]"""
    axes, inside = [], []
    for n, m, t, s, p, d in zip(size, out, tap, stride, padding, dilation, strict=True):
        y = np.arange(m)
        if transposed:
            at, fits = (y + p - t * d) // s, (y + p - t * d) % s == 0
        else:
            at, fits = y * s - p + t * d, np.ones(m, bool)
        axes.append(np.clip(at, 0, n - 1))
        inside.append(fits & (at >= 0) & (at < n))
    place = np.ravel_multi_index(np.meshgrid(*axes, indexing="ij"), tuple(size))
    valid = np.logical_and.reduce(np.meshgrid(*inside, indexing="ij"))
    return np.where(valid, place, -1).reshape(-1)


def convolve(
    tracer: Tracer, x: Tensor, weight: np.ndarray, bias: np.ndarray | None, out: Tensor, stride: Sequence[int],
    padding: Sequence[int], dilation: Sequence[int], transposed: bool, groups: int,
) -> Ids:  # fmt: skip
    """weight: [O, I / groups, *kernel], or [I, O / groups, *kernel] if transposed."""
    (image,), join = one_image([tracer.cells(x)])
    if image.ids.shape[0] == x.shape[0]:
        raise ImagesMixed
    size, result = x.shape[2:], out.shape[2:]
    inputs, outputs, positions = x.shape[1], out.shape[1], int(np.prod(result))
    kernel = weight.shape[2:]
    taps = []
    for tap in itertools.product(*(range(k) for k in kernel)):
        dense = np.zeros((inputs, outputs))
        part = weight.reshape(*weight.shape[:2], -1)[:, :, np.ravel_multi_index(tap, kernel)]
        i, o = inputs // groups, outputs // groups
        for g in range(groups):
            block = part[g * i : (g + 1) * i] if transposed else part[g * o : (g + 1) * o].T
            dense[g * i : (g + 1) * i, g * o : (g + 1) * o] = block
        if dense.any():
            taps.append(Tap(sources(size, result, tap, stride, padding, dilation, transposed), dense))
    base = np.zeros(outputs) if bias is None else bias
    maps = []  # usually one; several if the batch holds images and, say, their colours
    for m in range(len(image.ids)):
        table = Cells(image.ids[m].reshape(inputs, -1), image.values[m].reshape(inputs, -1))
        maps.append(tracer.builder.linear(table, taps, base, positions).reshape(outputs, *result))
    return join(np.stack(maps))


@handles("convolution", "_convolution", "mkldnn_convolution", "cudnn_convolution")
def _convolution(tracer: Tracer, func: Any, args: list[Any], kwargs: dict[str, Any], outs: list[Tensor]) -> Ids:
    x, weight, bias, stride, padding, dilation, transposed, _, groups = args[:9]
    if tracer.tracked(weight) or tracer.tracked(bias):
        raise Unsupported("a convolution whose weights are computed from the image is not taken")
    n = x.dim() - 2
    stride, padding, dilation = (list(v) * n if len(v) == 1 else list(v) for v in (stride, padding, dilation))
    b = None if bias is None else numbers(bias)
    return convolve(tracer, x, numbers(weight), b, outs[0], stride, padding, dilation, transposed, groups)


@handles("genfast::masked_conv2d")
def _masked_conv2d(tracer: Tracer, func: Any, args: list[Any], kwargs: dict[str, Any], outs: list[Tensor]) -> Ids:
    x, weight, bias, mask, color_groups = args[:5]
    outputs, inputs, kh, kw = weight.shape
    kept = numbers(causal_mask(outputs, inputs, (kh, kw), MASK_TYPES[mask], color_groups))
    b = None if bias is None else numbers(bias)
    padding = [kh // 2, kw // 2]
    return convolve(tracer, x, numbers(weight) * kept, b, outs[0], [1, 1], padding, [1, 1], False, 1)


def matrix_product(tracer: Tracer, x: Cells, weight: np.ndarray, bias: np.ndarray | None) -> Ids:
    """x [..., M, K] times a constant [K, N]; everything before K is batch and positions."""
    (image,), join = one_image([x])
    shape = image.ids.shape
    if shape[-1] != x.ids.shape[-1]:
        raise ImagesMixed
    table = Cells(image.ids.reshape(-1, shape[-1]).T, image.values.reshape(-1, shape[-1]).T)
    positions = table.ids.shape[1]
    base = np.zeros(weight.shape[1]) if bias is None else bias
    ids = tracer.builder.linear(table, [Tap(np.arange(positions), weight)], base, positions)
    return join(ids.T.reshape(*shape[:-1], weight.shape[1]))


def swap(cells: Cells) -> Cells:
    return Cells(cells.ids.swapaxes(-1, -2), cells.values.swapaxes(-1, -2))


def products(tracer: Tracer, x: Cells, weight: np.ndarray) -> Ids:
    """A batch of products x [N, M, K] @ weight [N, K, O] whose weights are not the same for all n."""
    (image,), join = one_image([x])
    images = find_images(x.ids)
    if images is None or images.axis == 2:
        raise ImagesMixed
    if images.axis == 0:
        if not np.array_equal(images.take(weight, 0), images.take(weight, 1)):
            raise Unsupported("its weights differ from image to image")
        weight = images.take(weight, 0)
    ids = []
    for table, values, part in zip(image.ids, image.values, weight, strict=True):
        positions = len(table)
        taps = [Tap(np.arange(positions), part)]
        ids.append(tracer.builder.linear(Cells(table.T, values.T), taps, np.zeros(part.shape[1]), positions).T)
    return join(np.stack(ids))


@handles("avg_pool1d", "avg_pool2d", "avg_pool3d")
def _average(tracer: Tracer, func: Any, args: list[Any], kwargs: dict[str, Any], outs: list[Tensor]) -> Ids:
    """A convolution with ones, divided by what PyTorch divides by (which differs at the edges)."""
    x, n = args[0], int(func._schema.name[-2])
    if x.dim() != n + 2:
        raise Unsupported("a pool without a batch is not taken")
    kernel = list(args[1]) * n if len(args[1]) == 1 else list(args[1])
    stride = kernel if len(args) < 3 or not args[2] else list(args[2]) * n if len(args[2]) == 1 else list(args[2])
    padding = [0] * n if len(args) < 4 else list(args[3]) * n if len(args[3]) == 1 else list(args[3])
    size, result = x.shape[2:], outs[0].shape[2:]
    counts = np.zeros(int(np.prod(result)))
    for tap in itertools.product(*(range(k) for k in kernel)):
        counts += sources(size, result, tap, stride, padding, [1] * n, False) >= 0
    ones = np.ones((x.shape[1], 1, *kernel))
    total = convolve(tracer, x, ones, None, outs[0], stride, padding, [1] * n, False, x.shape[1])
    share = numbers(func(torch.ones(1, 1, *size, dtype=torch.float64), *args[1:], **kwargs))
    factor = as_cells(share / np.maximum(counts, 1).reshape(share.shape))
    return tracer.builder.pointwise("mul", Cells(total, np.broadcast_to(np.zeros(()), total.shape)), factor).ids


@handles("mm", "bmm", "addmm", "baddbmm")
def _product(tracer: Tracer, func: Any, args: list[Any], kwargs: dict[str, Any], outs: list[Tensor]) -> Ids:
    """Matrix products in which one factor is constant; those of attention, in which none is."""
    name = func._schema.name.split("::")[-1]
    added, (a, b) = (args[0], args[1:3]) if name in ("addmm", "baddbmm") else (None, args[:2])
    builder, x, y = tracer.builder, tracer.cells(a), tracer.cells(b)
    pairs = (tracer.tracked(a) and tracer.tracked(b)) or any(attention.is_pair(builder, t.ids) for t in (x, y))
    ids = attention.product(builder, x, y) if pairs else product_with_constant(tracer, a, b)
    if added is None:
        return ids
    from genfast.compiler.elementwise import Algebra

    e, beta, alpha = Algebra(tracer), kwargs.get("beta", 1), kwargs.get("alpha", 1)
    product = Cells(ids, np.broadcast_to(np.zeros(()), ids.shape))
    product = product if alpha == 1 else e.mul(product, alpha)
    return product.ids if beta == 0 else e.plus(product, tracer.cells(added), beta).ids


def product_with_constant(tracer: Tracer, a: Tensor, b: Tensor) -> Ids:
    """One factor is computed: a, or b."""
    x, weight, flip = (a, numbers(b), False) if tracer.tracked(a) else (b, numbers(a), True)
    cells = tracer.cells(x)
    if flip:  # (a b)^T = b^T a^T
        cells, weight = swap(cells), weight.swapaxes(-1, -2)
    if weight.ndim == 2:
        ids = matrix_product(tracer, cells, weight, None)
    elif (weight == weight[:1]).all():
        ids = matrix_product(tracer, cells, weight[0], None)
    else:
        ids = products(tracer, cells, weight)
    return ids.swapaxes(-1, -2) if flip else ids
