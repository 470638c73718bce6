"""masked_conv2d in Triton: interpreted on the CPU, compiled for GPUs that are not there, and run on one that is."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from genfast.testing import require_cuda
from tests.kernels.apart import needs_triton, run_in_process
from tests.kernels.gates import assert_fits
from tests.kernels.masked_conv2d_checks import case_names, run_table, triton_backend

HERE = Path(__file__).parent
CHECKS = HERE / "masked_conv2d_checks.py"


@pytest.fixture(scope="module")
def interpreted() -> dict[str, str]:
    return run_in_process(CHECKS, ["triton"], {"TRITON_INTERPRET": "1"})


@needs_triton
@pytest.mark.parametrize("name", case_names())
def test_interpreted(interpreted: dict[str, str], name: str) -> None:
    assert not interpreted[name], interpreted[name]


@needs_triton
@pytest.mark.slow
def test_compiles_for_gpus_without_spills(tmp_path: Path) -> None:
    report = run_in_process(HERE / "masked_conv2d_compile.py", [], {"TRITON_CACHE_DIR": str(tmp_path)})
    assert len(report) >= 28
    assert any(used["wide"] for used in report.values()), "the huge layer was not compiled with 64-bit offsets."
    assert_fits(report)


def test_importing_the_kernels_does_not_import_triton() -> None:
    code = (
        "import sys, torch; before = 'triton' in sys.modules; "
        "import genfast.kernels.masked_conv2d.mask, genfast.kernels.masked_conv2d.reference; "
        "sys.exit(not before and 'triton' in sys.modules)"
    )
    environment = {**os.environ, "PYTHONPATH": str(HERE.parents[1])}
    assert subprocess.run([sys.executable, "-c", code], env=environment, check=False).returncode == 0


def test_on_a_gpu() -> None:
    require_cuda()
    failures = {name: failure for name, failure in run_table(triton_backend(), "cuda").items() if failure}
    assert not failures, "\n".join(f"{name}: {failure}" for name, failure in failures.items())
