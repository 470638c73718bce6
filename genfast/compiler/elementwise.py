"""Elementwise operators, written in the few operations that the engines know (program.OPS)."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from genfast.compiler.cells import Cells, Ids
from genfast.compiler.frontend import HANDLERS, Tracer, handles
from genfast.compiler.tables import ImagesMixed, Unsupported

LARGEST = float(torch.finfo(torch.float32).max)
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
    if alpha == scale == input_scale == 1:
        return e.elu(x)
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


def divide(e: Algebra, x: Number, y: Number, rounding_mode: str | None = None, floats: bool = False) -> Cells:
    if rounding_mode == "floor":
        return floor_divide(e, x, y, floats)
    ratio = e.div(x, y)
    return ratio if rounding_mode is None else e.trunc(ratio)


def floor_divide(e: Algebra, x: Number, y: Number, floats: bool = False) -> Cells:
    """Floats as torch has it: 1 // 0.1 is 9, since 0.1 in binary is a little more than a tenth."""
    return e.round(e.div(e.sub(x, e.remainder(x, y)), y)) if floats else e.floor(e.div(x, y))


def replaced(e: Algebra, x: Number, nan: float | None = None, posinf: float | None = None,
             neginf: float | None = None) -> Cells:  # fmt: skip
    """nan_to_num."""
    x = e.where(e.isnan(x), nan or 0.0, x)
    x = e.where(e.eq(x, math.inf), LARGEST if posinf is None else posinf, x)
    return e.where(e.eq(x, -math.inf), -LARGEST if neginf is None else neginf, x)


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
    "floor_divide": floor_divide,
    "fmod": lambda e, x, y: e.mul(e.sign(x), e.remainder(e.abs(x), e.abs(y))),
    "pow": power,
    "square": lambda e, x: e.mul(x, x),
    "exp2": lambda e, x: e.pow(2.0, x),
    "log2": lambda e, x: e.mul(e.log(x), 1 / math.log(2)),
    "log10": lambda e, x: e.mul(e.log(x), 1 / math.log(10)),
    "tan": lambda e, x: e.div(e.sin(x), e.cos(x)),
    "sinh": lambda e, x: e.mul(e.sub(e.expm1(x), e.expm1(e.neg(x))), 0.5),
    "cosh": lambda e, x: e.mul(e.add(e.exp(x), e.exp(e.neg(x))), 0.5),
    "atanh": lambda e, x: e.mul(e.sub(e.log1p(x), e.log1p(e.neg(x))), 0.5),
    "hypot": lambda e, x, y: e.sqrt(e.add(e.mul(x, x), e.mul(y, y))),
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
    "threshold": lambda e, x, threshold, value: e.where(e.le(x, threshold), value, x),
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
    "nan_to_num": replaced,
    "logaddexp": lambda e, x, y: e.add(e.maximum(x, y), e.softplus(e.neg(e.abs(e.sub(x, y))))),
}
# Results that are among their operands, or truth values: never out of the range of a whole-number type.
WITHIN = {
    "eq", "ne", "lt", "le", "gt", "ge", "logical_and", "logical_or", "logical_xor", "logical_not", "isnan", "isinf",
    "isfinite", "maximum", "minimum", "where", "sign", "relu", "clamp_min", "clamp_max", "floor", "ceil", "round",
    "trunc",
}  # fmt: skip
BITS = {torch.uint8: 8, torch.int8: 8, torch.int16: 16}


def wrapped(e: Algebra, x: Cells, dtype: torch.dtype) -> Cells:
    """x as a narrow whole number: 250 + 10 is 4 in uint8. Wider ones never overflow here."""
    if dtype not in BITS:
        return x
    size = 2 ** BITS[dtype]
    if dtype == torch.uint8:
        return e.remainder(x, float(size))
    return e.sub(e.remainder(e.add(x, size / 2), float(size)), size / 2)


def converted(e: Algebra, x: Cells, source: torch.dtype, target: torch.dtype) -> Cells:
    """Numbers of one dtype as those of another. Whole numbers are kept as floats, so most of this is no work."""
    if target == torch.bool and source != torch.bool:
        return truth(e, x)
    if source.is_floating_point and not target.is_floating_point:
        x = e.trunc(x)
    fits = source == target or source == torch.bool or (source == torch.uint8 and target == torch.int16)
    return x if fits or target not in BITS else wrapped(e, x, target)


def _elementwise(name: str, formula: Formula) -> Any:
    def handle(tracer: Tracer, func: Any, args: list[Any], kwargs: dict[str, Any], outs: list[Tensor]) -> Ids:
        operands = [tracer.cells(a) if isinstance(a, Tensor) else a for a in args]
        named = {k: tracer.cells(v) if isinstance(v, Tensor) else v for k, v in kwargs.items()}
        e, dtype = Algebra(tracer), outs[0].dtype
        if name in ("div", "floor_divide") and dtype.is_floating_point:
            named["floats"] = True
        out = formula(e, *operands, **named)
        if name in WITHIN or dtype.is_floating_point:
            return out.ids
        return (truth(e, out) if dtype == torch.bool else wrapped(e, out, dtype)).ids

    return handle


for _name, _formula in FORMULAS.items():
    HANDLERS.setdefault(_name, _elementwise(_name, _formula))


@handles("bitwise_and", "bitwise_or", "bitwise_xor", "bitwise_not", "__and__", "__or__", "__xor__")
def _bitwise(tracer: Tracer, func: Any, args: list[Any], kwargs: dict[str, Any], outs: list[Tensor]) -> Ids:
    """Of truth values; of whole numbers, with one that is constant."""
    name = func._schema.name.split("::")[-1].strip("_").removeprefix("bitwise_")
    if outs[0].dtype == torch.bool:
        return HANDLERS[f"logical_{name}"](tracer, func, args, {}, outs)  # type: ignore[return-value]
    e = Algebra(tracer)
    if name == "not":
        return wrapped(e, e.sub(-1.0, tracer.cells(args[0])), outs[0].dtype).ids
    x, y = (args[1], args[0]) if not tracer.tracked(args[0]) else args[:2]
    numbers = set(torch.as_tensor(y).flatten().tolist()) if not tracer.tracked(y) else set()
    if len(numbers) != 1:
        raise Unsupported("bit operations on whole numbers are taken with one constant number only")
    mask = int(numbers.pop())
    cells = tracer.cells(x).broadcast(tuple(outs[0].shape))
    both = kept_bits(e, cells, mask)
    if name != "and":  # x | m = x + m - (x & m), and x ^ m takes the bits of both away once more
        both = e.sub(e.add(cells, float(mask)), both if name == "or" else e.mul(both, 2.0))
    return wrapped(e, both, outs[0].dtype).ids


def kept_bits(e: Algebra, x: Cells, mask: int) -> Cells:
    """x & mask, one run of set bits after another: those at a .. a + n - 1 are 2^a * (floor(x / 2^a) mod 2^n)."""
    if mask < 0:  # all bits but those of -1 - mask
        return e.sub(x, kept_bits(e, x, -1 - mask))
    total: Number = None
    while mask:
        low = mask & -mask
        run = (mask + low) & ~mask  # the first bit above the run that starts at low
        part = e.mul(e.remainder(e.floor(e.div(x, float(low))), float(run // low)), float(low))
        total = part if total is None else e.add(total, part)
        mask &= -run
    return e.mul(x, 0.0) if total is None else total


@handles("bitwise_left_shift", "bitwise_right_shift", "__lshift__", "__rshift__")
def _shift(tracer: Tracer, func: Any, args: list[Any], kwargs: dict[str, Any], outs: list[Tensor]) -> Ids:
    """Whole numbers times, or divided by, a constant power of 2."""
    e, (x, count) = Algebra(tracer), args[:2]
    if tracer.tracked(count):
        raise Unsupported("a shift by a computed number of bits is not taken")
    factor = e.pow(2.0, tracer.cells(count))
    left = func._schema.name.split("::")[-1] in ("bitwise_left_shift", "__lshift__")
    moved = e.mul(tracer.cells(x), factor) if left else e.floor(e.div(tracer.cells(x), factor))
    return wrapped(e, moved, outs[0].dtype).ids


@handles("log_sigmoid_forward")
def _log_sigmoid(tracer: Tracer, func: Any, args: list[Any], kwargs: dict[str, Any], outs: list[Tensor]) -> list:
    e = Algebra(tracer)
    buffers = [tracer.unknown("what log_sigmoid keeps for its gradient is not followed", args[:1], o) for o in outs[1:]]
    return [e.neg(e.softplus(e.neg(tracer.cells(args[0])))).ids, *buffers]


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


@handles("_to_copy", "convert_element_type")
def _convert(tracer: Tracer, func: Any, args: list[Any], kwargs: dict[str, Any], outs: list[Tensor]) -> Ids:
    return converted(Algebra(tracer), tracer.cells(args[0]), args[0].dtype, outs[0].dtype).ids


@handles("native_batch_norm", "_native_batch_norm_legit", "_native_batch_norm_legit_no_training", "cudnn_batch_norm",
         "_batch_norm_no_update", "_batch_norm_with_update")  # fmt: skip
def _batch_norm(tracer: Tracer, func: Any, args: list[Any], kwargs: dict[str, Any], outs: list[Tensor]) -> list:
    """In evaluation mode a batch norm is a scale and a shift for each channel.

    Without running statistics it is an instance norm, if the images lie in the axis of the channels.
    """
    from genfast.compiler.reduction import reduce

    names = [a.name for a in func._schema.arguments]
    given = dict(zip(names, args, strict=False)) | kwargs
    shape = [1, -1] + [1] * (args[0].dim() - 2)
    e, x = Algebra(tracer), tracer.cells(args[0])
    trains = given.get("training", "with_update" in func._schema.name)
    if trains or given.get("running_mean") is None:
        try:
            x = reduce(tracer, "standardize", x, [0, *range(2, args[0].dim())], True, given["eps"])
        except ImagesMixed:
            raise ImagesMixed("batch norm with the statistics of the batch") from None
        scale, shift = given.get("weight"), given.get("bias")
    else:
        variance, mean = given["running_var"].double(), given["running_mean"].double()
        scale = torch.rsqrt(variance + given["eps"])
        if given.get("weight") is not None:
            scale = scale * given["weight"].double()
        shift = -mean * scale
        if given.get("bias") is not None:
            shift = shift + given["bias"].double()
    if scale is not None:
        x = e.mul(x, tracer.cells(scale.view(shape)))
    if shift is not None:
        x = e.add(x, tracer.cells(shift.view(shape)))
    rest = [tracer.unknown("the statistics of a batch norm are not followed", args[:1], o) for o in outs[1:]]
    return [x.ids, *rest]
