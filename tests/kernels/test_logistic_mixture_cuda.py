"""logistic_mixture in CUDA C++: compiled by nvcc, emulated on the CPU (emulation.py), and run on a GPU where there is
one."""

from pathlib import Path

import pytest
import torch

from genfast.testing import require_cuda
from tests.kernels.emulation import (
    KERNELS,
    assert_compiles,
    barriers,
    fast_library,
    needs_gcc,
    needs_nvcc,
    noticed_barriers,
    run_sanitized,
)
from tests.kernels.logistic_mixture_checks import case_names, gpu_backend, run_table

CHECKS = Path(__file__).parent / "logistic_mixture_checks.py"


@pytest.fixture(scope="module")
def emulated(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return run_sanitized("logistic_mixture", CHECKS, tmp_path_factory.mktemp("emulation"))


@pytest.fixture(scope="module")
def noticed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bool]:
    library = fast_library("logistic_mixture", tmp_path_factory.mktemp("emulation"))
    return noticed_barriers("logistic_mixture", CHECKS, library)


@needs_gcc
@pytest.mark.parametrize("name", case_names())
def test_emulated(emulated: dict[str, str], name: str) -> None:
    assert not emulated[name], emulated[name]


@needs_gcc
@pytest.mark.slow
@pytest.mark.parametrize("barrier", barriers("logistic_mixture"))
def test_a_missing_barrier_is_noticed(noticed: dict[str, bool], barrier: str) -> None:
    assert noticed[barrier], f"without the barrier in {barrier} everything still passes."


@needs_nvcc
@pytest.mark.slow
def test_compiles_for_gpus_without_spills(tmp_path: Path) -> None:
    source = KERNELS / "logistic_mixture" / "cuda.cu"
    assert_compiles(source, tmp_path, kernels=4 * 2, registers=128)  # dtypes x directions; four blocks of 128 threads


def test_operators_on_a_gpu() -> None:
    require_cuda()
    assert hasattr(torch.ops.genfast, "logistic_mixture_cuda"), (
        "this build has no CUDA kernels: build it where nvcc is."
    )
    failures = {name: failure for name, failure in run_table(gpu_backend("cuda"), "cuda").items() if failure}
    assert not failures, "\n".join(f"{name}: {failure}" for name, failure in failures.items())
