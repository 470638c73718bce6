"""row_lstm and diagonal_lstm as PyTorch operators: every backend that runs here against the reference, and the
machinery around it, for each way over the image. Which pixels a scan reads: test_row_lstm.py, test_diagonal_lstm.py."""

import pytest
import torch
from torch import Tensor

from genfast.ops.backends import BACKENDS, why_not
from genfast.testing import assert_close_to_reference, rerun_on
from tests.ops.lstm_scans import (
    CASES,
    DIAGONAL,
    DTYPES,
    REVERSE,
    ROW,
    RUNNABLE,
    SCANS,
    SIZES,
    WIDTHS,
    Scan,
    gradients,
    make_inputs,
)

needs_extension = pytest.mark.skipif(bool(why_not("cpu")), reason=why_not("cpu") or "built")
each_scan = pytest.mark.parametrize("scan", SCANS, ids=str)
each_operator = pytest.mark.parametrize("scan", [ROW, DIAGONAL], ids=str)
each_backend = pytest.mark.parametrize("backend", RUNNABLE)
each_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=str)


@each_backend
@each_scan
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_gradients_are_those_of_the_loop(size: tuple[int, int], scan: Scan, backend: str) -> None:
    """Those that autograd finds in it, in float64."""
    for hidden in (1, 3):
        *inputs, grad = make_inputs((2, hidden, *size), scan.taps)
        expected = gradients(scan.reference, inputs, grad)
        torch.testing.assert_close(gradients(scan.on(backend), inputs, grad), expected)


@each_backend
@each_scan
def test_gradcheck(scan: Scan, backend: str) -> None:
    inputs = [t.requires_grad_() for t in make_inputs((2, 2, 3, 4), scan.taps)[:4]]
    assert torch.autograd.gradcheck(scan.on(backend), inputs)


def check_against_reference(scan: Scan, backend: str, case: tuple, dtype: torch.dtype) -> None:
    """h and every gradient in the budget of genfast.testing, and the memory format of x.

    With one hidden channel dh0 and dc0 are one number each, a sum of terms that cancel: the error that PyTorch happens
    to make there is luck and no measure. test_gradients_are_those_of_the_loop compares those in float64.
    """
    shape, layout = case
    *inputs, grad = make_inputs(shape, scan.taps, dtype, layout)
    measured = 3 if shape[1] == 1 else 5

    def run_reference(*args: Tensor) -> list[Tensor]:
        return gradients(scan.reference, args[:4], args[4])[:measured]

    actual = gradients(scan.on(backend), inputs, grad)
    names = ("h", "dx", "dweight", "dh0", "dc0")
    assert_close_to_reference(actual[:measured], run_reference, (*inputs, grad), dtype, names=names)
    last = layout == "channels_last"
    assert actual[0].is_contiguous(memory_format=torch.channels_last if last else torch.contiguous_format)
    with torch.no_grad():  # nothing is kept, and the numbers are the same
        assert torch.equal(scan.on(backend)(*inputs), actual[0])


@each_backend
@pytest.mark.parametrize("scan", [*SCANS, *WIDTHS], ids=str)
@each_dtype
@pytest.mark.parametrize("case", CASES, ids=str)
def test_backends_equal_reference(case: tuple, dtype: torch.dtype, scan: Scan, backend: str) -> None:
    check_against_reference(scan, backend, case, dtype)


@needs_extension
@each_operator
def test_mnist_size(scan: Scan) -> None:
    """Where errors have many steps to grow."""
    check_against_reference(scan, "cpu", ((2, 5, 28, 28), "channels_last"), torch.float32)


@needs_extension
@each_operator
@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
def test_maps_in_large_pages(layout: str, scan: Scan) -> None:
    """From a megabyte on maps lie in memory of their own (csrc/support/large_pages.h), as h, gates, c and dx here."""
    *inputs, grad = make_inputs((128, 16, 8, 16), scan.taps, torch.float32, layout)
    h, dx, *others = gradients(scan.on("cpu"), inputs, grad)
    memory_format = torch.channels_last if layout == "channels_last" else torch.contiguous_format
    assert h.is_contiguous(memory_format=memory_format)
    again = gradients(scan.on("cpu"), (inputs[0][5:6], *inputs[1:]), grad[5:6])
    assert torch.equal(h[5:6], again[0])
    assert torch.equal(dx[5:6], again[1])
    assert all(bool(t.isfinite().all()) for t in others)


@needs_extension
@pytest.mark.slow
@pytest.mark.parametrize("isa", ["generic", "avx2"])
def test_other_instruction_sets(isa: str) -> None:
    rerun_on(isa, "test_backends_equal_reference or bits or huge", __file__)


@needs_extension
@each_scan
@each_dtype
def test_bits_do_not_depend_on_batch_or_threads(dtype: torch.dtype, scan: Scan) -> None:
    """h and dx do not depend on the batch, the position in it or the threads; the other gradients not on the threads.
    Large enough that threads are used."""
    *inputs, grad = make_inputs((19, 19, 14, 13), scan.taps, dtype, "channels_last")

    def results(part: slice) -> list[Tensor]:
        return gradients(scan.on("cpu"), (inputs[0][part], *inputs[1:]), grad[part])

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


@needs_extension
@each_operator
@each_dtype
def test_huge_inputs_stay_finite(dtype: torch.dtype, scan: Scan) -> None:
    """Pre-activations up to the largest number there is saturate the gates; outputs and gradients stay finite."""
    *inputs, grad = make_inputs((2, 5, 4, 5), scan.taps, dtype)
    inputs[0] = (inputs[0].sign() * torch.finfo(dtype).max / 2).contiguous()
    inputs[0][:, :, 0, 0] = 0
    inputs[0][:, :, 1, 1] = 100
    assert all(bool(t.isfinite().all()) for t in gradients(scan.on("cpu"), inputs, grad))


@needs_extension
@each_operator
def test_vanishing_gradients(scan: Scan) -> None:
    """Gradients that fade below the smallest normal number are zero or what they should be, never NaN; the thread's
    treatment of subnormal numbers is as it was."""
    *inputs, grad = make_inputs((2, 5, 6, 6), scan.taps, torch.float32)
    h, dx, *others = gradients(scan.on("cpu"), inputs, grad * 1e-38)
    assert all(bool(t.isfinite().all()) for t in (h, dx, *others))
    assert float(torch.tensor(1e-30) * torch.tensor(1e-10)) > 0


@needs_extension
@each_operator
@pytest.mark.parametrize("shape", [(0, 3, 4, 5), (2, 3, 0, 5), (2, 3, 4, 0)], ids=str)
def test_empty_maps(shape: tuple[int, int, int, int], scan: Scan) -> None:
    *inputs, grad = make_inputs(shape, scan.taps, torch.float32)
    h, dx, *others = gradients(scan.on("cpu"), inputs, grad)
    assert h.shape == grad.shape
    assert dx.shape == inputs[0].shape
    assert not any(bool(t.any()) for t in others)


@each_backend
@pytest.mark.parametrize("keep", [False, True])
@pytest.mark.parametrize("scan", [ROW, REVERSE], ids=str)
@each_dtype
@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
def test_opcheck(layout: str, dtype: torch.dtype, scan: Scan, keep: bool, backend: str) -> None:
    x, weight, h0, c0, grad = make_inputs((2, 3, 3, 4), scan.taps, dtype, layout)
    how = BACKENDS.index(backend)
    forward, backward = getattr(torch.ops.genfast, scan.name), getattr(torch.ops.genfast, f"{scan.name}_bwd")
    leaves = [t.requires_grad_(keep) for t in (x, weight, h0, c0)]
    torch.library.opcheck(forward, (*leaves, *scan.way, keep, how))
    kept = [t.detach() for t in forward(*leaves, *scan.way, True, how)]
    torch.library.opcheck(backward, (grad, *kept, *(t.detach() for t in leaves[1:]), *scan.way, how))


@each_backend
@each_operator
def test_a_second_derivative_is_refused(scan: Scan, backend: str) -> None:
    inputs = [t.requires_grad_() for t in make_inputs((1, 2, 3, 3), scan.taps)[:4]]
    (dx,) = torch.autograd.grad(scan.on(backend)(*inputs).sum(), inputs[0], create_graph=True)
    with pytest.raises(RuntimeError, match=rf"^{scan.name} has first derivatives only: .+ plain PyTorch\.$"):
        dx.square().sum().backward()


@each_backend
@each_operator
def test_a_gradient_that_is_not_there(scan: Scan, backend: str) -> None:
    """A function after the operator may give none: then there is none of the inputs."""

    class Cut(torch.autograd.Function):
        @staticmethod
        def forward(ctx: object, h: Tensor) -> Tensor:
            return h.clone()

        @staticmethod
        def backward(ctx: object, grad: Tensor) -> None:
            return None

    inputs = [t.requires_grad_() for t in make_inputs((1, 2, 3, 3), scan.taps)[:4]]
    out = Cut.apply(scan.on(backend)(*inputs)).sum()
    assert torch.autograd.grad(out, inputs, allow_unused=True) == (None,) * 4


@pytest.mark.slow
@each_backend
@each_operator
def test_torch_compile(scan: Scan, backend: str) -> None:
    """One graph, the same numbers, forward and backward."""
    *inputs, grad = make_inputs((2, 3, 3, 4), scan.taps, torch.float32)

    def function(*args: Tensor) -> Tensor:
        return torch.relu(scan.on(backend)(*args)) * 2

    expected = gradients(function, inputs, grad)
    actual = gradients(torch.compile(function, fullgraph=True), inputs, grad)
    torch.testing.assert_close(actual, expected)


@each_backend
@each_operator
def test_autocast(scan: Scan, backend: str) -> None:
    """Computed in bfloat16, with float32 gradients; the same numbers as for inputs that were bfloat16 before."""
    *inputs, grad = make_inputs((2, 5, 4, 3), scan.taps, torch.float32)
    leaves = [t.requires_grad_() for t in inputs]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        h = scan.on(backend)(*leaves)
    assert h.dtype == torch.bfloat16
    assert torch.equal(h, scan.on(backend)(*(t.detach().bfloat16() for t in inputs)))
    assert all(g.dtype == torch.float32 for g in torch.autograd.grad(h, leaves, grad.bfloat16()))


@each_operator
def test_bad_inputs_are_sentences(scan: Scan) -> None:
    x, weight, h0, c0, _ = make_inputs((2, 3, 4, 5), scan.taps, torch.float32)
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
            scan.function(*bad)
    with pytest.raises(RuntimeError, match=r"The triton backend is not available here: .+"):
        scan.function(x, weight, h0, c0, backend="triton")
    with pytest.raises(ValueError, match="backend must be auto, reference, cpu, triton, cuda, not 'tpu'"):
        scan.function(x, weight, h0, c0, backend="tpu")
