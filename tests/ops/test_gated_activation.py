"""gated_activation as a PyTorch operator: every backend that runs here against the reference, and the machinery around
it."""

from functools import partial

import pytest
import torch
from torch import Tensor

from genfast import ops
from genfast.kernels.gated_activation.reference import gated_activation as reference
from genfast.ops.backends import BACKENDS, why_not
from genfast.testing import assert_close_to_reference, rerun_on
from tests.ops.gated_activations import CASES, Case, gradients, make_inputs, run_reference

DTYPES = [torch.float32, torch.float64, torch.bfloat16]
needs_extension = pytest.mark.skipif(bool(why_not("cpu")), reason=why_not("cpu") or "built")
on_cpu = partial(ops.gated_activation, backend="cpu")


@needs_extension
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_cpu_equals_reference(case: Case, dtype: torch.dtype) -> None:
    x, grad = make_inputs(case, dtype)
    results = gradients(on_cpu, x, grad, case[1])
    assert_close_to_reference(results, run_reference, (x, grad, case[1]), dtype, names=("out", "dx"))
    last = case[2] == "channels_last"
    for t in results:
        assert t.is_contiguous(memory_format=torch.channels_last if last else torch.contiguous_format)


@needs_extension
@pytest.mark.slow
@pytest.mark.parametrize("isa", ["generic", "avx2"])
def test_other_instruction_sets(isa: str) -> None:
    rerun_on(isa, "test_cpu_equals_reference or bits or extremes", __file__)


def test_each_colour_has_both_of_its_halves() -> None:
    x = torch.randn(2, 12, 3, 5)
    for backend in ("reference", "auto"):
        y = ops.gated_activation(x, 3, backend)
        for color in range(3):
            f, g = x[:, 4 * color : 4 * color + 2], x[:, 4 * color + 2 : 4 * color + 4]
            torch.testing.assert_close(y[:, 2 * color : 2 * color + 2], f.tanh() * g.sigmoid())
        f, g = x.chunk(2, 1)
        torch.testing.assert_close(ops.gated_activation(x, backend=backend), f.tanh() * g.sigmoid())


@needs_extension
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
def test_bits_do_not_depend_on_batch_or_threads(layout: str, dtype: torch.dtype) -> None:
    """Large enough that threads are used, whose shares end within runs."""
    x, grad = make_inputs(((9, 33, 13, 17), 3, layout), dtype)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        once = gradients(on_cpu, x, grad, 3)
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            assert all(torch.equal(a, b) for a, b in zip(gradients(on_cpu, x, grad, 3), once, strict=True))
            for b in (0, 4, 8):
                alone = gradients(on_cpu, x[b : b + 1], grad[b : b + 1], 3)
                assert all(torch.equal(a[0], whole[b]) for a, whole in zip(alone, once, strict=True))
    finally:
        torch.set_num_threads(before)


@needs_extension
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_extremes(dtype: torch.dtype) -> None:
    """Saturated gates are finite, forward and backward; a NaN stays where it is."""
    largest = torch.finfo(dtype).max
    ends = torch.tensor([0.0, -0.0, 1e-30, 100, -100, largest, -largest, float("inf"), -float("inf")], dtype=dtype)
    f, g = ends.repeat_interleave(9), ends.repeat(9)
    x = torch.stack((f, g))[None, :, None]  # [1, 2, 1, 81]
    out, dx = gradients(on_cpu, x, torch.ones_like(x[:, :1]), 1)
    exact, dexact = gradients(reference, x.double(), torch.ones_like(x[:, :1]).double(), 1)
    torch.testing.assert_close(out.double(), exact, rtol=0, atol=2 * torch.finfo(dtype).eps)
    torch.testing.assert_close(dx.double(), dexact, rtol=0, atol=2 * torch.finfo(dtype).eps)
    for at in ((0, 0, 0, 5), (0, 1, 0, 5)):
        wrong = torch.zeros(1, 2, 1, 40, dtype=dtype)
        wrong[at] = float("nan")
        assert on_cpu(wrong).isnan().nonzero().tolist() == [[0, 0, 0, 5]]


@pytest.mark.parametrize("backend", ["reference", "auto"])
@pytest.mark.parametrize("groups", [1, 2])
def test_gradients_of_first_second_and_third_order(groups: int, backend: str) -> None:
    x = torch.randn(2, 8, 2, 3, dtype=torch.float64, requires_grad=True)

    def function(x: Tensor) -> Tensor:
        return ops.gated_activation(x, groups, backend)

    def slope(x: Tensor) -> Tensor:
        return torch.autograd.grad(function(x).square().sum(), x, create_graph=True)[0]

    assert torch.autograd.gradcheck(function, x)
    assert torch.autograd.gradgradcheck(function, x)
    assert torch.autograd.gradgradcheck(slope, x)


@needs_extension
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("layout", ["contiguous", "channels_last", "swapped"])
def test_opcheck(dtype: torch.dtype, layout: str) -> None:
    x, grad = make_inputs(((2, 6, 3, 4), 3, layout), dtype)
    how = (3, BACKENDS.index("cpu"))
    torch.library.opcheck(torch.ops.genfast.gated_activation, (x.requires_grad_(), *how))
    torch.library.opcheck(torch.ops.genfast.gated_activation_bwd, (grad, x.detach(), *how))


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["auto", pytest.param("cpu", marks=needs_extension)])
def test_torch_compile_gives_one_graph_and_the_same_numbers(backend: str) -> None:
    x, grad = make_inputs(((2, 6, 3, 4), 3, "channels_last"), torch.float32)

    def function(x: Tensor, color_groups: int) -> Tensor:
        return 2 * ops.gated_activation(x, color_groups, backend)

    expected = gradients(function, x, grad, 3)
    actual = gradients(torch.compile(function, fullgraph=True), x, grad, 3)
    torch.testing.assert_close(actual, expected)


def test_torch_export_sees_plain_pytorch() -> None:
    class Net(torch.nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return ops.gated_activation(x)

    x = torch.randn(2, 4, 3, 3)
    program = torch.export.export(Net(), (x,))
    assert "genfast" not in str(program.graph)
    torch.testing.assert_close(program.module()(x), Net()(x))


def test_autocast_leaves_the_dtype_alone() -> None:
    """As it does those of tanh and sigmoid."""
    for dtype in (torch.float32, torch.bfloat16):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert ops.gated_activation(torch.randn(1, 2, 3, 3, dtype=dtype)).dtype == dtype


def test_bad_arguments_are_sentences() -> None:
    x = torch.randn(1, 6, 3, 3)
    for bad, groups, message in [
        (x[0], 1, r"x must be \[B, 2h, H, W\], but has 3 dimensions"),
        (x[:, :5], 1, "two halves for each of 1 colour groups, but has 5 channels"),
        (x, 2, "two halves for each of 2 colour groups, but has 6 channels"),
        (x, 0, "two halves for each of 0 colour groups"),
        (x[:, :0], 1, "but has 0 channels"),
    ]:
        with pytest.raises(ValueError, match=message):
            ops.gated_activation(bad, groups)
    with pytest.raises(RuntimeError, match="cuda backend is not available here"):
        ops.gated_activation(x, backend="cuda")


@needs_extension
def test_dtypes_that_the_kernel_does_not_take_are_sentences() -> None:
    with pytest.raises(RuntimeError, match="takes float32, float64 or bfloat16"):
        on_cpu(torch.randn(1, 2, 3, 3).half())
    x = torch.randn(1, 4, 3, 3)
    with pytest.raises(RuntimeError, match="grad must have the dtype of x and half of its channels"):
        torch.ops.genfast.gated_activation_bwd(x, x, 1, BACKENDS.index("cpu"))
