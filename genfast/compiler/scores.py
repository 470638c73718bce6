"""Scores and weights of attention while a trace is under way: what is known of the product of two computed matrices.

Such a product is no step of a program: every number of it would be computed and kept, though most are masked. It gets a
value of its own all the same, an opaque one, and what happens to its cells (scales, masks, a softmax) is written down
beside it, until a product with computed values makes an Attend of it (attention.py). Whatever else reads these cells
reads something opaque, and is refused.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from genfast.compiler.cells import IMAGE_BITS, LANE_SHIFT, POSITION_MASK, VALUE_SHIFT, Cells, Ids, lanes_of, make_ids

CHANNELS = (1 << (VALUE_SHIFT - LANE_SHIFT)) - 1
MASKED = -1e3  # constants at or below this are masks ...
MARGIN = 800.0  # ... if they lie so far below the row's largest score: exp(-746) is 0 in any dtype


@dataclass(frozen=True, eq=False)
class Scores:
    """Cell (n, m, o) is factor * (left[n, m] . right[n, o]) + addend: channel o at position n * M + m of its value.

    left: [N, M, K], right: [N, O, K], for one image. factor, addend: float64, broadcast to [N, M, O].
    """

    left: Cells
    right: Cells
    factor: np.ndarray
    addend: np.ndarray

    @property
    def shape(self) -> tuple[int, int, int]:
        n, m, _ = self.left.ids.shape
        return n, m, self.right.ids.shape[1]

    def turned(self) -> "Scores":
        """The same numbers as [N, O, M]."""

        def swap(x: np.ndarray) -> np.ndarray:
            return x.swapaxes(1, 2) if x.ndim == 3 else x

        return Scores(self.right, self.left, swap(self.factor), swap(self.addend))


@dataclass(frozen=True, eq=False)
class Weights:
    """The softmax of scores over o: exp(scores) / sum over allowed o. Other cells are 0.  # allowed: bool [N, M, O]"""

    scores: Scores
    allowed: np.ndarray

    @property
    def shape(self) -> tuple[int, int, int]:
        return self.scores.shape


class Refused(Exception):
    """Raised for what attention cannot be; the text says why."""


Facts = dict[int, Scores | Weights]  # by value


@dataclass(frozen=True, eq=False)
class Known:
    """An array some of whose cells (live) are those of one product: their places n, m, o in it, flat."""

    value: int
    facts: Scores | Weights
    live: np.ndarray
    n: np.ndarray
    m: np.ndarray
    o: np.ndarray

    @property
    def flat(self) -> np.ndarray:
        _, m, o = self.facts.shape
        return (self.n * m + self.m) * o + self.o

    def once(self) -> bool:
        """Whether no cell occurs twice."""
        seen = np.zeros(int(np.prod(self.facts.shape)), bool)
        seen[self.flat] = True
        return int(seen.sum()) == len(self.n)


def known(facts: Facts, ids: Ids) -> Known | None:
    """None unless all computed cells of an array, for one image, are of one product.  # ids of any shape"""
    live = ids >= 0
    place = int(live.argmax())
    value = int(ids.flat[place]) >> VALUE_SHIFT
    if value not in facts:
        return None
    cells = ids[live]
    if (cells >> VALUE_SHIFT != value).any():
        return None
    n, m = np.divmod((cells >> IMAGE_BITS) & POSITION_MASK, facts[value].shape[1])
    return Known(value, facts[value], live, n, m, lanes_of(cells) & CHANNELS)


def cells_of(value: int, shape: Sequence[int], n: np.ndarray, m: np.ndarray, o: np.ndarray) -> Ids:
    return make_ids(value, o, n * shape[1] + m)


def affine(op: str, cells: Sequence[Cells], x: Known) -> tuple[Ids, Scores | None] | None:
    """What an elementwise operation with constants makes of scores or weights; cells: of one image and one shape.

    Returns the cells of the result where they are those of x, and what is new about them (else they are x's own); -1
    where the result is constant. None for an operation that attention knows nothing of.
    """
    at = next(i for i, c in enumerate(cells) if not c.constant)
    others = [c.values[x.live].astype(np.float64) for i, c in enumerate(cells) if i != at]
    ids = cells[at].ids
    match op, at, others:
        case "isnan", _, []:
            return np.full(ids.shape, -1, np.int64), None
        case "eq", _, [number] if np.isinf(number).all():  # as nan_to_num asks
            return np.full(ids.shape, -1, np.int64), None
        case "neg", _, []:
            factor, addend = np.float64(-1), np.float64(0)
        case "mul", _, [number]:
            factor, addend = number, np.float64(0)
        case "div", 0, [number]:
            factor, addend = 1 / number, np.float64(0)
        case "add", _, [number]:
            factor, addend = np.float64(1), number
        case "sub", 0, [number]:
            factor, addend = np.float64(1), -number
        case "sub", 1, [number]:
            factor, addend = np.float64(-1), number
        case _:
            return None
    gone = np.broadcast_to(factor == 0, x.n.shape)  # times 0
    if gone.any():
        ids = ids.copy()
        ids[x.live] = np.where(gone, -1, ids[x.live])
    if bool((gone | ((factor == 1) & (addend == 0))).all()):
        return ids, None
    if isinstance(x.facts, Weights):
        return None
    old = x.facts
    f, a = factor.flat[0], addend.flat[0]
    if bool((factor == f).all() and (addend == a).all()):
        return ids, Scores(old.left, old.right, old.factor * f, old.addend * f + a)
    if not x.once():
        return None
    new_factor, new_addend = (np.array(np.broadcast_to(t, old.shape)).reshape(-1) for t in (old.factor, old.addend))
    new_factor[x.flat] *= np.where(gone, 1, factor)
    new_addend[x.flat] = new_addend[x.flat] * factor + addend
    return ids, Scores(old.left, old.right, new_factor.reshape(old.shape), new_addend.reshape(old.shape))


def normalised(x: Known, table: Cells) -> tuple[Weights, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """The softmax of scores over the rows of a table [R, J] of one image.

    Returns the weights, and which entries of the table are weights, n, m and o of these; all others are constant.
    Raises Refused, with the reason.
    """
    if not isinstance(x.facts, Scores):
        raise Refused("a softmax of attention weights is not taken")
    scores, n, m, o = x.facts, x.n, x.m, x.o
    row = np.nonzero(x.live)[0]
    begins = np.flatnonzero(np.diff(row, prepend=-1))
    first = begins[np.cumsum(np.diff(row, prepend=-1) != 0) - 1]  # the first live entry of each entry's row
    if not bool(((n == n[first]) & (m == m[first])).all()):
        scores, m, o = scores.turned(), o, m
        if not bool(((n == n[first]) & (m == m[first])).all()):
            raise Refused("a softmax over several queries or heads is not taken")
    if not x.once() or len(np.unique((n * scores.shape[1] + m)[begins])) != len(begins):
        raise Refused("a softmax over some of the scores of a query is not taken")
    values = table.values.astype(np.float64)
    addend = np.where(x.live, 0.0, values)
    addend[x.live] = np.broadcast_to(scores.addend, scores.shape)[n, m, o]
    endless = addend == -np.inf
    top = np.where(endless, -np.inf, values).max(1, keepdims=True)
    with np.errstate(invalid="ignore"):
        hidden = endless | ((addend <= MASKED) & (top - values >= MARGIN))
    odd = ~x.live & ~hidden & (x.live & ~hidden).any(1, keepdims=True)
    if odd.any():
        raise Refused(
            f"attention in which a masked score is {values[odd][0]:g}, so that what is masked weighs something: mask "
            "with -inf, or with a number below -1000, before the softmax"
        )
    seen = (~hidden)[x.live]
    allowed = np.zeros(scores.shape, bool)
    allowed[n[seen], m[seen], o[seen]] = True
    return Weights(scores, allowed), x.live & ~hidden, n[seen], m[seen], o[seen]
