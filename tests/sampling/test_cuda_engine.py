"""The cuda engine's kernel: compiled by nvcc, and emulated on the CPU beneath the sampler (cuda_engine_checks.py)."""

import re
from pathlib import Path

import pytest
import torch

from genfast import compile_sampler
from genfast.errors import NotSupported
from genfast.ops import backends
from genfast.sampling import naive
from genfast.sampling.engines import engine_table
from genfast.testing import require_cuda
from tests.kernels.emulation import (
    ENGINE,
    barriers,
    compiled,
    fast_library,
    needs_gcc,
    needs_nvcc,
    noticed_barriers,
    run_sanitized,
    source_of,
)

pytest.importorskip("genfast._C")
from tests.sampling.cuda_engine_checks import checks, names
from tests.sampling.cuda_engine_models import MODELS

CHECKS = Path(__file__).parent / "cuda_engine_checks.py"
REGISTERS = 168  # what leaves a block its 384 threads
SPILLED = 96  # bytes: what a run needs now and then; seen in the listing, none of the products does


@pytest.fixture(scope="module")
def emulated(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return run_sanitized(ENGINE, CHECKS, tmp_path_factory.mktemp("emulation"))


@pytest.fixture(scope="module")
def noticed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bool]:
    return noticed_barriers(ENGINE, CHECKS, fast_library(ENGINE, tmp_path_factory.mktemp("emulation")))


@needs_gcc
@pytest.mark.parametrize("name", names(checks()))
def test_emulated(emulated: dict[str, str], name: str) -> None:
    assert not emulated[name], emulated[name]


@needs_gcc
@pytest.mark.slow
@pytest.mark.parametrize("barrier", barriers(ENGINE))
def test_a_missing_barrier_is_noticed(noticed: dict[str, bool], barrier: str) -> None:
    assert noticed[barrier], f"without the barrier in {barrier} everything still passes."


def test_refuses_a_model_that_is_not_there(rgb) -> None:
    with pytest.raises(NotSupported, match="The cuda engine cannot run this model: "):
        compile_sampler(rgb, "cuda")
    assert compile_sampler(rgb).engine != "cuda"


def test_state_says_that_no_gpu_has_run_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backends, "ARCHITECTURES", ["80", "90a"])
    state = dict(engine_table())["cuda"]
    assert state.startswith("compiled for sm_80, sm_90a, emulated in tests, no GPU has run it yet, so auto does not")
    monkeypatch.setattr(backends, "ARCHITECTURES", [])
    assert "nvcc" in dict(engine_table())["cuda"]


@needs_nvcc
@pytest.mark.slow
def test_compiles_for_gpus(tmp_path: Path) -> None:
    """A kernel for each residence and GPU, in as many registers as its threads have."""
    said = compiled(source_of(ENGINE), tmp_path)
    used = [int(r) for r in re.findall(r"Used (\d+) registers", said)]
    assert len(used) == 3 * 2
    assert max(used) <= REGISTERS
    assert max(int(n) for n in re.findall(r"(\d+) bytes spill stores", said)) <= SPILLED


def test_on_a_gpu() -> None:
    """The images that the loop draws on the CPU."""
    require_cuda()
    assert not backends.why_not("cuda")
    for name, build in MODELS.items():
        case = build()
        expected = naive.sample(case.model, 3, seed=1, condition=case.condition)
        given = None if case.condition is None else case.condition.cuda()
        with torch.backends.cudnn.flags(allow_tf32=False):  # while the program is compared with the model
            sampler = compile_sampler(case.model.cuda(), "cuda", condition=given)
        drawn = sampler.sample(3, seed=1, condition=given)
        assert torch.equal(drawn.cpu(), expected), name
        assert torch.equal(sampler.log_prob(drawn, given), sampler.last_log_prob), name
