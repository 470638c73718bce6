"""Operators that only move numbers: run on the numbers' places instead, whatever they do is then known."""

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map

from genfast.compiler.cells import Cells, Ids
from genfast.compiler.elementwise import Algebra, converted
from genfast.compiler.frontend import Tracer, handles
from genfast.compiler.tables import Unsupported, one_image

# Operands that hold what is moved. Others say where to: nothing computed may be among them.
CONTENTS = {"self", "input", "tensors", "src", "source", "values", "value"}


@handles(
    "clone", "contiguous", "cat", "stack", "constant_pad_nd", "pad", "gather", "roll", "flip",
    "repeat", "repeat_interleave", "slice_scatter", "select_scatter", "as_strided_scatter", "diagonal_scatter", "tril",
    "triu", "im2col", "unfold", "pixel_shuffle", "pixel_unshuffle", "channel_shuffle", "upsample_nearest1d",
    "upsample_nearest2d", "upsample_nearest3d", "_upsample_nearest_exact2d", "reflection_pad1d", "reflection_pad2d",
    "replication_pad1d", "replication_pad2d", "_unsafe_view", "reshape", "view_copy", "_reshape_alias", "expand_copy",
    "take", "index_put", "masked_select", "lift_fresh_copy", "lift_fresh", "narrow_copy", "permute_copy", "rot90",
    "native_channel_shuffle", "block_diag", "unsafe_split", "unsafe_chunk", "split_copy", "slice_copy", "select_copy",
    "concat", "hstack", "vstack", "fill", "zero", "index_fill", "index_copy",
)  # fmt: skip
def _move(tracer: Tracer, func: Any, args: list[Any], kwargs: dict[str, Any], outs: list[Tensor]) -> list[Ids]:
    return moved(tracer, func, args, kwargs)


def moved(tracer: Tracer, func: Any, args: list[Any], kwargs: dict[str, Any]) -> list[Ids]:
    """Runs the operator, on the CPU, on numbers that count the operands' elements (exact in float64), 0 for what it
    makes up."""
    pool: list[np.ndarray] = [np.full(1, -1, np.int64)]
    size = 1

    def places(value: Any) -> Any:
        nonlocal size
        if not isinstance(value, Tensor):
            return value
        ids = tracer.shadow.read(value)
        count = value.numel()
        where = torch.arange(size, size + count, dtype=torch.float64).reshape(value.shape)
        pool.append(np.full(count, -1, np.int64) if ids is None else ids.reshape(-1))
        size += count
        return where

    names = [a.name for a in func._schema.arguments]
    given = dict(zip(names, args, strict=False)) | kwargs
    if given.get("accumulate") or given.get("reduce") is not None:
        raise Unsupported("it adds up what it moves to one place")
    operands = {}
    for name, value in given.items():
        tensors = [t for t in tree_leaves(value) if isinstance(t, Tensor)]
        if tensors and name in CONTENTS:
            operands[name] = tree_map(places, value)
        elif any(tracer.tracked(t) for t in tensors):
            raise Unsupported("it moves numbers to or from places that are computed from the image")
        elif name == "value" and value is not None:
            operands[name] = 0
        elif name not in ("dtype", "memory_format", "device", "layout", "pin_memory"):
            operands[name] = tree_map(lambda v: v.cpu() if isinstance(v, Tensor) else v, value)
    result = func(**operands)
    table = np.concatenate(pool)
    results = result if isinstance(result, list | tuple) else [result]
    return [table[r.numpy().astype(np.int64)] for r in results]


@handles("copy")
def _copy(tracer: Tracer, func: Any, args: list[Any], kwargs: dict[str, Any], outs: list[Tensor]) -> Ids | None:
    """self takes the numbers of another tensor, and keeps its own dtype."""
    if not tracer.tracked(args[1]):
        return None
    ids = converted(Algebra(tracer), tracer.cells(args[1]), args[1].dtype, outs[0].dtype).ids
    return np.broadcast_to(ids, tuple(outs[0].shape))


@handles("embedding")
def _embedding(tracer: Tracer, func: Any, args: list[Any], kwargs: dict[str, Any], outs: list[Tensor]) -> Ids:
    """Rows of a table at computed indices."""
    table, index = args[0], args[1]
    if tracer.tracked(table):
        raise Unsupported("an embedding whose table is computed from the image is not taken")
    return looked_up(tracer, tracer.cells(index), table)


def looked_up(tracer: Tracer, index: Cells, table: Tensor) -> Ids:
    """Rows of a constant table [E, D] at computed places.  # [..., D]"""
    (first,), join = one_image([index])
    ids = tracer.builder.lookup(first.ids.reshape(-1), table.detach().double().cpu().numpy())  # [D, Q]
    fixed = first.ids.reshape(-1) < 0
    ids[:, fixed] = -1
    return join(ids.T.reshape(*first.ids.shape, table.shape[1]))


@handles("index", "_unsafe_index", "index_select")
def _index(tracer: Tracer, func: Any, args: list[Any], kwargs: dict[str, Any], outs: list[Tensor]) -> Ids:
    """Moves; or what a constant holds at computed places along one axis, as in ``torch.eye(levels)[x]``."""
    table, indices = args[0], args[1]
    if func._schema.name.endswith("index_select"):
        indices = [None] * (args[1] % table.dim()) + [args[2]]
    given = [axis for axis, index in enumerate(indices) if index is not None]
    if tracer.tracked(table) or not any(tracer.tracked(indices[axis]) for axis in given):
        return moved(tracer, func, args, kwargs)[0]
    axis = given[0]
    index, size = indices[axis], table.shape[axis]
    if len(given) > 1 or index.dtype not in (torch.int64, torch.int32):
        raise Unsupported("it reads a constant at computed places of several axes, or where a computed mask is true")
    e, place = Algebra(tracer), tracer.cells(index)
    place = e.where(e.lt(place, 0.0), e.add(place, float(size)), place)  # -1 is the last
    ids = looked_up(tracer, place, table.movedim(axis, 0).reshape(size, -1))
    before, after = table.shape[:axis], table.shape[axis + 1 :]
    apart = ids.reshape(*index.shape, *before, *after)
    return np.moveaxis(apart, range(index.dim(), index.dim() + axis), range(axis))


@handles("scatter")
def _scatter(tracer: Tracer, func: Any, args: list[Any], kwargs: dict[str, Any], outs: list[Tensor]) -> Ids:
    """One-hot: one number written at a computed place along an axis of length n, as n comparisons."""
    target, dim, index, value = args[0], args[1], args[2], args[3]
    if kwargs.get("reduce") is not None:
        raise Unsupported("it adds up what it moves to one place")
    dim %= target.dim()
    if not tracer.tracked(index):
        return moved(tracer, func, args, kwargs)[0]
    if (
        index.shape[dim] != 1
        or isinstance(value, Tensor)
        or list(index.shape) != [1 if a == dim else n for a, n in enumerate(target.shape)]
    ):
        raise Unsupported("it scatters to computed places, other than one-hot codes")
    e = Algebra(tracer)
    shape = [-1 if a == dim else 1 for a in range(target.dim())]
    levels = tracer.cells(torch.arange(target.shape[dim], dtype=torch.float64).reshape(shape))
    hit = e.eq(tracer.cells(index), levels)
    if value == 1 and not tracer.tracked(target) and not bool(target.any()):
        return hit.ids
    return e.where(hit, float(value), tracer.cells(target)).ids
