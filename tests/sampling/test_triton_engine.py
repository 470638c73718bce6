"""The triton engine: interpreted on the CPU, and compiled for GPUs that are not there."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import genfast
from genfast.compiler.plan import Instruction, Kernel, Slice, Store
from genfast.compiler.program import Constant, Linear, Read, Tap
from genfast.errors import NotSupported
from genfast.sampling.sampler import example_conditions
from genfast.sampling.triton_lanes import SCRATCH, Lane, LaneStore, lanes_of
from genfast.testing import require_cuda
from tests.kernels.apart import run_in_process
from tests.kernels.gates import assert_fits

pytest.importorskip("triton")
from tests.sampling.triton_engine_checks import FAMILIES, names

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def interpreted() -> dict[str, str]:
    return run_in_process(HERE / "triton_engine_checks.py", [], {"TRITON_INTERPRET": "1"})


@pytest.mark.parametrize("name", names())
def test_interpreted(interpreted: dict[str, str], name: str) -> None:
    assert not interpreted[name], interpreted[name]


def test_all_batches_share_their_compilations(tmp_path: Path) -> None:
    """And what the launches are called with is what Triton's compiler takes."""
    found = run_in_process(HERE / "triton_engine_compile.py", ["jit"], {"TRITON_CACHE_DIR": str(tmp_path)})
    assert found["64"] == found["1"] > 5


@pytest.mark.slow
def test_compiles_for_gpus_without_spills(tmp_path: Path) -> None:
    report = run_in_process(HERE / "triton_engine_compile.py", [], {"TRITON_CACHE_DIR": str(tmp_path)})
    assert len(report) >= 40
    assert_fits(report)


AT = np.zeros(1, np.int32)


def kernel(width: int, body: tuple[Instruction, ...], stores: tuple[Store, ...], bias: float = 0.0) -> Kernel:
    head = Linear(0, (Tap(Read(0, 0, 4, AT), np.ones((4, width))),), Constant(np.full((1, 1), bias), AT))
    return Kernel("a kernel", head, body, stores)


def test_a_gate_is_two_sums_side_by_side() -> None:
    tanh, sigmoid = Instruction("tanh", (Slice(0, 0, 8),), 8), Instruction("sigmoid", (Slice(0, 8, 8),), 8)
    product = Instruction("mul", (Slice(1, 0, 8), Slice(2, 0, 8)), 8)
    gate = kernel(16, (tanh, sigmoid, product), (Store(3, 5, 0, 8), Store(0, 6, 0, 16)))
    (launch,) = lanes_of(gate, 16)
    assert [head.column for head in launch.heads()] == [0, 8]
    assert (launch.width, launch.has_head) == (8, True)
    assert [(s.value, s.column) for s in launch.stores] == [(5, 0), (6, 0), (6, 8)]
    assert launch.body[launch.stores[1].register] == Lane("head", None, 0)


def test_what_does_not_fit_goes_through_scratch() -> None:
    """Five sums side by side are too many, and so is one number of a product that serves all lanes."""
    fifths = tuple(Instruction("neg", (Slice(0, 4 * i, 4),), 4) for i in range(5))
    stores = (*(Store(1 + i, 5, 4 * i, 4) for i in range(5)), Store(0, 6, 0, 20))
    first, second = lanes_of(kernel(20, fifths, stores, bias=1.0), 20)
    assert [lane.op for lane in first.body] == ["head", "constant", "add"]
    assert first.stores == [LaneStore(2, 6, 0), LaneStore(2, None, 0)]
    assert [(lane.source, lane.column) for lane in second.body if lane.op == "read"] == [
        (SCRATCH, 4 * i) for i in range(5)
    ]
    broadcast = Instruction("mul", (Slice(0, 0, 8), Slice(0, 3, 1)), 8)
    first, second = lanes_of(kernel(8, (broadcast,), (Store(1, 5, 0, 8),)), 8)
    assert second.body[:2] == [Lane("read", SCRATCH, 0, False), Lane("read", SCRATCH, 3, True)]


def test_without_a_gpu_it_says_so() -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    model = FAMILIES["gated"]()
    with pytest.raises(NotSupported, match=r"it runs on a GPU, .* and the model is on cpu: no CUDA device is usable"):
        genfast.compile_sampler(model, "triton")
    with pytest.raises(NotSupported, match="auto has only the triton engine for tf32"):
        genfast.compile_sampler(model, precision="tf32")


def test_auto_takes_no_engine_that_disagrees(monkeypatch: pytest.MonkeyPatch) -> None:
    """For a model on a GPU: as if the eager engine, which can run anywhere, were the triton engine there."""
    from genfast.sampling import incremental, sampler

    model = FAMILIES["gated"]()
    make = incremental.make_engine
    monkeypatch.setattr(sampler, "preferred", lambda model, precision: "triton")
    monkeypatch.setattr(incremental, "why_not", lambda engine, model: "")
    monkeypatch.setattr(incremental, "make_engine", lambda model, engine, *rest: make(model, "eager", *rest))
    made = genfast.compile_sampler(model)
    assert (made.engine, made.reason) == ("triton", "")

    def broken(model: nn.Module, *rest: object) -> object:
        engine = make(FAMILIES["gated"](), "eager", *rest[1:])  # type: ignore[arg-type]
        engine.tensors.clear()  # type: ignore[attr-defined]
        engine.on_device = lambda array, dtype: torch.from_numpy(array).to(dtype) * 1.1  # type: ignore[attr-defined]
        return engine

    monkeypatch.setattr(incremental, "make_engine", broken)
    made = genfast.compile_sampler(model)
    assert (made.engine, made.reason) == ("jacobi", "the triton engine does not agree with a forward pass of the model")
    monkeypatch.setattr(incremental, "agrees", lambda *args: 1 / 0)
    made = genfast.compile_sampler(model)
    assert made.engine == "jacobi"
    assert "does not run here (ZeroDivisionError" in made.reason


@pytest.mark.parametrize("name", FAMILIES)
def test_on_a_gpu(name: str) -> None:
    require_cuda()
    torch.manual_seed(0)
    model = FAMILIES[name]().cuda()
    condition = tuple(c[[0, 1] * 4] for c in example_conditions(model)) or None
    sampler, eager = (genfast.compile_sampler(model, engine) for engine in ("triton", "eager"))
    drawn = sampler.sample(8, condition=condition)
    assert torch.equal(drawn, eager.sample(8, condition=condition))
    assert torch.equal(sampler.sample(8, condition=condition, batch_size=3), drawn)
    assert torch.equal(sampler.last_log_prob, sampler.log_prob(drawn, condition))
    torch.testing.assert_close(sampler.logits(drawn, condition), eager.logits(drawn, condition), rtol=1e-4, atol=1e-4)
    assert genfast.compile_sampler(model).engine == "triton"
