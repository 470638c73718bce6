"""masked_conv2d as a PyTorch operator: every backend that runs here against the reference, and the machinery around
it."""

import os
import subprocess
import sys
from itertools import product

import pytest
import torch
from torch import Tensor

from genfast import ops
from genfast.kernels.masked_conv2d.mask import MASK_TYPES, causal_mask
from genfast.kernels.masked_conv2d.reference import masked_conv2d as reference
from genfast.ops.backends import BACKENDS, why_not
from genfast.testing import MASKED_CONV2D_CASES, MaskedConv2dCase, assert_close_to_reference, rerun_on

HOW = (MASK_TYPES.index("B"), 1, BACKENDS.index("cpu"))  # as the schemas take it
DTYPES = [torch.float32, torch.float64, torch.bfloat16]
needs_extension = pytest.mark.skipif(bool(why_not("cpu")), reason=why_not("cpu") or "built")


def gradients(function, x, weight, bias, grad, mask_type, color_groups):
    """Output and the gradients of everything that goes in."""
    inputs = [t.detach().requires_grad_() for t in (x, weight, bias) if t is not None]  # strides and all
    out = function(*inputs[:2], inputs[2] if bias is not None else None, mask_type, color_groups)
    return [out, *torch.autograd.grad(out, inputs, grad)]


@needs_extension
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("case", MASKED_CONV2D_CASES, ids=lambda c: c.id)
def test_cpu_equals_reference(case: MaskedConv2dCase, dtype: torch.dtype) -> None:
    x, weight, bias, grad = case.inputs(dtype)
    masked = causal_mask(*weight.shape[:2], case.kernel_size, case.mask_type, case.color_groups) == 0
    poisoned = weight.masked_fill(masked, float("nan"))  # a masked weight is never read
    how = (case.mask_type, case.color_groups)

    def run_reference(x: Tensor, weight: Tensor, bias: Tensor | None, grad: Tensor) -> list[Tensor]:
        return gradients(reference, x, weight, bias, grad, *how)

    results = gradients(lambda *a: ops.masked_conv2d(*a, backend="cpu"), x, poisoned, bias, grad, *how)
    names = ("y", "dx", "dweight", "dbias")
    assert_close_to_reference(results, run_reference, (x, weight, bias, grad), dtype, names=names)
    assert bool((results[2][masked] == 0).all())


@needs_extension
@pytest.mark.slow
@pytest.mark.parametrize("isa", ["generic", "avx2"])
def test_other_instruction_sets(isa: str) -> None:
    rerun_on(isa, "test_cpu_equals_reference or batch_invariant", __file__)


@needs_extension
def test_unknown_instruction_set_is_refused_in_a_sentence() -> None:
    code = "import genfast.ops.backends as b; b.isa()"
    environment = {**os.environ, "GENFAST_CPU": "mmx"}
    run = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert run.returncode == 1
    assert 'GENFAST_CPU is "mmx"' in run.stderr


@needs_extension
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
@pytest.mark.parametrize("kernel_size", [(1, 1), (5, 3)], ids=str)
def test_results_are_batch_invariant_to_the_bit(kernel_size: tuple[int, int], layout: str, dtype: torch.dtype) -> None:
    """Whatever the batch, the position in it and the number of threads; large enough that threads are used."""
    case = MaskedConv2dCase(9, 33, 64, 13, 17, kernel_size, "B", layout=layout)
    x, weight, bias, grad = case.inputs(dtype)

    def results(part: slice) -> list[Tensor]:
        return [
            torch.ops.genfast.masked_conv2d(x[part], weight, bias, *HOW),
            torch.ops.genfast.masked_conv2d_bwd_input(grad[part], weight, *HOW),
            *torch.ops.genfast.masked_conv2d_bwd_weight(grad[part], x[part], *kernel_size, *HOW),
        ]

    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        once = results(slice(None))
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            assert all(torch.equal(a, b) for a, b in zip(results(slice(None)), once, strict=True))
            for b in (0, 4, 8):
                y, dx, _, _ = results(slice(b, b + 1))
                assert torch.equal(y[0], once[0][b])
                assert torch.equal(dx[0], once[1][b])
    finally:
        torch.set_num_threads(before)


@needs_extension
@pytest.mark.parametrize(
    ("channels", "outputs", "side", "batch"), [(0, 3, 4, 2), (3, 0, 4, 2), (3, 4, 0, 2), (3, 4, 4, 0)]
)
def test_empty_tensors(channels: int, outputs: int, side: int, batch: int) -> None:
    x = torch.randn(batch, channels, side, 4, requires_grad=True)
    weight, bias = torch.randn(outputs, channels, 3, 3, requires_grad=True), torch.randn(outputs, requires_grad=True)
    y = ops.masked_conv2d(x, weight, bias, backend="cpu")
    assert torch.equal(y, bias[None, :, None, None].expand(batch, outputs, side, 4))
    y.sum().backward()
    assert torch.equal(bias.grad, torch.full((outputs,), float(batch * side * 4)))
    assert not weight.grad.any()
    assert x.grad.shape == x.shape


@needs_extension
@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
def test_output_keeps_the_memory_format(layout: str) -> None:
    x, weight, bias, _ = MaskedConv2dCase(2, 8, 6, 5, 7, (3, 3), "B", layout=layout).inputs(torch.float32)
    y = ops.masked_conv2d(x, weight, bias, backend="cpu")
    assert y.is_contiguous(memory_format=torch.channels_last if layout == "channels_last" else torch.contiguous_format)


@needs_extension
@pytest.mark.parametrize(("mask_type", "groups"), [("A", 1), ("B", 1), ("A", 3), ("B", 3), ("VA", 1), ("VB", 1)])
def test_gradients_of_first_and_second_order(mask_type: str, groups: int) -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 2, 3, 4, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(3, 2, 3, 3, dtype=torch.float64, requires_grad=True)
    bias = torch.randn(3, dtype=torch.float64, requires_grad=True)

    def function(*inputs: Tensor) -> Tensor:
        return ops.masked_conv2d(*inputs, mask_type, groups, backend="cpu")

    assert torch.autograd.gradcheck(function, (x, weight, bias))
    assert torch.autograd.gradgradcheck(function, (x, weight, bias))


@needs_extension
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
def test_opcheck(dtype: torch.dtype, layout: str) -> None:
    x, weight, bias, grad = MaskedConv2dCase(2, 6, 9, 5, 4, (3, 3), "B", 3, layout).inputs(dtype)
    named = torch.ops.genfast
    how = (MASK_TYPES.index("B"), 3, BACKENDS.index("cpu"))
    inputs = [t.requires_grad_() for t in (x, weight, bias)]
    torch.library.opcheck(named.masked_conv2d, (*inputs, *how))
    torch.library.opcheck(named.masked_conv2d, (x, weight, None, *how))
    torch.library.opcheck(named.masked_conv2d_bwd_input, (grad, weight, *how))
    torch.library.opcheck(named.masked_conv2d_bwd_weight, (grad, x, 3, 3, *how))


@pytest.mark.slow
@needs_extension
def test_torch_compile_gives_one_graph_and_the_same_numbers() -> None:
    x, weight, bias, grad = MaskedConv2dCase(2, 6, 9, 5, 4, (3, 3), "B", 3).inputs(torch.float32)

    def function(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return torch.relu(ops.masked_conv2d(x, weight, bias, "B", 3)) * 2

    inputs = [t.requires_grad_() for t in (x, weight, bias)]
    expected = function(*inputs)
    actual = torch.compile(function, fullgraph=True)(*inputs)
    torch.testing.assert_close(actual, expected)
    for a, e in zip(
        torch.autograd.grad(actual, inputs, grad), torch.autograd.grad(expected, inputs, grad), strict=True
    ):
        torch.testing.assert_close(a, e)


@needs_extension
def test_torch_export_keeps_the_operator() -> None:
    class Net(torch.nn.Module):
        def forward(self, x: Tensor, weight: Tensor) -> Tensor:
            return ops.masked_conv2d(x, weight)

    x, weight = torch.randn(2, 3, 4, 4), torch.randn(5, 3, 3, 3)
    program = torch.export.export(Net(), (x, weight))
    assert "genfast.masked_conv2d" in str(program.graph)
    torch.testing.assert_close(program.module()(x, weight), Net()(x, weight))


@pytest.mark.parametrize("backend", ["auto", "reference"])
def test_autocast_computes_in_its_dtype_and_returns_float32_gradients(backend: str) -> None:
    x, weight, bias, grad = MaskedConv2dCase(2, 6, 9, 5, 4, (3, 3), "B").inputs(torch.float32)
    inputs = [t.requires_grad_() for t in (x, weight, bias)]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = ops.masked_conv2d(*inputs, backend=backend)
    assert y.dtype == torch.bfloat16
    # The inputs are rounded, the sum is not: only the rounding of the output itself separates this from float32.
    exact = reference(x.bfloat16().float(), weight.bfloat16().float(), bias.bfloat16().float())
    torch.testing.assert_close(y.float(), exact, rtol=2**-8, atol=1e-6)
    assert all(g.dtype == torch.float32 for g in torch.autograd.grad(y, inputs, grad.bfloat16()))


@pytest.mark.parametrize(("kh", "kw", "mask_type", "groups"), list(product((1, 3), (1, 5), ("A", "B"), (1, 3))))
def test_mask_is_causal_and_complete(kh: int, kw: int, mask_type: str, groups: int) -> None:
    """Against the definition: rows above, then columns to the left, then colours before (and its own, for B)."""
    outputs, inputs = 6, 4
    mask = causal_mask(outputs, inputs, (kh, kw), mask_type, groups)
    for o, i, y, x in product(range(outputs), range(inputs), range(kh), range(kw)):
        before = (y, x) < (kh // 2, kw // 2)
        here = (y, x) == (kh // 2, kw // 2)
        own, other = o * groups // outputs, i * groups // inputs
        assert mask[o, i, y, x] == (before or (here and (other < own or (other == own and mask_type == "B"))))


def test_bad_arguments_are_sentences() -> None:
    x, weight = torch.randn(1, 2, 4, 4), torch.randn(3, 2, 3, 3)
    with pytest.raises(ValueError, match=r"mask_type must be one of A, B, VA, VB, not 'C'\."):
        ops.masked_conv2d(x, weight, mask_type="C")
    with pytest.raises(ValueError, match="must be odd and positive"):
        ops.masked_conv2d(x, torch.randn(3, 2, 4, 4))
    with pytest.raises(ValueError, match="reads whole rows"):
        ops.masked_conv2d(x, weight, mask_type="VB", color_groups=3)
    with pytest.raises(ValueError, match="backend must be auto, reference, cpu, triton, cuda, not 'tpu'"):
        ops.masked_conv2d(x, weight, backend="tpu")
    with pytest.raises(ValueError, match=r"weight must be \[O, I, kh, kw\]"):
        ops.masked_conv2d(x, weight[0])


@needs_extension
def test_shapes_and_dtypes_that_do_not_fit_are_sentences() -> None:
    x, weight = torch.randn(1, 2, 4, 4), torch.randn(3, 2, 3, 3)
    for bad, message in [
        ((x[:, :1], weight), "x has 1 channels, but weight needs 2"),
        ((x[0], weight), "must be .B, C, H, W., but has 3 dimensions"),
        ((x.double(), weight), "one dtype"),
        ((x.half(), weight.half()), "takes float32, float64 or bfloat16"),
        ((x, weight, torch.randn(4)), "bias must be .3."),
    ]:
        with pytest.raises(RuntimeError, match=message):
            ops.masked_conv2d(*bad, backend="cpu")


@pytest.mark.parametrize("backend", ["triton", "cuda"])
@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_backend_that_is_not_there_says_why(backend: str) -> None:
    with pytest.raises(RuntimeError, match=f"The {backend} backend is not available here: .+"):
        ops.masked_conv2d(torch.randn(1, 2, 4, 4), torch.randn(3, 2, 3, 3), backend=backend)


def test_without_the_extension_auto_is_the_reference(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("genfast.ops.backends.NO_EXTENSION", "the extension is not built")
    x, weight = torch.randn(1, 2, 4, 4), torch.randn(3, 2, 3, 3)
    assert torch.equal(ops.masked_conv2d(x, weight), reference(x, weight))
    with pytest.raises(RuntimeError, match="The cpu backend is not available here: the extension is not built"):
        ops.masked_conv2d(x, weight, backend="cpu")
