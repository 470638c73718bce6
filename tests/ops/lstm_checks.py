"""What the tests of row_lstm and diagonal_lstm share: inputs, nn.LSTM as an oracle, and the checks that both must pass.

A check takes the operator as a function of (x, weight, h0, c0, backend=...), with whatever else it needs already bound.
"""

import math
from collections.abc import Callable, Sequence

import pytest
import torch
from torch import Tensor, nn

from genfast.testing import assert_close_to_reference
from genfast.testing.cases import arrange

Operator = Callable[..., Tensor]

SIZES = [(1, 1), (1, 7), (6, 1), (5, 7), (7, 4)]  # H, W
DTYPES = [torch.float32, torch.float64, torch.bfloat16]
# (B, h, H, W), layout: vectors hold 4 (generic), 8 (avx2) or 16 (avx512) floats
CASES = [
    ((1, 1, 1, 1), "contiguous"),
    ((3, 1, 5, 7), "contiguous"),
    ((3, 5, 1, 7), "channels_last"),
    ((3, 16, 6, 1), "sliced"),
    ((3, 19, 5, 7), "channels_last"),
    ((1, 16, 5, 7), "swapped"),
    ((2, 33, 7, 4), "contiguous"),
    ((17, 3, 3, 4), "channels_last"),  # more images than go together
]


def make_inputs(
    shape: tuple[int, int, int, int], taps: int, dtype: torch.dtype = torch.float64, layout: str = "contiguous"
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """x, weight, h0, c0 and a gradient of h, for shape (B, h, H, W): normal numbers, recurrent weights that keep the
    state's size."""
    batch, hidden, height, width = shape
    generator = torch.Generator().manual_seed(hidden * height + width)

    def normal(*size: int) -> Tensor:
        return torch.randn(*size, generator=generator, dtype=torch.float64)

    x = arrange(normal(batch, 4 * hidden, height, width).to(dtype), layout)
    weight = (normal(4 * hidden, hidden, taps) / (hidden * taps) ** 0.5).to(dtype)
    grad = arrange(normal(batch, hidden, height, width).to(dtype), layout)
    return x, weight, normal(hidden).to(dtype), normal(hidden).to(dtype), grad


def lstm_over(x: Tensor, weight_hh: Tensor, h0: Tensor, c0: Tensor) -> Tensor:
    """nn.LSTM over sequences of pre-activations x [B, T, 4h], its input-to-state product being the identity."""
    batch, _, four_h = x.shape
    lstm = nn.LSTM(four_h, four_h // 4, batch_first=True, dtype=x.dtype)
    with torch.no_grad():
        lstm.weight_ih_l0.copy_(torch.eye(four_h))
        lstm.weight_hh_l0.copy_(weight_hh)
        lstm.bias_ih_l0.zero_()
        lstm.bias_hh_l0.zero_()
    state = h0.expand(1, batch, -1).contiguous(), c0.expand(1, batch, -1).contiguous()
    return lstm(x, state)[0].detach()


def gradients(function: Operator, inputs: Sequence[Tensor], grad: Tensor) -> list[Tensor]:
    """The output and the gradients of everything that goes in."""
    leaves = [t.detach().requires_grad_() for t in inputs]  # strides and all
    out = function(*leaves)
    return [out, *torch.autograd.grad(out, leaves, grad)]


def check_against_reference(
    operator: Operator, reference: Operator, case: tuple, taps: int, dtype: torch.dtype
) -> None:
    """h and every gradient in the budget of genfast.testing, and the memory format of x.

    With one hidden channel dh0 and dc0 are one number each, a sum of terms that cancel: the error that PyTorch happens
    to make there is luck and no measure. check_gradients compares those in float64.
    """
    shape, layout = case
    *inputs, grad = make_inputs(shape, taps, dtype, layout)
    measured = 3 if shape[1] == 1 else 5

    def run_reference(*args: Tensor) -> list[Tensor]:
        return gradients(reference, args[:4], args[4])[:measured]

    actual = gradients(operator, inputs, grad)
    names = ("h", "dx", "dweight", "dh0", "dc0")
    assert_close_to_reference(actual[:measured], run_reference, (*inputs, grad), dtype, names=names)
    last = layout == "channels_last"
    assert actual[0].is_contiguous(memory_format=torch.channels_last if last else torch.contiguous_format)
    with torch.no_grad():  # nothing is kept, and the numbers are the same
        assert torch.equal(operator(*inputs), actual[0])


def check_gradients(operator: Operator, reference: Operator, taps: int, size: tuple[int, int]) -> None:
    """Those that autograd finds in the loop, in float64."""
    for hidden in (1, 3):
        *inputs, grad = make_inputs((2, hidden, *size), taps)
        torch.testing.assert_close(gradients(operator, inputs, grad), gradients(reference, inputs, grad))


def check_bits(operator: Operator, taps: int, dtype: torch.dtype) -> None:
    """h and dx do not depend on the batch, the position in it or the threads; the other gradients not on the threads.
    Large enough that threads are used."""
    *inputs, grad = make_inputs((19, 19, 14, 13), taps, dtype, "channels_last")

    def results(part: slice) -> list[Tensor]:
        return gradients(operator, (inputs[0][part], *inputs[1:]), grad[part])

    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        once = results(slice(None))
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            assert all(torch.equal(a, b) for a, b in zip(results(slice(None)), once, strict=True))
            for b in (0, 7, 18):
                h, dx, *_ = results(slice(b, b + 1))
                assert torch.equal(h[0], once[0][b])
                assert torch.equal(dx[0], once[1][b])
    finally:
        torch.set_num_threads(before)


def check_large_image(operator: Operator, reference: Operator, taps: int) -> None:
    """MNIST's size, where errors have many steps to grow."""
    check_against_reference(operator, reference, ((2, 5, 28, 28), "channels_last"), taps, torch.float32)


def check_huge_inputs(operator: Operator, taps: int, dtype: torch.dtype) -> None:
    """Pre-activations up to the largest number there is saturate the gates; outputs and gradients stay finite."""
    *inputs, grad = make_inputs((2, 5, 4, 5), taps, dtype)
    inputs[0] = (inputs[0].sign() * torch.finfo(dtype).max / 2).contiguous()
    inputs[0][:, :, 0, 0] = 0
    inputs[0][:, :, 1, 1] = 100
    assert all(bool(t.isfinite().all()) for t in gradients(operator, inputs, grad))


def check_vanishing_gradients(operator: Operator, taps: int) -> None:
    """Gradients that fade below the smallest normal number are zero or what they should be, never NaN; the thread's
    treatment of subnormal numbers is as it was."""
    *inputs, grad = make_inputs((2, 5, 6, 6), taps, torch.float32)
    h, dx, *others = gradients(operator, inputs, grad * 1e-38)
    assert all(bool(t.isfinite().all()) for t in (h, dx, *others))
    assert float(torch.tensor(1e-30) * torch.tensor(1e-10)) > 0


def check_empty(operator: Operator, taps: int, shape: tuple[int, int, int, int]) -> None:
    *inputs, grad = make_inputs(shape, taps, torch.float32)
    h, dx, *others = gradients(operator, inputs, grad)
    assert h.shape == grad.shape
    assert dx.shape == inputs[0].shape
    assert not any(bool(t.any()) for t in others)


def check_autocast(operator: Operator, taps: int) -> None:
    """Computed in bfloat16, with float32 gradients; the same numbers as for inputs that were bfloat16 before."""
    *inputs, grad = make_inputs((2, 5, 4, 3), taps, torch.float32)
    leaves = [t.requires_grad_() for t in inputs]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        h = operator(*leaves)
    assert h.dtype == torch.bfloat16
    assert torch.equal(h, operator(*(t.detach().bfloat16() for t in inputs)))
    assert all(g.dtype == torch.float32 for g in torch.autograd.grad(h, leaves, grad.bfloat16()))


def check_compile(operator: Operator, taps: int) -> None:
    """One graph, the same numbers, forward and backward."""
    *inputs, grad = make_inputs((2, 3, 3, 4), taps, torch.float32)

    def function(*args: Tensor) -> Tensor:
        return torch.relu(operator(*args)) * 2

    expected = gradients(function, inputs, grad)
    actual = gradients(torch.compile(function, fullgraph=True), inputs, grad)
    torch.testing.assert_close(actual, expected)


def check_bad_inputs(operator: Operator, taps: int) -> None:
    x, weight, h0, c0, _ = make_inputs((2, 3, 4, 5), taps, torch.float32)
    for bad, message in [
        ((x[0], weight, h0, c0), r"x must be \[B, 4h, H, W\], but has 3 dimensions"),
        ((x, weight[0], h0, c0), r"weight must be \[4h, h, taps\], but has 2 dimensions"),
        ((x, weight[:8], h0, c0), r"weight must be \[4h, h, taps\] with h at least 1, but is \[8, 3, "),
        ((x[:, :8], weight, h0, c0), "x has 8 channels, but weight needs 4h = 12"),
        ((x, weight, h0[:2], c0), r"h0 must be \[3\], but is \[2\]"),
        ((x, weight, h0, c0[None]), r"c0 must be \[3\], but is \[1, 3\]"),
        ((x, weight.double(), h0, c0), "weight must have the dtype and device of x"),
        ((x.int(), weight.int(), h0.int(), c0.int()), "x must hold floating-point numbers"),
    ]:
        with pytest.raises(ValueError, match=message):
            operator(*bad)
    with pytest.raises(RuntimeError, match=r"The triton backend is not available here: .+"):
        operator(x, weight, h0, c0, backend="triton")
    with pytest.raises(ValueError, match="backend must be auto, reference, cpu, triton, cuda, not 'tpu'"):
        operator(x, weight, h0, c0, backend="tpu")


def units_in_the_last_place(actual: Tensor, exact: list[float]) -> float:
    """The largest error of float64 numbers."""
    return max(abs(a - e) / math.ulp(e) for a, e in zip(actual.tolist(), exact, strict=True))
