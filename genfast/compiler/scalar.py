"""What each elementwise operation means, in numpy: the constants of a trace are folded with it, and neither x + 0
nor x * 0 is computed."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from genfast.compiler.cells import Cells

_erf = np.vectorize(math.erf, otypes=[np.float64])

SCALAR: dict[str, Callable[..., Any]] = {
    "neg": np.negative,
    "abs": np.abs,
    "exp": np.exp,
    "expm1": np.expm1,
    "log": np.log,
    "log1p": np.log1p,
    "sqrt": np.sqrt,
    "rsqrt": lambda x: 1 / np.sqrt(x),
    "reciprocal": lambda x: 1 / x,
    "tanh": np.tanh,
    "sigmoid": lambda x: np.exp(-np.logaddexp(0, -x)),
    "relu": lambda x: np.maximum(x, 0),
    "elu": lambda x: np.where(x > 0, x, np.expm1(np.minimum(x, 0))),
    "softplus": lambda x: np.logaddexp(x, 0),
    "sin": np.sin,
    "cos": np.cos,
    "erf": _erf,
    "sign": lambda x: np.nan_to_num(np.sign(x)),  # 0 for NaN, as in torch
    "floor": np.floor,
    "ceil": np.ceil,
    "round": np.round,
    "trunc": np.trunc,
    "logical_not": lambda x: x == 0,
    "isnan": np.isnan,
    "add": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
    "div": np.divide,
    "pow": np.power,
    "maximum": np.maximum,
    "minimum": np.minimum,
    "remainder": np.remainder,
    "eq": np.equal,
    "ne": np.not_equal,
    "lt": np.less,
    "le": np.less_equal,
    "gt": np.greater,
    "ge": np.greater_equal,
    "where": np.where,
}


def pass_through(op: str, cells: list[Cells], shape: tuple[int, ...]) -> Cells | None:
    """x + 0, x - 0, x * 1, x / 1 and a choice by a constant are moves."""
    if op == "where" and cells[0].constant:
        choice, a, b = (c.broadcast(shape) for c in cells)
        truth = choice.values != 0
        return Cells(np.where(truth, a.ids, b.ids), np.where(truth, a.values, b.values))
    neutral = {"add": 0, "sub": 0, "mul": 1, "div": 1}.get(op)
    if neutral is None:
        return None
    for x, y in [(cells[0], cells[1])] + ([(cells[1], cells[0])] if op in ("add", "mul") else []):
        if y.constant and not x.constant and (y.values == neutral).all():
            values = x.values
            return Cells(np.broadcast_to(x.ids, shape), np.broadcast_to(values, shape))
    return None


def dead_elements(op: str, tables: list[Cells]) -> np.ndarray | None:
    """Where a constant 0 makes the result 0 whatever the other factor is; None for nowhere.  # bool [R, P]"""
    if op != "mul":
        return None
    dead = np.zeros(tables[0].ids.shape, bool)
    for table in tables:
        dead |= (table.ids < 0) & (table.values == 0)
    return dead if dead.any() else None


def constants_of(op: str, cells: list[Cells], shape: tuple[int, ...]) -> np.ndarray:
    """The result's values, right wherever the result is constant."""
    fixed = [c.ids < 0 for c in cells]
    zeros = [f & (c.values == 0) for f, c in zip(fixed, cells, strict=True)] if op == "mul" else []
    if not np.logical_and.reduce(fixed).any() and not any(z.any() for z in zeros):
        return np.broadcast_to(np.zeros(()), shape)
    with np.errstate(all="ignore"):
        operands = (np.where(f, c.values, 1).astype(np.float64) for f, c in zip(fixed, cells, strict=True))
        out = np.asarray(SCALAR[op](*operands), np.float64)
    for zero in zeros:
        out = np.where(zero, 0.0, out)
    return np.broadcast_to(out, shape)
