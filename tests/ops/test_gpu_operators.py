"""Every operator on a GPU, by every backend that it has there: any stream and device, CUDA graphs, torch.compile,
autocast, TF32, and more than 2**31 elements. What the kernels compute is in tests/kernels, in every dtype.

Without a GPU only the table of calls is tested, on the CPU.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import pytest
import torch
from torch import Tensor

from genfast import ops
from genfast.compiler.products import float32_products
from genfast.ops.backends import OPERATORS, why_not
from genfast.testing import MaskedConv2dCase, require_cuda
from tests.ops import gated_activations, logistic_mixtures, lstm_scans

GB = 2**30
ROOM = 60 * GB  # what the largest call below takes, with its gradients
FAR = 2**31


@dataclass(frozen=True, eq=False)
class Call:
    """function(backend, *inputs, *rest); the inputs have gradients, and grad is that of the result."""

    function: Callable[..., Tensor]
    inputs: list[Tensor]
    grad: Tensor
    rest: list[Tensor] = field(default_factory=list)

    def to(self, device: str, dtype: torch.dtype = torch.float32) -> "Call":
        leaves = [t.detach().to(device, dtype, copy=True).requires_grad_() for t in self.inputs]
        return Call(self.function, leaves, self.grad.to(device, dtype), [t.to(device) for t in self.rest])

    def run(self, backend: str) -> list[Tensor]:
        """The result and all gradients."""
        return self.run_with(backend, self.inputs)

    def run_with(self, backend: str, inputs: Sequence[Tensor]) -> list[Tensor]:
        out = self.function(backend, *inputs, *self.rest)
        return [out, *torch.autograd.grad(out, inputs, self.grad)]


def convolution(batch: int = 3, channels: int = 19) -> Call:
    case = MaskedConv2dCase(batch, channels, channels + 2, 9, 7, (3, 3), "B", 3, "channels_last")
    *inputs, grad = case.inputs(torch.float32)
    return Call(lambda backend, x, w, b: ops.masked_conv2d(x, w, b, "B", 3, backend), inputs, grad)


def gate() -> Call:
    x, grad = gated_activations.make_inputs(((3, 33, 9, 7), 3, "channels_last"), torch.float32)
    return Call(lambda backend, x: ops.gated_activation(x, 3, backend), [x], grad)


def recurrence(scan: lstm_scans.Scan) -> Call:
    *inputs, grad = lstm_scans.make_inputs((3, 19, 9, 7), scan.taps, torch.float32)
    return Call(lambda backend, *inputs: scan.on(backend)(*inputs), inputs, grad)


def mixture() -> Call:
    params, images, grad = logistic_mixtures.make_inputs((3, 3, 9, 7, 4, 256, "channels_last"), torch.float32)

    def function(backend: str, params: Tensor, images: Tensor) -> Tensor:
        return ops.logistic_mixture(params, images, 4, backend=backend)

    return Call(function, [params], grad, [images])


CALLS: dict[str, Callable[[], Call]] = {
    "masked_conv2d": convolution,
    "gated_activation": gate,
    "row_lstm": lambda: recurrence(lstm_scans.ROW),
    "diagonal_lstm": lambda: recurrence(lstm_scans.REVERSE),
    "logistic_mixture": mixture,
}
PAIRS = [(name, backend) for name, has in OPERATORS.items() for backend in ("cuda", "triton") if backend in has]
each = pytest.mark.parametrize(("name", "backend"), PAIRS)
PRODUCTS = ("masked_conv2d", "row_lstm", "diagonal_lstm")


def on_gpu(name: str, backend: str) -> Call:
    require_cuda()
    assert not why_not(backend), f"{backend}: {why_not(backend)}"
    return CALLS[name]().to("cuda")


def assert_same_bits(got: Sequence[Tensor], expected: Sequence[Tensor]) -> None:
    for a, b in zip(got, expected, strict=True):
        assert torch.equal(a.cpu(), b.cpu())


def test_every_operator_has_a_call() -> None:
    assert set(CALLS) == set(OPERATORS)


@pytest.mark.parametrize("name", CALLS)
def test_calls_are_right_on_the_cpu(name: str) -> None:
    call = CALLS[name]().to("cpu")
    expected = call.run("reference")
    assert all(float(t.detach().abs().max()) > 0 for t in expected)
    torch.testing.assert_close(call.run("auto"), expected, rtol=1e-4, atol=1e-4)


@each
def test_any_stream_and_any_device(name: str, backend: str) -> None:
    """A stream of the user's own: the operators wait for what it has queued, and their results are there for what
    follows; on each device, whichever is the current one."""
    call = on_gpu(name, backend)
    expected = call.run(backend)
    cpu = CALLS[name]().to("cpu")
    for index in range(torch.cuda.device_count()):
        late = call.to(f"cuda:{index}")
        for t in (*late.inputs, late.grad):
            t.detach().zero_()
        torch.cuda.synchronize(index)
        with torch.cuda.device(index), torch.cuda.stream(torch.cuda.Stream(index)):
            torch.cuda._sleep(100_000_000)
            for to, value in zip((*late.inputs, late.grad), (*cpu.inputs, cpu.grad), strict=True):
                to.detach().copy_(value.detach(), non_blocking=True)
            with torch.cuda.device(0):
                actual = late.run(backend)
            doubled = [2 * t for t in actual]
        torch.cuda.synchronize(index)
        assert_same_bits(doubled, [2 * t for t in expected])


@each
def test_cuda_graph(name: str, backend: str) -> None:
    """Forward and backward are captured once, and replayed for other numbers in the same memory."""
    call = on_gpu(name, backend)
    other = [torch.empty_like(t).copy_(t.detach().flip(0)) for t in call.inputs]
    expected = call.run_with(backend, [t.requires_grad_() for t in other])
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(2):
            call.run(backend)
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = call.run(backend)
    for t, value in zip(call.inputs, other, strict=True):
        t.detach().copy_(value.detach())
    graph.replay()
    torch.cuda.synchronize()
    assert_same_bits(captured, expected)


@each
@pytest.mark.slow
def test_torch_compile(name: str, backend: str) -> None:
    """One graph, forward and backward; of gated_activation "auto" too, which is code that the compiler makes."""
    call = on_gpu(name, backend)
    for how in (backend, "auto") if name == "gated_activation" else (backend,):
        torch.compiler.reset()

        def function(*args: Tensor, how: str = how) -> Tensor:
            return 2 * torch.relu(call.function(how, *args) + 1)

        fast = torch.compile(function, fullgraph=True)
        plain = function(*call.inputs, *call.rest)
        out = fast(*call.inputs, *call.rest)
        torch.testing.assert_close(out, plain, rtol=1e-4, atol=1e-4)
        theirs, mine = (torch.autograd.grad(o, call.inputs, call.grad) for o in (plain, out))
        torch.testing.assert_close(mine, theirs, rtol=1e-3, atol=1e-3)


@each
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_autocast(name: str, backend: str, dtype: torch.dtype) -> None:
    """Operators with products compute in its dtype, the others in that of their inputs; gradients are float32."""
    call = on_gpu(name, backend)
    with torch.autocast("cuda", dtype=dtype):
        out = call.function(backend, *call.inputs, *call.rest)
    assert out.dtype == (dtype if name in PRODUCTS else torch.float32)
    exact = call.function("reference", *(t.double() for t in call.inputs), *call.rest)
    torch.testing.assert_close(out.double(), exact, rtol=0, atol=0.03 * float(exact.abs().max()))
    assert all(g.dtype == torch.float32 for g in torch.autograd.grad(out, call.inputs, call.grad.to(out.dtype)))


@pytest.mark.parametrize(("name", "backend"), [pair for pair in PAIRS if pair[0] in PRODUCTS])
def test_tf32(name: str, backend: str) -> None:
    """Where it is allowed, factors may be rounded to 11 bits, and in Triton are; otherwise float32 is float32."""
    call = on_gpu(name, backend)
    exact = CALLS[name]().to("cpu", torch.float64).run("reference")
    results = {}
    for precision in ("ieee", "tf32"):
        with float32_products(precision):
            results[precision] = call.run(backend)
    for precision, bound in (("ieee", 2.0**-16), ("tf32", 2.0**-7)):
        for got, wanted in zip(results[precision], exact, strict=True):
            off = float((got.double().cpu() - wanted).abs().max() / wanted.abs().max())
            assert off < bound, f"{precision}: off by {off:.1e}"
    if backend == "triton":
        assert not torch.equal(results["ieee"][0], results["tf32"][0])


def large(name: str) -> Call:
    """More than 2**31 elements in the first input, of float16, channels_last, 32 x 32."""
    channels = {"logistic_mixture": 20}.get(name, 64)
    batch = FAR // (channels * 1024) + 1

    def image(planes: int) -> Tensor:
        shape = (batch, 32, 32, planes)
        return torch.empty(shape, dtype=torch.float16, device="cuda").normal_().permute(0, 3, 1, 2)

    def weight(*shape: int) -> Tensor:
        return torch.randn(*shape, dtype=torch.float16, device="cuda") / 8

    small = CALLS[name]()
    x = image(channels)
    assert x.numel() > FAR
    if name == "masked_conv2d":
        return Call(small.function, [x, weight(64, 64, 3, 3), weight(64)], image(64))
    if name == "gated_activation":
        return Call(lambda backend, x: ops.gated_activation(x, 1, backend), [x], image(32))
    if name == "logistic_mixture":
        images = torch.randint(0, 256, (batch, 3, 32, 32), dtype=torch.uint8, device="cuda")
        return Call(
            lambda backend, params, images: ops.logistic_mixture(params, images, 2, backend=backend),
            [x], torch.randn(batch, 32, 32, device="cuda"), [images],
        )  # fmt: skip
    taps = 3 if name == "row_lstm" else 2
    return Call(small.function, [x, weight(64, 16, taps), weight(16), weight(16)], image(16))


@each
@pytest.mark.slow
def test_more_than_two_to_the_31_elements(name: str, backend: str) -> None:
    """The last image, which begins beyond 2**31 elements, has the bits that it has alone, forward and backward."""
    on_gpu(name, backend)
    torch.cuda.empty_cache()
    if torch.cuda.mem_get_info()[0] < ROOM:
        pytest.skip(f"needs {ROOM // GB} GB of free GPU memory")
    torch.utils.deterministic.fill_uninitialized_memory = False  # NaN in so much memory takes longer than the kernels
    call = large(name)
    first, *others = (t.requires_grad_() for t in call.inputs)
    out, dx, *_ = call.run(backend)
    tail = Call(
        call.function, [first[-1:].detach().clone().requires_grad_(), *others], call.grad[-1:].clone(),
        [t[-1:].clone() for t in call.rest],
    )  # fmt: skip
    alone = tail.run(backend)
    assert_same_bits((out[-1:], dx[-1:]), alone[:2])
    assert bool(out[-1].isfinite().all())
    assert float(out[-1].abs().max()) > 0
