"""Operators that only move numbers: run on the numbers' places instead, whatever they do is then known."""

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils._pytree import tree_map

from genfast.compiler.cells import Ids
from genfast.compiler.elementwise import Algebra
from genfast.compiler.frontend import Tracer, Unsupported, handles

# Operands that say where to, not what; nothing computed may be among them.
SELECTORS = {"indices", "index", "mask"}


@handles(
    "clone", "contiguous", "cat", "stack", "constant_pad_nd", "pad", "index_select", "gather", "index", "roll", "flip",
    "repeat", "repeat_interleave", "slice_scatter", "select_scatter", "as_strided_scatter", "diagonal_scatter", "tril",
    "triu", "im2col", "unfold", "pixel_shuffle", "pixel_unshuffle", "channel_shuffle", "upsample_nearest1d",
    "upsample_nearest2d", "upsample_nearest3d", "_upsample_nearest_exact2d", "reflection_pad1d", "reflection_pad2d",
    "replication_pad1d", "replication_pad2d", "_unsafe_view", "reshape", "view_copy", "_reshape_alias", "expand_copy",
    "take", "index_put", "masked_select", "lift_fresh_copy", "lift_fresh", "narrow_copy", "permute_copy", "rot90",
    "native_channel_shuffle", "block_diag", "unsafe_split", "unsafe_chunk", "split_copy", "slice_copy", "select_copy",
    "_unsafe_index", "concat", "hstack", "vstack", "fill", "zero", "index_fill", "index_copy", "copysign_never",
)  # fmt: skip
def _move(tracer: Tracer, func: Any, args: list[Any], kwargs: dict[str, Any], outs: list[Tensor]) -> list[Ids]:
    return moved(tracer, func, args, kwargs)


def moved(tracer: Tracer, func: Any, args: list[Any], kwargs: dict[str, Any]) -> list[Ids]:
    """Runs the operator on numbers that count the operands' elements (exact in float64), 0 for what it makes up."""
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
    operands = {}
    for name, value in given.items():
        if name in SELECTORS:
            if any(tracer.tracked(t) for t in (value if isinstance(value, list | tuple) else [value])):
                raise Unsupported("it moves numbers to or from places that are computed from the image")
            operands[name] = value
        elif name == "value" and not isinstance(value, Tensor):
            operands[name] = 0 if value is not None else None
        elif name not in ("dtype", "memory_format", "device", "layout", "pin_memory"):
            operands[name] = tree_map(places, value)
    base = func._schema.name.split("::")[-1]
    function = functional(func) if base.endswith("_") else func
    result = function(**operands)
    table = np.concatenate(pool)
    results = result if isinstance(result, list | tuple) else [result]
    return [table[r.numpy().astype(np.int64)] for r in results]


def functional(func: Any) -> Any:
    """The out-of-place twin of an in-place operator."""
    namespace, name = func._schema.name.split("::")
    packet = getattr(getattr(torch.ops, namespace), name[:-1])
    return getattr(packet, func._overloadname)


@handles("copy", "copy_")
def _copy(tracer: Tracer, func: Any, args: list[Any], kwargs: dict[str, Any], outs: list[Tensor]) -> Ids | None:
    """self takes the numbers of another tensor, and keeps its own dtype."""
    target, source = args[0], args[1]
    if not tracer.tracked(source):
        return None
    x = tracer.cells(source)
    if source.dtype.is_floating_point and not target.dtype.is_floating_point:
        e = Algebra(tracer)
        x = e.ne(x, 0.0) if target.dtype == torch.bool else e.trunc(x)
    return np.broadcast_to(x.ids, tuple(target.shape))


@handles("embedding")
def _embedding(tracer: Tracer, func: Any, args: list[Any], kwargs: dict[str, Any], outs: list[Tensor]) -> Ids:
    """Rows of a table at computed indices."""
    from genfast.compiler.builder import one_image

    table, index = args[0], args[1]
    if tracer.tracked(table):
        raise Unsupported("an embedding whose table is computed from the image is not taken")
    first, join = one_image([tracer.cells(index)])
    ids = tracer.builder.lookup(first[0].ids.reshape(-1), table.detach().double().numpy())  # [D, Q]
    fixed = first[0].ids.reshape(-1) < 0
    ids[:, fixed] = -1
    return join(ids.T.reshape(*first[0].ids.shape, table.shape[1]))


@handles("scatter")
def _scatter(tracer: Tracer, func: Any, args: list[Any], kwargs: dict[str, Any], outs: list[Tensor]) -> Ids:
    """One-hot: one number written at a computed place along an axis of length n, as n comparisons."""
    target, dim, index, value = args[0], args[1], args[2], args[3]
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
