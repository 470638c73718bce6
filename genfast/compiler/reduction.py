"""Sums, extremes and norms over the numbers of a position (or over positions, where causality allows it)."""

import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from torch import Tensor

from genfast.compiler import attention
from genfast.compiler.cells import Cells, Ids
from genfast.compiler.contraction import matrix_product
from genfast.compiler.elementwise import Algebra
from genfast.compiler.frontend import Tracer, handles
from genfast.compiler.tables import ImagesMixed, Unsupported, one_image


def reduce(tracer: Tracer, kind: str, x: Cells, axes: Sequence[int], keepdim: bool, eps: float = 0.0) -> Cells:
    """Over some axes of the whole batch's cells. softmax and its like keep the shape."""
    (image,), join = one_image([x])
    if attention.is_pair(tracer.builder, image.ids):
        raise Unsupported(attention.NO_ATTENTION)
    axes = [a % x.ids.ndim for a in axes]
    batch = next(a for a in range(x.ids.ndim) if image.ids.shape[a] != x.ids.shape[a])
    if batch in axes:
        raise ImagesMixed
    rest = [a for a in range(x.ids.ndim) if a not in axes]
    order = list(axes) + rest
    rows = int(np.prod([image.ids.shape[a] for a in axes], initial=1))
    table = Cells(*(array.transpose(order).reshape(rows, -1) for array in (image.ids, image.values)))
    ids = tracer.builder.reduce(kind, table, eps)
    if kind in ("sum", "max", "min"):
        shape = [1 if a in axes else n for a, n in enumerate(image.ids.shape)]
        out = join(ids.reshape([shape[a] for a in rest]).reshape(shape))
        out = out if keepdim else out.squeeze(tuple(axes))
    else:
        out = join(ids.reshape([image.ids.shape[a] for a in order]).transpose(np.argsort(order)))
    return Cells(out, np.broadcast_to(np.zeros(()), out.shape))


def axes_of(args: list[Any], kwargs: dict[str, Any], ndim: int, place: int = 1) -> tuple[list[int], bool]:
    """(axes, keepdim) as ATen's reductions give them: none means all."""
    dim = kwargs.get("dim", args[place] if len(args) > place else None)
    keep = kwargs.get("keepdim", args[place + 1] if len(args) > place + 1 else False)
    if dim is None or (isinstance(dim, list | tuple) and not dim):
        dim = list(range(ndim))
    return [d % ndim for d in ([dim] if isinstance(dim, int) else dim)], bool(keep)


@handles("all", "any")
def _truths(tracer: Tracer, func: Any, args: list[Any], kwargs: dict[str, Any], outs: list[Tensor]) -> Ids:
    e = Algebra(tracer)
    axes, keep = axes_of(args, kwargs, args[0].dim())
    kind = "min" if func._schema.name.endswith("all") else "max"
    return reduce(tracer, kind, e.ne(tracer.cells(args[0]), 0.0), axes, keep).ids


@handles("sum", "mean", "amax", "amin")
def _reduction(tracer: Tracer, func: Any, args: list[Any], kwargs: dict[str, Any], outs: list[Tensor]) -> Ids:
    name = func._schema.name.split("::")[-1]
    overload = func._overloadname
    axes, keep = axes_of(args, kwargs, args[0].dim()) if overload != "default" or name in ("amax", "amin") else (
        list(range(args[0].dim())), False)  # fmt: skip
    kind = {"sum": "sum", "mean": "sum", "amax": "max", "amin": "min"}[name]
    out = reduce(tracer, kind, tracer.cells(args[0]), axes, keep)
    if name == "mean":
        out = Algebra(tracer).mul(out, 1 / int(np.prod([args[0].shape[a] for a in axes])))
    return out.ids


@handles("var", "std", "var_mean", "std_mean")
def _variance(tracer: Tracer, func: Any, args: list[Any], kwargs: dict[str, Any], outs: list[Tensor]) -> list[Ids]:
    name, x, e = func._schema.name.split("::")[-1], tracer.cells(args[0]), Algebra(tracer)
    if func._overloadname != "correction":
        raise Unsupported("this form of it is not taken")
    axes, keep = axes_of(args, kwargs, args[0].dim())
    keep = bool(kwargs.get("keepdim", False))
    correction = kwargs.get("correction", 1)
    n = int(np.prod([args[0].shape[a] for a in axes]))
    mean = e.mul(reduce(tracer, "sum", x, axes, True), 1 / n)
    off = e.sub(x, mean)
    squares = reduce(tracer, "sum", e.mul(off, off), axes, True)
    freedom = n - (1 if correction is None else correction)
    spread = e.mul(squares, 1 / freedom if freedom > 0 else math.inf)  # 0 * inf is NaN, as in torch
    if name.startswith("std"):
        spread = e.sqrt(spread)
    results = [spread.ids, mean.ids] if name.endswith("mean") else [spread.ids]
    return results if keep else [r.squeeze(tuple(axes)) for r in results]


@handles("_softmax", "_log_softmax", "_safe_softmax", "softmax", "log_softmax")
def _softmax(tracer: Tracer, func: Any, args: list[Any], kwargs: dict[str, Any], outs: list[Tensor]) -> Ids:
    kind = "log_softmax" if "log" in func._schema.name else "softmax"
    if kind == "softmax" and tracer.builder.pairs:
        ids = attention.softmax(tracer.builder, tracer.cells(args[0]), args[1] % max(args[0].dim(), 1))
        if ids is not None:
            return ids
    return reduce(tracer, kind, tracer.cells(args[0]), [args[1]], True).ids


@handles("logsumexp")
def _logsumexp(tracer: Tracer, func: Any, args: list[Any], kwargs: dict[str, Any], outs: list[Tensor]) -> Ids:
    axes, keep = axes_of(args, kwargs, args[0].dim())
    e, x = Algebra(tracer), tracer.cells(args[0])
    top = reduce(tracer, "max", x, axes, True)
    total = reduce(tracer, "sum", e.exp(e.sub(x, top)), axes, True)
    ids = e.add(e.log(total), top).ids
    return ids if keep else ids.squeeze(tuple(axes))


@handles("native_layer_norm")
def _layer_norm(tracer: Tracer, func: Any, args: list[Any], kwargs: dict[str, Any], outs: list[Tensor]) -> list:
    x, shape, weight, bias, eps = args[:5]
    e = Algebra(tracer)
    axes = list(range(x.dim() - len(shape), x.dim()))
    out = reduce(tracer, "standardize", tracer.cells(x), axes, True, eps)
    if weight is not None:
        out = e.mul(out, tracer.cells(weight))
    if bias is not None:
        out = e.add(out, tracer.cells(bias))
    return [out.ids, *(tracer.unknown("the statistics of a norm are not followed", args[:1], o) for o in outs[1:])]


@handles("native_group_norm")
def _group_norm(tracer: Tracer, func: Any, args: list[Any], kwargs: dict[str, Any], outs: list[Tensor]) -> list:
    """Over the channels of a group and over all positions: causal only where there is one position."""
    x, weight, bias, n, channels, area, groups, eps = args[:8]
    e = Algebra(tracer)
    cells = tracer.cells(x)
    grouped = Cells(*(a.reshape(n, groups, -1) for a in (cells.ids, np.broadcast_to(cells.values, cells.ids.shape))))
    out = reduce(tracer, "standardize", grouped, [2], True, eps)
    out = Cells(out.ids.reshape(x.shape), np.broadcast_to(np.zeros(()), tuple(x.shape)))
    per_channel = [1, channels] + [1] * (x.dim() - 2)
    if weight is not None:
        out = e.mul(out, tracer.cells(weight.view(per_channel)))
    if bias is not None:
        out = e.add(out, tracer.cells(bias.view(per_channel)))
    return [out.ids, *(tracer.unknown("the statistics of a norm are not followed", args[:1], o) for o in outs[1:])]


@handles("max", "min")
def _extreme(tracer: Tracer, func: Any, args: list[Any], kwargs: dict[str, Any], outs: list[Tensor]) -> list:
    """Of two tensors, of all numbers, or along an axis (the places of the extremes are not followed)."""
    name = func._schema.name.split("::")[-1]
    if func._overloadname == "other":
        e = Algebra(tracer)
        return [e.pointwise(f"{name}imum", tracer.cells(args[0]), tracer.cells(args[1])).ids]
    axes, keep = axes_of(args, kwargs, args[0].dim())
    values = reduce(tracer, name, tracer.cells(args[0]), axes, keep).ids
    if func._overloadname == "default":
        return [values]
    places = tracer.builder.opaque(f"the places that {name} finds are not followed", [values], tuple(outs[1].shape))
    return [values, places]


@handles("cumsum")
def _running_sum(tracer: Tracer, func: Any, args: list[Any], kwargs: dict[str, Any], outs: list[Tensor]) -> Ids:
    """A product with a triangle of ones."""
    x, axis = tracer.cells(args[0]), args[1] % max(args[0].dim(), 1)
    last = Cells(*(np.moveaxis(a, axis, -1) for a in (x.ids, np.broadcast_to(x.values, x.ids.shape))))
    n = last.ids.shape[-1]
    return np.moveaxis(matrix_product(tracer, last, np.triu(np.ones((n, n))), None), -1, axis)


@handles("prod", "cumprod")
def _products(tracer: Tracer, func: Any, args: list[Any], kwargs: dict[str, Any], outs: list[Tensor]) -> Ids:
    """Factor by factor along an axis."""
    name = func._schema.name.split("::")[-1]
    if name == "prod" and func._overloadname == "default":
        raise Unsupported("a product over all numbers is not taken")
    e, x, axis = Algebra(tracer), tracer.cells(args[0]), args[1] % args[0].dim()
    factors = [x[(slice(None),) * axis + (slice(i, i + 1),)] for i in range(args[0].shape[axis])]
    running = list(itertools.accumulate(factors, e.mul))
    if name == "cumprod":
        return np.concatenate([r.ids for r in running], axis)
    keep = bool(kwargs.get("keepdim", args[2] if len(args) > 2 else False))
    return running[-1].ids if keep else running[-1].ids.squeeze(axis)


@handles("argmax", "argmin", "sort", "topk")
def _refuse(tracer: Tracer, func: Any, args: list[Any], kwargs: dict[str, Any], outs: list[Tensor]) -> Ids:
    raise Unsupported("it is not taken yet")
