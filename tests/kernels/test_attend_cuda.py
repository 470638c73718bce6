"""attend in CUDA C++, which the cuda engine calls: emulated on the CPU by itself (emulation.py)."""

from pathlib import Path

import pytest

from tests.kernels.attend_cuda_checks import names
from tests.kernels.emulation import barriers, fast_library, needs_gcc, noticed_barriers, run_sanitized

CHECKS = Path(__file__).parent / "attend_cuda_checks.py"


@pytest.fixture(scope="module")
def emulated(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return run_sanitized("attend", CHECKS, tmp_path_factory.mktemp("emulation"))


@pytest.fixture(scope="module")
def noticed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bool]:
    library = fast_library("attend", tmp_path_factory.mktemp("emulation"))
    return noticed_barriers("attend", CHECKS, library)


@needs_gcc
@pytest.mark.parametrize("name", names())
def test_emulated(emulated: dict[str, str], name: str) -> None:
    assert not emulated[name], emulated[name]


@needs_gcc
@pytest.mark.parametrize("barrier", barriers("attend"))
def test_a_missing_barrier_is_noticed(noticed: dict[str, bool], barrier: str) -> None:
    assert noticed[barrier], f"without the barrier in {barrier} everything still passes."
