"""Attention: products of two computed matrices, from the scores of queries and keys to the sum of values.

However it is written (matmul, einsum, scaled_dot_product_attention, nn.MultiheadAttention; masks filled in, added,
multiplied, or multiplied again after the softmax), PyTorch takes it apart into batched products, elementwise operations
with constant masks, and a softmax. Which keys a query sees is read off the numbers of the masks.
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from genfast.compiler.builder import Builder
from genfast.compiler.cells import Cells, Ids, make_ids, split
from genfast.compiler.program import Attend, Constant, Pointwise, Read
from genfast.compiler.scores import Known, Refused, Scores, Weights, cells_of, known, normalised
from genfast.compiler.tables import ImagesMixed, Unsupported, one_image

NO_ATTENTION = "a product of two computed matrices is taken in attention only, whose scores go through a softmax"


def product(builder: Builder, a: Cells, b: Cells) -> Ids:
    """A batch of products a [N, M, K] @ b [N, K, O]: cells of scores, or of what attention gives if one is weights."""
    if a.ids.ndim == 2:
        raise Unsupported(NO_ATTENTION)
    (x, y), join = one_image([a, b])
    if len(x.ids) == len(a.ids) or len(y.ids) == len(b.ids):
        raise ImagesMixed
    for weights, values, turn in ((x, y, False), (swap(y), swap(x), True)):
        found = None if weights.constant else known(builder.pairs, weights.ids)
        if found is not None and isinstance(found.facts, Weights):
            out = sum_of_values(builder, found, weights, values)
            return join(out.swapaxes(1, 2) if turn else out)
        if found is not None:
            raise Unsupported(NO_ATTENTION)
    facts = Scores(x, swap(y), np.ones(()), np.zeros(()))
    tables = [t.ids.swapaxes(1, 2).reshape(-1, t.ids.shape[1]) for t in (facts.left, facts.right)]
    value = builder.pair(facts, NO_ATTENTION, tuple(block.read() for table in tables for block in split(table)))
    n, m, o = np.ix_(*map(np.arange, facts.shape))
    return join(cells_of(value, facts.shape, n, m, o))


def swap(cells: Cells) -> Cells:
    return Cells(cells.ids.swapaxes(1, 2), cells.values.swapaxes(1, 2))


def softmax(builder: Builder, x: Cells, axis: int) -> Ids | None:
    """The softmax of scores over an axis of the whole batch's cells; None if these are no scores."""
    (image,), join = one_image([x])
    found = known(builder.pairs, image.ids)
    if found is None:
        return None
    if image.ids.shape[axis] != x.ids.shape[axis]:
        raise ImagesMixed
    ids, values = np.moveaxis(image.ids, axis, -1), np.moveaxis(image.values, axis, -1)
    table = Cells(ids.reshape(-1, ids.shape[-1]), values.reshape(-1, ids.shape[-1]))
    there = known(builder.pairs, table.ids)
    assert there is not None
    try:
        weights, live, n, m, o = normalised(there, table)
    except Refused as refusal:
        raise Unsupported(str(refusal)) from None
    value = builder.pair_from(weights, found.value)
    out = np.full(table.ids.shape, -1, np.int64)
    out[live] = cells_of(value, weights.shape, n, m, o)
    return join(np.moveaxis(out.reshape(ids.shape), -1, axis))


@dataclass(frozen=True, eq=False)
class Head:
    """What the queries of one head see.

    n: which product its scores are of. m: int [Q], which of the product's queries each is, -1 for a constant row.
    seen: bool [Q, O]. source: int [Q, O], which of the values goes with a key, -1 for none. bias: float64 [Q, O]
    """

    n: int
    m: np.ndarray
    seen: np.ndarray
    source: np.ndarray
    bias: np.ndarray
    scale: float

    def alike(self) -> bytes:
        """Equal for heads that can be one step."""
        return repr(self.scale).encode() + self.seen.tobytes() + self.source.tobytes() + (self.m < 0).tobytes()


def sum_of_values(builder: Builder, x: Known, weights: Cells, values: Cells) -> Ids:
    """Weights [N, Q, J] times values [N, J, D], of one image: one step for all heads that see the same."""
    heads = [read_head(builder, weights[n], x) for n in range(len(weights.ids))]
    groups: dict[bytes, list[int]] = {}
    for i, head in enumerate(heads):
        groups.setdefault(head.alike(), []).append(i)
    out = np.full((len(heads), weights.ids.shape[1], values.ids.shape[2]), -1, np.int64)
    for group in groups.values():
        members = [heads[i] for i in group]
        value, rows = attend(builder, x.facts, members, values[group])  # type: ignore[arg-type]
        channels = np.arange(len(group) * out.shape[2]).reshape(len(group), 1, -1)
        out[np.ix_(np.array(group), rows)] = make_ids(value, channels, rows[None, :, None])
    return out


def read_head(builder: Builder, weights: Cells, x: Known) -> Head:
    """One head's weights [Q, J], row by row: of a query, or constant."""
    facts = x.facts
    assert isinstance(facts, Weights)
    ids, (queries, count) = weights.ids, weights.ids.shape
    keys = facts.shape[2]
    here = known(builder.pairs, ids) if (ids >= 0).any() else None
    m = np.full(queries, -1)
    seen = np.zeros((queries, keys), bool)
    source = np.full((queries, keys), -1)
    bias = np.zeros((queries, keys))
    scale, n = 1.0, 0
    live = ids >= 0
    if here is not None:
        row, column = np.nonzero(live)
        first = np.searchsorted(row, row)  # the first entry of each entry's row
        n = int(here.n[0])
        if not bool(((here.n == n) & (here.m == here.m[first])).all()) or not here.once():
            raise Unsupported("attention weights are summed over several queries")
        m[row] = here.m
        query = m >= 0
        seen[query] = facts.allowed[n, m[query]]
        source[row, here.o] = column
        numbers = facts.scores.addend, facts.scores.factor
        addend, factor = (np.broadcast_to(t, facts.shape)[n, m[query]] for t in numbers)
        scale, addend = scale_of(factor[seen[query]]), np.where(seen[query], addend, -np.inf)
        bias[query] = np.where(seen[query], addend - addend.max(1, keepdims=True), 0)
    fixed = ~live & (weights.values != 0)
    if fixed[m >= 0].any():
        raise Unsupported("attention weights are partly constants")
    rows = np.flatnonzero(fixed.any(1))
    if len(rows):  # weights that depend on nothing: those of a query of which all scores are equal
        constant = weights.values[rows].astype(np.float64)
        if count != keys or not np.allclose(constant.sum(1), 1, atol=1e-3) or not (constant >= 0).all():
            raise Unsupported("attention weights are constants that do not sum to 1")
        seen[rows] = fixed[rows]
        source[rows] = np.where(fixed[rows], np.arange(count), -1)
        even = (constant == constant.max(1, keepdims=True)) | ~fixed[rows]
        with np.errstate(divide="ignore"):
            log = np.where(fixed[rows], np.log(constant), 0)
        bias[rows] = np.where(even.all(1, keepdims=True), 0, log)
    return Head(n, m, seen, np.where(seen, source, -1), bias, scale)


def scale_of(factors: np.ndarray) -> float:
    scale = float(factors.flat[0]) if factors.size else 1.0
    if not np.allclose(factors, scale, rtol=1e-12, atol=0):
        raise Unsupported("attention whose scores are scaled by numbers that differ is not taken")
    return scale


def attend(builder: Builder, facts: Weights, heads: list[Head], values: Cells) -> tuple[int, np.ndarray]:
    """The step for heads that see the same, and the rows (queries) in which it gives something."""
    first = heads[0]
    rows = np.flatnonzero(first.seen.any(1))
    used = np.flatnonzero(first.seen.any(0))
    queries, keys = [], []
    asks = np.flatnonzero(first.m >= 0)
    if not len(asks):
        raise Unsupported("attention weights that are all constants are not taken")
    for head in heads:
        queries.append(facts.scores.left[head.n, head.m[asks]])  # [asks, K]
        keys.append(facts.scores.right[head.n, used])
    query = spread(builder, queries, asks, len(first.m))
    key = spread(builder, keys, used, facts.shape[2])
    given = np.unique(first.source[first.source >= 0])
    value = spread(builder, [values[i, given] for i in range(len(heads))], given, values.ids.shape[1])
    (query, ask), (key, answer) = unscaled(builder, query), unscaled(builder, key)
    seen, source = first.seen[:, used], first.source[:, used]
    key = replace(key, at=builder.table(np.where(seen, key.at[used], -1)))
    value = replace(value, at=builder.table(np.where(source >= 0, value.at[source], -1)))
    bias = np.stack([head.bias[:, used] for head in heads], 1)  # [Q, heads, J]
    out = builder.new_value(len(heads) * values.ids.shape[2], len(first.m))
    scale = first.scale * ask * answer
    builder.steps.append(Attend(out, query, key, value, len(heads), scale, bias if bias.any() else None))
    return out, rows


def unscaled(builder: Builder, read: Read) -> tuple[Read, float]:
    """What is read times a number, as the number and a read of the rest: scaled keys need not be kept besides."""
    maker = next((s for s in reversed(builder.steps) if s.out == read.value), None)
    if not isinstance(maker, Pointwise) or maker.op != "mul":
        return read, 1.0
    factors = [a for a in maker.args if isinstance(a, Constant) and a.rows.size == 1]
    whole = [a for a in maker.args if isinstance(a, Read) and a.width == builder.values[maker.out].channels]
    if len(factors) != 1 or len(whole) != 1:
        return read, 1.0
    at = np.where(read.at >= 0, whole[0].at[read.at], -1).astype(np.int32)
    if ((at < 0) & (read.at >= 0)).any():
        return read, 1.0
    return Read(whole[0].value, whole[0].start + read.start, read.width, at), float(factors[0].rows.flat[0])


def spread(builder: Builder, parts: list[Cells], at: np.ndarray, size: int) -> Read:
    """Heads side by side as channels of one value, read at the places ``at`` of ``size``.  # parts: [places, K]"""
    ids = np.concatenate([p.ids.T for p in parts])
    values = np.concatenate([np.broadcast_to(p.values, p.ids.shape).T for p in parts])
    read = builder.gather(Cells(ids, values))
    places = np.full(size, -1, np.int32)
    places[at] = read.at
    return Read(read.value, read.start, read.width, places)


def is_pair(builder: Builder, ids: Any) -> bool:
    """Whether some cells are scores or weights: what is no attention must not take them apart, number by number."""
    if not builder.pairs:
        return False
    live = ids[ids >= 0] if isinstance(ids, np.ndarray) else np.zeros(0, np.int64)
    return bool(len(live)) and known(builder.pairs, live) is not None
