"""What the Triton kernels of gated_activation must do, as one function.

The tests run ``python gated_activation_checks.py`` in a process where Triton is interpreted (apart.py).
"""

import json
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from genfast.testing import assert_close_to_reference
from genfast.testing.cases import arrange
from tests.kernels.apart import DTYPES, attempt, mostly_untouched, prepare
from tests.ops.gated_activations import CASES, Case, make_inputs, run_reference


def both(x: Tensor, grad: Tensor, color_groups: int) -> tuple[Tensor, Tensor]:
    """The result and the gradient of x by the launchers, which take CPU tensors where Triton is interpreted."""
    from genfast.kernels.gated_activation import triton_launch as k

    return k.gated_activation(x, color_groups), k.gated_activation_bwd(grad, x, color_groups)


def check_case(case: Case, dtype: torch.dtype, device: str) -> None:
    """The result and the gradient against the reference, in the memory format of x; an image alone has the same
    bits."""
    x, grad = make_inputs(case, dtype)
    on_device = [arrange(t.to(device), case[2]) for t in (x, grad)]
    out, dx = both(*on_device, case[1])
    assert_close_to_reference([out, dx], run_reference, (x, grad, case[1]), dtype, names=("out", "dx"))
    last = case[2] == "channels_last"
    for t in (out, dx):
        assert t.is_contiguous(memory_format=torch.channels_last if last else torch.contiguous_format)
    if len(x):
        alone = both(*(t[-1:] for t in on_device), case[1])
        assert all(torch.equal(a[0], b[-1]) for a, b in zip(alone, (out, dx), strict=True))


def check_extremes(device: str) -> None:
    """Saturated gates are finite; a NaN stays where it is."""
    ends = torch.tensor([0.0, -0.0, 100, -100, 3e38, -3e38, torch.inf, -torch.inf])
    x = torch.stack((ends.repeat_interleave(8), ends.repeat(8)))[None, :, None]
    grad = torch.ones_like(x[:, :1])
    exact = run_reference(x.double(), grad.double(), 1)
    for got, expected in zip(both(x.to(device), grad.to(device), 1), exact, strict=True):
        torch.testing.assert_close(got.double().cpu(), expected, rtol=0, atol=3e-7)
    x[0, 1, 0, 5] = torch.nan
    assert both(x.to(device), grad.to(device), 1)[0].isnan().nonzero().tolist() == [[0, 0, 0, 5]]


def check_far(device: str) -> None:
    """A run longer than 2**31 elements, so that g lies that far from f, in memory of which only the touched pages
    exist. The interpreter, which would take hours, runs the first block alone."""
    from genfast.kernels.gated_activation import triton_launch as k

    length = 2**31 + 64
    x = mostly_untouched(2 * length, torch.float16, device).view(1, 2, length, 1)
    out = mostly_untouched(length, torch.float16, device).view(1, 1, length, 1)
    f, g = torch.randn(2, 16).half()
    x[0, 0, :16, 0], x[0, 1, :16, 0] = f.to(device), g.to(device)
    launch = k.launch(None, x, out, 1)
    if device == "cpu":
        launch = launch._replace(args=launch.args | {"results": 16}, grid=(1,))
    launch.run(x.device)
    expected = torch.tanh(f.float()) * torch.sigmoid(g.float())
    torch.testing.assert_close(out[0, 0, :16, 0].float().cpu(), expected, rtol=2e-3, atol=1e-4)


def checks(device: str) -> list[tuple[Any, ...]]:
    """(name, check, its arguments). Every case in float32, some in the other dtypes."""
    wanted = {"float32": CASES, "float64": CASES[1:4], "bfloat16": CASES[2:5], "float16": CASES[5:8]}
    found: list[tuple[Any, ...]] = []
    for name, cases in wanted.items():
        found += [(f"{case}-{name}", check_case, case, DTYPES[name], device) for case in cases]
    return [*found, ("extremes", check_extremes, device), ("far", check_far, device)]


def run_table(table: list[tuple[Any, ...]]) -> dict[str, str]:
    results: dict[str, str] = {}
    check: Callable[..., None]
    for name, check, *arguments in table:
        attempt(results, name, check, *arguments)
    return results


def case_names() -> list[str]:
    """The keys of run_table, without running anything."""
    return [name for name, *_ in checks("cpu")]


if __name__ == "__main__":
    prepare()
    print(json.dumps(run_table(checks("cpu"))))
