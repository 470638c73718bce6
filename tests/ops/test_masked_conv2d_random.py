"""masked_conv2d on shapes that nobody chose: the CPU backend against the reference, forward and all gradients."""

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from genfast import ops
from genfast.kernels.masked_conv2d.reference import masked_conv2d as reference
from genfast.ops.backends import why_not
from genfast.testing import MaskedConv2dCase, assert_close_to_reference, unit_roundoff

pytestmark = pytest.mark.skipif(bool(why_not("cpu")), reason=why_not("cpu") or "built")


@st.composite
def cases(draw: st.DrawFn) -> MaskedConv2dCase:
    mask_type = draw(st.sampled_from(["A", "B", "VA", "VB"]))
    channels, size, odd = st.integers(1, 40), st.integers(1, 17), st.sampled_from([1, 3, 5, 7])
    return MaskedConv2dCase(
        batch=draw(st.integers(1, 3)),
        in_channels=draw(channels),
        out_channels=draw(channels),
        height=draw(size),
        width=draw(size),
        kernel_size=(draw(odd), draw(odd)),
        mask_type=mask_type,
        color_groups=draw(st.integers(1, 3)) if mask_type in ("A", "B") else 1,
        layout=draw(st.sampled_from(["contiguous", "channels_last", "sliced", "swapped"])),
        bias=draw(st.booleans()),
    )


@given(case=cases(), dtype=st.sampled_from([torch.float32, torch.float64, torch.bfloat16]), seed=st.integers(0, 1000))
@settings(max_examples=300, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
def test_cpu_equals_reference(case: MaskedConv2dCase, dtype: torch.dtype, seed: int) -> None:
    def run(function, x: Tensor, weight: Tensor, bias: Tensor | None, grad: Tensor) -> list[Tensor]:
        inputs = [t.detach().requires_grad_() for t in (x, weight, bias) if t is not None]
        y = function(*inputs[:2], inputs[2] if bias is not None else None, case.mask_type, case.color_groups)
        return [y, *torch.autograd.grad(y, inputs, grad)]

    args = case.inputs(dtype, seed=seed)
    actual = run(lambda *a: ops.masked_conv2d(*a, backend="cpu"), *args)
    # Among so many shapes are some where PyTorch's own error happens to be nil. The roundings of a sum of n terms add
    # up like a random walk, so sqrt(n) of them are allowed besides.
    n = max(case.batch * case.height * case.width, case.in_channels * case.kernel_size[0] * case.kernel_size[1])
    walk = unit_roundoff(dtype) * n**0.5
    assert_close_to_reference(actual, lambda *a: run(reference, *a), args, dtype, precision=walk)
