"""masked_conv2d in CUDA C++: compiled by nvcc, emulated on the CPU, and run on a GPU where there is one.

Emulated means: cuda.cu and its headers, unchanged, built by g++ against tests/emulation, which runs blocks one after
another and threads as fibers, under AddressSanitizer. It proves arithmetic, addresses and barriers, nothing of a GPU.
"""

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
from tests.kernels.masked_conv2d_checks import case_names, operator_backend, run_table

CHECKS = Path(__file__).parent / "masked_conv2d_checks.py"


@pytest.fixture(scope="module")
def emulated(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return run_sanitized("masked_conv2d", CHECKS, tmp_path_factory.mktemp("emulation"))


@pytest.fixture(scope="module")
def noticed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bool]:
    library = fast_library("masked_conv2d", tmp_path_factory.mktemp("emulation"))
    return noticed_barriers("masked_conv2d", CHECKS, library)


@needs_gcc
@pytest.mark.parametrize("name", case_names())
def test_emulated(emulated: dict[str, str], name: str) -> None:
    assert not emulated[name], emulated[name]


@needs_gcc
@pytest.mark.slow
@pytest.mark.parametrize("barrier", barriers("masked_conv2d"))
def test_a_missing_barrier_is_noticed(noticed: dict[str, bool], barrier: str) -> None:
    assert noticed[barrier], f"without the barrier in {barrier} everything still passes."


@needs_nvcc
@pytest.mark.slow
def test_compiles_for_gpus_without_spills(tmp_path: Path) -> None:
    kernels = 4 * (1 + 2 + 2 + 1)  # dtypes x (pack, conv and weight_partials in two layouts, finish)
    assert_compiles(
        KERNELS / "masked_conv2d" / "cuda.cu", tmp_path, kernels, registers=128
    )  # two blocks of 256 threads


def test_operators_on_a_gpu() -> None:
    require_cuda()
    import genfast.ops  # noqa: F401  (registers the operators)

    assert hasattr(torch.ops.genfast, "masked_conv2d_cuda"), "this build has no CUDA kernels: build it where nvcc is."
    failures = {name: failure for name, failure in run_table(operator_backend(), "cuda").items() if failure}
    assert not failures, "\n".join(f"{name}: {failure}" for name, failure in failures.items())
