"""How wrong a result may be: a small multiple of the error that plain PyTorch makes in the same dtype.

The truth is the reference run in float64 on the very same numbers (a bfloat16 value is exact in float64). Plain PyTorch
is the reference run in the dtype itself. A tolerance found this way follows the sizes, the dtype and the summation
length of the case; nobody tunes it until a test turns green.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

Outputs = Tensor | Sequence[Tensor]


def unit_roundoff(dtype: torch.dtype) -> float:
    """Half the spacing of the numbers just above one: the largest relative error of one rounding."""
    return torch.finfo(dtype).eps / 2


def error_budget(
    reference_fn: Callable[..., Outputs],
    args: Sequence[Any],
    dtype: torch.dtype,
    multiple: float = 4.0,
    precision: float | None = None,
) -> tuple[list[Tensor], list[float]]:
    """The truth in float64, and the largest absolute error allowed in each output of ``reference_fn(*args)``.

    ``reference_fn`` takes tensors of ``dtype`` (and anything else) and returns one tensor or several. The budget of an
    output is ``multiple`` times the largest error of plain PyTorch in ``dtype``, plus two roundings of the output's
    largest value, so that a case where PyTorch happens to be exact (one channel, say) still allows another order of
    summation. float64 has no wider truth: there the error is the one measured in float32, scaled to float64, and counts
    once more, since what is taken for the truth has it as well.

    ``precision`` is the unit roundoff of the factors where it is coarser than the dtype's (TF32: 2**-11); it then takes
    the dtype's place in those two roundings.
    """
    narrow = torch.float32 if dtype == torch.float64 else dtype
    scale = unit_roundoff(dtype) / unit_roundoff(narrow)
    truth = _run(reference_fn, args, torch.float64)
    plain = _run(reference_fn, args, narrow)
    allowed = multiple if narrow == dtype else multiple + 1
    exact_of_plain = truth if narrow == dtype else _run(reference_fn, [_as(a, narrow) for a in args], torch.float64)
    budgets = []
    for exact, target, rounded in zip(truth, exact_of_plain, plain, strict=True):
        if exact.numel() == 0:
            budgets.append(0.0)
            continue
        error = scale * float((rounded.double() - target).abs().max())
        rounding = 2 * (unit_roundoff(dtype) if precision is None else precision) * float(exact.abs().max())
        budgets.append(allowed * error + rounding)
    return truth, budgets


def assert_close_to_reference(
    actual: Outputs,
    reference_fn: Callable[..., Outputs],
    args: Sequence[Any],
    dtype: torch.dtype,
    multiple: float = 4.0,
    precision: float | None = None,
    names: Sequence[str] = (),
) -> None:
    """Fails, with a sentence, unless every output has the reference's shape and dtype, no NaN, and keeps its budget.

    ``actual`` is what the backend returned for ``args``; the other arguments are those of ``error_budget``. Where a
    value must be exactly zero (the gradient of a masked weight), callers say so with a test of their own.
    """
    truth, budgets = error_budget(reference_fn, args, dtype, multiple, precision)
    outputs = _outputs(actual)
    assert len(outputs) == len(truth), f"{len(outputs)} outputs, but the reference has {len(truth)}."
    for k, (out, exact, budget) in enumerate(zip(outputs, truth, budgets, strict=True)):
        name = names[k] if k < len(names) else f"output {k}"
        assert out.dtype == dtype, f"{name} is {out.dtype}, not {dtype}."
        assert out.shape == exact.shape, f"{name} is {tuple(out.shape)}, not {tuple(exact.shape)}."
        if exact.numel() == 0:
            continue
        assert not bool(out.isnan().any()), f"{name} holds {int(out.isnan().sum())} NaN of {out.numel()} values."
        difference = (out.detach().double().cpu() - exact.cpu()).abs()
        worst = float(difference.max())
        assert worst <= budget, (
            f"{name} is off by {worst:.3e} at {_position(difference)}; the budget for {dtype} is {budget:.3e} "
            f"({int((difference > budget).sum())} of {out.numel()} values are over it)."
        )


def _run(reference_fn: Callable[..., Outputs], args: Sequence[Any], dtype: torch.dtype) -> list[Tensor]:
    return [out.detach() for out in _outputs(reference_fn(*(_as(a, dtype) for a in args)))]


def _outputs(value: Outputs) -> list[Tensor]:
    return [value] if isinstance(value, Tensor) else list(value)


def _as(value: Any, dtype: torch.dtype) -> Any:
    if not isinstance(value, Tensor) or not value.is_floating_point():
        return value
    return value.detach().to(dtype).requires_grad_(value.requires_grad)


def _position(difference: Tensor) -> tuple[int, ...]:
    flat = int(difference.argmax())
    return tuple(int(i) for i in torch.unravel_index(torch.tensor(flat), difference.shape))
