"""Forward, and forward + backward: the two parts that every operator's case has, and the check that they agree."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from cases import Timing
from torch import Tensor

FORWARD, STEP = "forward", "step"  # step: forward + backward
PARTS = (FORWARD, STEP)


def step(function: Callable[..., Tensor], inputs: Sequence[Tensor], grad: Tensor) -> list[Tensor]:
    """The result, and the gradients of all inputs that want one."""
    out = function(*inputs)
    return [out, *torch.autograd.grad(out, [t for t in inputs if t.requires_grad], grad)]


def without_gradients(function: Callable[..., Tensor], inputs: Sequence[Tensor]) -> Tensor:
    with torch.no_grad():
        return function(*inputs)


def forward_and_step(
    ours: tuple[Callable[..., Tensor], Sequence[Tensor], Tensor],
    rivals: Mapping[str, tuple[Callable[..., Tensor], Sequence[Tensor], Tensor]],
    floors: Mapping[str, Any],
    left_out: Mapping[str, str] | None = None,
) -> dict[str, Timing]:
    """ours and rivals: a function, its inputs and the gradient of its result, each in the memory layout it likes."""

    def part(run: Callable[..., Any], floor: Any) -> Timing:
        return Timing(
            partial(run, *ours), {name: partial(run, *rival) for name, rival in rivals.items()}, floor, left_out or {}
        )

    return {
        FORWARD: part(lambda function, inputs, grad: without_gradients(function, inputs), floors[FORWARD]),
        STEP: part(step, floors[STEP]),
    }


def check_steps(parts: Mapping[str, Timing], rtol: float, atol: float, same: Callable[[Tensor], Tensor] | None = None):
    """No number without the right answer. atol: of the largest number in each tensor; same: makes a rival's tensor
    comparable."""
    ours = parts[STEP].ours()
    for name, rival in parts[STEP].rivals.items():
        theirs = rival()
        for a, b in zip(ours, theirs, strict=True):
            b = b if same is None else same(b)
            limit = atol * float(b.detach().abs().max())
            torch.testing.assert_close(a, b, rtol=rtol, atol=limit, msg=lambda text, name=name: f"{name}: {text}")
