"""Elementwise operators, written in the few operations that the engines know (program.OPS)."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from genfast.compiler.builder import ImagesMixed
from genfast.compiler.cells import Cells, Ids
from genfast.compiler.frontend import HANDLERS, Tracer, Unsupported, handles

Number = Any  # Cells or a Python number: both broadcast
Formula = Callable[..., Number]


class Algebra:
    """The operations as methods: ``e.add(x, 1)`` is cells."""

    def __init__(self, tracer: Tracer) -> None:
        self.pointwise = tracer.builder.pointwise

    def __getattr__(self, op: str) -> Callable[..., Cells]:
        return lambda *args: self.pointwise(op, *args)

    def minus(self, x: Number, y: Number, alpha: float = 1) -> Cells:
        return self.sub(x, y if alpha == 1 else self.mul(y, alpha))

    def plus(self, x: Number, y: Number, alpha: float = 1) -> Cells:
        return self.add(x, y if alpha == 1 else self.mul(y, alpha))

    def negative_part(self, x: Number) -> Cells:
        return self.minimum(x, 0.0)


def elu(e: Algebra, x: Number, alpha: float = 1, scale: float = 1, input_scale: float = 1) -> Cells:
    low = e.mul(e.expm1(e.mul(e.negative_part(x), input_scale)), alpha * scale)
    return e.add(e.mul(e.relu(x), scale), low)


def gelu(e: Algebra, x: Number, approximate: str = "none") -> Cells:
    if approximate == "tanh":
        inner = e.mul(e.add(x, e.mul(e.mul(e.mul(x, x), x), 0.044715)), math.sqrt(2 / math.pi))
        return e.mul(e.mul(x, 0.5), e.add(e.tanh(inner), 1.0))
    return e.mul(e.mul(x, 0.5), e.add(e.erf(e.mul(x, math.sqrt(0.5))), 1.0))


def clamp(e: Algebra, x: Number, low: Number = None, high: Number = None) -> Cells:
    if low is not None:
        x = e.maximum(x, low)
    return x if high is None else e.minimum(x, high)


def softplus(e: Algebra, x: Number, beta: float = 1, threshold: float = 20) -> Cells:
    soft = e.div(e.softplus(e.mul(x, beta)), beta)
    return e.where(e.gt(e.mul(x, beta), threshold), x, soft)


def divide(e: Algebra, x: Number, y: Number, rounding_mode: str | None = None) -> Cells:
    ratio = e.div(x, y)
    return ratio if rounding_mode is None else e.trunc(ratio) if rounding_mode == "trunc" else e.floor(ratio)


def truth(e: Algebra, x: Number) -> Cells:
    return e.ne(x, 0.0)


def power(e: Algebra, x: Number, exponent: Number) -> Cells:
    if exponent == 2:
        return e.mul(x, x)
    return e.pow(x, exponent)


UNARY = {
    "abs", "exp", "expm1", "log", "log1p", "sqrt", "rsqrt", "reciprocal", "tanh", "sigmoid", "relu", "sin", "cos",
    "erf", "sign", "floor", "ceil", "round", "trunc", "neg", "logical_not", "isnan",
}  # fmt: skip
BINARY = {"mul": "mul", "maximum": "maximum", "minimum": "minimum", "remainder": "remainder",
          "eq": "eq", "ne": "ne", "lt": "lt", "le": "le", "gt": "gt", "ge": "ge"}  # fmt: skip

FORMULAS: dict[str, Formula] = {
    **{name: lambda e, x, op=name: getattr(e, op)(x) for name in UNARY},
    **{name: lambda e, x, y, op=op: getattr(e, op)(x, y) for name, op in BINARY.items()},
    "add": lambda e, x, y, alpha=1: e.plus(x, y, alpha),
    "sub": lambda e, x, y, alpha=1: e.minus(x, y, alpha),
    "rsub": lambda e, x, y, alpha=1: e.minus(y, x, alpha),
    "div": divide,
    "floor_divide": lambda e, x, y: e.floor(e.div(x, y)),
    "fmod": lambda e, x, y: e.sub(x, e.mul(e.trunc(e.div(x, y)), y)),
    "pow": power,
    "square": lambda e, x: e.mul(x, x),
    "exp2": lambda e, x: e.pow(2.0, x),
    "log2": lambda e, x: e.mul(e.log(x), 1 / math.log(2)),
    "log10": lambda e, x: e.mul(e.log(x), 1 / math.log(10)),
    "tan": lambda e, x: e.div(e.sin(x), e.cos(x)),
    "sinh": lambda e, x: e.mul(e.sub(e.exp(x), e.exp(e.neg(x))), 0.5),
    "cosh": lambda e, x: e.mul(e.add(e.exp(x), e.exp(e.neg(x))), 0.5),
    "frac": lambda e, x: e.sub(x, e.trunc(x)),
    "erfc": lambda e, x: e.sub(1.0, e.erf(x)),
    "clamp": clamp,
    "clip": clamp,
    "clamp_min": lambda e, x, low: e.maximum(x, low),
    "clamp_max": lambda e, x, high: e.minimum(x, high),
    "hardtanh": lambda e, x, low=-1, high=1: clamp(e, x, low, high),
    "relu6": lambda e, x: clamp(e, x, 0, 6),
    "hardsigmoid": lambda e, x: e.div(clamp(e, e.add(x, 3.0), 0, 6), 6.0),
    "hardswish": lambda e, x: e.mul(x, e.div(clamp(e, e.add(x, 3.0), 0, 6), 6.0)),
    "leaky_relu": lambda e, x, slope=0.01: e.add(e.relu(x), e.mul(e.negative_part(x), slope)),
    "_prelu_kernel": lambda e, x, w: e.add(e.relu(x), e.mul(e.negative_part(x), w)),
    "elu": elu,
    "celu": lambda e, x, alpha=1.0: elu(e, x, alpha, 1, 1 / alpha),
    "selu": lambda e, x: elu(e, x, 1.6732632423543772, 1.0507009873554805),
    "gelu": gelu,
    "silu": lambda e, x: e.mul(x, e.sigmoid(x)),
    "mish": lambda e, x: e.mul(x, e.tanh(e.softplus(x))),
    "softplus": softplus,
    "threshold": lambda e, x, threshold, value: e.where(e.gt(x, threshold), x, value),
    "where": lambda e, c, x, y: e.where(c, x, y),
    "masked_fill": lambda e, x, mask, value: e.where(mask, value, x),
    "lerp": lambda e, x, y, weight: e.add(x, e.mul(weight, e.sub(y, x))),
    "addcmul": lambda e, x, a, b, value=1: e.plus(x, e.mul(a, b), value),
    "addcdiv": lambda e, x, a, b, value=1: e.plus(x, e.div(a, b), value),
    "logical_and": lambda e, x, y: e.mul(truth(e, x), truth(e, y)),
    "logical_or": lambda e, x, y: e.maximum(truth(e, x), truth(e, y)),
    "logical_xor": lambda e, x, y: e.ne(truth(e, x), truth(e, y)),
    "isinf": lambda e, x: e.eq(e.abs(x), math.inf),
    "isfinite": lambda e, x: e.lt(e.abs(x), math.inf),
    "nan_to_num": lambda e, x, nan=None, posinf=None, neginf=None: clamp(
        e, e.where(e.isnan(x), nan or 0.0, x), neginf or -3.4028234e38, posinf or 3.4028234e38
    ),
    "sigmoid_": lambda e, x: e.sigmoid(x),
}


def _elementwise(formula: Formula) -> Any:
    def handle(tracer: Tracer, func: Any, args: list[Any], kwargs: dict[str, Any], outs: list[Tensor]) -> Ids:
        operands = [tracer.cells(a) if isinstance(a, Tensor) else a for a in args]
        named = {k: tracer.cells(v) if isinstance(v, Tensor) else v for k, v in kwargs.items()}
        named = {k: v for k, v in named.items() if k not in ("dtype", "layout", "device", "memory_format", "out")}
        return formula(Algebra(tracer), *operands, **named).ids

    return handle


for _name, _formula in FORMULAS.items():
    HANDLERS.setdefault(_name, _elementwise(_formula))


@handles("bitwise_and", "bitwise_or", "bitwise_xor", "bitwise_not")
def _bitwise(tracer: Tracer, func: Any, args: list[Any], kwargs: dict[str, Any], outs: list[Tensor]) -> Ids:
    if outs[0].dtype != torch.bool:
        raise Unsupported("bit operations on whole numbers are not taken")
    same = {"and": "logical_and", "or": "logical_or", "xor": "logical_xor", "not": "logical_not"}
    name = same[func._schema.name.split("_")[-1]]
    return HANDLERS[name](tracer, func, args, {}, outs)  # type: ignore[return-value]


@handles("log_sigmoid_forward")
def _log_sigmoid(tracer: Tracer, func: Any, args: list[Any], kwargs: dict[str, Any], outs: list[Tensor]) -> list:
    e = Algebra(tracer)
    return [e.neg(e.softplus(e.neg(tracer.cells(args[0])))).ids, None]


@handles("glu")
def _glu(tracer: Tracer, func: Any, args: list[Any], kwargs: dict[str, Any], outs: list[Tensor]) -> Ids:
    """a * sigmoid(b) for the two halves of an axis."""
    e, dim = Algebra(tracer), kwargs.get("dim", args[1] if len(args) > 1 else -1)
    a, b = (tracer.cells(half) for half in args[0].chunk(2, dim))
    return e.mul(a, e.sigmoid(b)).ids


@handles("rrelu_with_noise")
def _rrelu(tracer: Tracer, func: Any, args: list[Any], kwargs: dict[str, Any], outs: list[Tensor]) -> Ids:
    lower, upper, training = (list(args[2:]) + [0.125, 1 / 3, False][len(args) - 2 :])[:3]
    if training:
        raise Unsupported("it draws random numbers; put the module into evaluation mode")
    return FORMULAS["leaky_relu"](Algebra(tracer), tracer.cells(args[0]), (lower + upper) / 2).ids


@handles("_to_copy", "to")
def _convert(tracer: Tracer, func: Any, args: list[Any], kwargs: dict[str, Any], outs: list[Tensor]) -> Ids:
    """Another dtype or layout. Whole numbers are kept as floats, so only rounding towards zero is work."""
    x, e = tracer.cells(args[0]), Algebra(tracer)
    source, target = args[0].dtype, outs[0].dtype
    if target == torch.bool and source != torch.bool:
        return truth(e, x).ids
    if source.is_floating_point and not target.is_floating_point:
        return e.trunc(x).ids
    return x.ids


@handles("native_batch_norm", "_native_batch_norm_legit", "_native_batch_norm_legit_no_training", "cudnn_batch_norm",
         "batch_norm", "native_batch_norm_legit_no_training")  # fmt: skip
def _batch_norm(tracer: Tracer, func: Any, args: list[Any], kwargs: dict[str, Any], outs: list[Tensor]) -> list:
    """In evaluation mode a batch norm is a scale and a shift for each channel."""
    names = [a.name for a in func._schema.arguments]
    given = dict(zip(names, args, strict=False)) | kwargs
    if given.get("training", False) or given.get("running_mean") is None:
        raise ImagesMixed("batch norm with the statistics of the batch")
    shape = [1, -1] + [1] * (args[0].dim() - 2)
    variance, mean = given["running_var"].double(), given["running_mean"].double()
    scale = torch.rsqrt(variance + given["eps"])
    if given.get("weight") is not None:
        scale = scale * given["weight"].double()
    shift = -mean * scale
    if given.get("bias") is not None:
        shift = shift + given["bias"].double()
    e = Algebra(tracer)
    x = tracer.cells(args[0])
    out = e.add(e.mul(x, tracer.cells(scale.view(shape))), tracer.cells(shift.view(shape)))
    return [out.ids] + [None] * (len(outs) - 1)
