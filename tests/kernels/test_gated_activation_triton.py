"""The Triton kernels of gated_activation: interpreted on the CPU, compiled for GPUs that are not there, and run on one
that is."""

from pathlib import Path

import pytest

from genfast.testing import require_cuda
from tests.kernels.apart import needs_triton, run_in_process
from tests.kernels.gated_activation_checks import case_names, checks, run_table
from tests.kernels.gates import assert_fits

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def interpreted() -> dict[str, str]:
    return run_in_process(HERE / "gated_activation_checks.py", [], {"TRITON_INTERPRET": "1"})


@needs_triton
@pytest.mark.parametrize("name", case_names())
def test_interpreted(interpreted: dict[str, str], name: str) -> None:
    assert not interpreted[name], interpreted[name]


@needs_triton
@pytest.mark.slow
def test_compiles_for_gpus_without_spills(tmp_path: Path) -> None:
    report = run_in_process(HERE / "gated_activation_compile.py", [], {"TRITON_CACHE_DIR": str(tmp_path)})
    assert len(report) == 14
    assert {launch for launch, used in report.items() if used["wide"]} == {
        "sm_90-huge-fp32-forward",
        "sm_90-huge-fp32-backward",
    }
    assert_fits(report, registers=128)  # four blocks of 128 threads on a multiprocessor


def test_on_a_gpu() -> None:
    require_cuda()
    failures = {name: failure for name, failure in run_table(checks("cuda")).items() if failure}
    assert not failures, "\n".join(f"{name}: {failure}" for name, failure in failures.items())
