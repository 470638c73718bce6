"""Which backend is chosen for CUDA tensors, and what `genfast info` says of each, on machines that this is not."""

import pytest
import torch

from genfast.ops import backends

GPU = torch.device("cuda")
ON_GPU = [operator for operator, has in backends.OPERATORS.items() if "triton" in has]


@pytest.fixture
def with_gpu(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """As on a machine with a GPU, triton, and an extension built by nvcc."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(backends, "HAS_TRITON", True)
    monkeypatch.setattr(backends, "NO_EXTENSION", "")
    monkeypatch.setattr(backends, "ARCHITECTURES", ["80", "90a"])
    return monkeypatch


@pytest.mark.parametrize("operator", ON_GPU)
def test_auto_takes_the_first_that_the_operator_has(operator: str, with_gpu: pytest.MonkeyPatch) -> None:
    has = [name for name in ("cuda", "triton") if name in backends.OPERATORS[operator]]
    assert backends.choose("auto", GPU, operator) == has[0]
    for name in has:
        assert backends.choose(name, GPU, operator) == name
    with_gpu.setattr(backends, "ARCHITECTURES", [])
    assert backends.choose("auto", GPU, operator) == "triton"
    with_gpu.setattr(backends, "HAS_TRITON", False)
    assert backends.choose("auto", GPU, operator) == "reference"
    with pytest.raises(RuntimeError, match="The triton backend is not available here: triton is not installed"):
        backends.choose("triton", GPU, operator)


def test_a_backend_that_an_operator_lacks(with_gpu: pytest.MonkeyPatch) -> None:
    with_gpu.setitem(backends.OPERATORS, "other", ("reference", "triton"))
    assert backends.choose("auto", GPU, "other") == "triton"
    with pytest.raises(RuntimeError, match="not available here: other has no cuda kernel"):
        backends.choose("cuda", GPU, "other")


@pytest.mark.parametrize("operator", ON_GPU)
def test_cpu_tensors_are_not_for_a_gpu(operator: str, with_gpu: pytest.MonkeyPatch) -> None:
    with pytest.raises(RuntimeError, match=r"not available here: it does not compute on cpu tensors\.$"):
        backends.choose("triton", torch.device("cpu"), operator)


def test_states_say_how_far_each_was_checked(with_gpu: pytest.MonkeyPatch) -> None:
    def states() -> dict[tuple[str, str], str]:
        return {(operator, backend): state for operator, backend, state in backends.table()}

    assert states()["masked_conv2d", "cuda"] == ("compiled for sm_80, sm_90a, emulated in tests, no GPU has run it yet")
    with_gpu.setattr(torch.cuda, "is_available", lambda: False)
    for operator, has in backends.OPERATORS.items():
        for backend in set(has) & {"triton", "cuda"}:
            assert states()[operator, backend].endswith("no GPU has run it yet; no CUDA device is usable here")
    with_gpu.setattr(backends, "HAS_TRITON", False)
    assert states()["masked_conv2d", "triton"] == "triton is not installed"
