"""The Triton kernels of row_lstm and diagonal_lstm: interpreted on the CPU, compiled for GPUs that are not there, and
run on one that is."""

from pathlib import Path

import pytest

from genfast.testing import require_cuda
from tests.kernels.apart import needs_triton, run_in_process
from tests.kernels.gates import assert_fits
from tests.kernels.lstm_checks import checks, names, run_table

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def interpreted() -> dict[str, str]:
    return run_in_process(HERE / "lstm_checks.py", ["triton"], {"TRITON_INTERPRET": "1"})


@needs_triton
@pytest.mark.parametrize("name", names(checks("cpu")))
def test_interpreted(interpreted: dict[str, str], name: str) -> None:
    assert not interpreted[name], interpreted[name]


@needs_triton
@pytest.mark.slow
def test_compiles_for_gpus_without_spills_and_with_its_barriers(tmp_path: Path) -> None:
    report = run_in_process(HERE / "lstm_compile.py", [], {"TRITON_CACHE_DIR": str(tmp_path)})
    assert len(report) >= 10
    assert any(used["wide"] for used in report.values()), "the huge batch was not compiled with 64-bit offsets."
    assert_fits(report)
    for launch, used in report.items():
        assert used["barrier"], f"{launch}: no barrier between two lines; the interpreter would not notice."


def test_on_a_gpu() -> None:
    require_cuda()
    failures = {name: failure for name, failure in run_table("triton", checks("cuda")).items() if failure}
    assert not failures, "\n".join(f"{name}: {failure}" for name, failure in failures.items())
