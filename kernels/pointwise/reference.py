"""Every pointwise operation in plain PyTorch: any dtype, any shapes that broadcast."""

import torch
from torch import Tensor

PLAIN = {
    "neg", "abs", "exp", "expm1", "log", "log1p", "sqrt", "rsqrt", "reciprocal", "tanh", "sigmoid", "relu", "sin",
    "cos", "erf", "sign", "floor", "ceil", "round", "trunc", "logical_not", "isnan", "add", "sub", "mul", "div", "pow",
    "maximum", "minimum", "remainder", "eq", "ne", "lt", "le", "gt", "ge",
}  # fmt: skip


def pointwise(op: str, *args: Tensor) -> Tensor:
    """op(args), in the dtype of the arguments."""
    match op:
        case "softplus":
            return torch.logaddexp(args[0], torch.zeros_like(args[0]))
        case "where":
            return torch.where(args[0] != 0, args[1], args[2])
    if op not in PLAIN:
        raise ValueError(f"There is no pointwise operation {op!r}.")
    result: Tensor = getattr(torch, op)(*args)
    return result.to(args[0].dtype)
