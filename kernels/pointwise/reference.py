"""Every pointwise operation in plain PyTorch: any dtype, any shapes that broadcast."""

from collections.abc import Callable

import torch
from torch import Tensor

PLAIN = {
    "neg", "abs", "exp", "expm1", "log", "log1p", "sqrt", "rsqrt", "reciprocal", "tanh", "sigmoid", "relu", "sin",
    "cos", "erf", "sign", "floor", "ceil", "round", "trunc", "logical_not", "isnan", "add", "sub", "mul", "div", "pow",
    "maximum", "minimum", "remainder", "eq", "ne", "lt", "le", "gt", "ge",
}  # fmt: skip


# Truth values are numbers.
TORCH_OPS: dict[str, Callable[..., Tensor]] = {
    **{op: getattr(torch, op) for op in PLAIN},
    "elu": torch.nn.functional.elu,
    "softplus": lambda x: torch.logaddexp(x, torch.zeros_like(x)),
    "where": lambda c, x, y: torch.where(c != 0, x, y),
}


def pointwise(op: str, *args: Tensor) -> Tensor:
    """op(args), in the dtype of the arguments."""
    if op not in TORCH_OPS:
        raise ValueError(f"There is no pointwise operation {op!r}.")
    return TORCH_OPS[op](*args).to(args[0].dtype)
