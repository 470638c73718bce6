"""masked_conv2d in Triton: interpreted on the CPU, compiled for GPUs that are not there, and run on one that is."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from genfast.testing import require_cuda
from tests.kernels.masked_conv2d_checks import case_names, run_in_process, run_table, triton_backend

needs_triton = pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="triton is not installed")
HERE = Path(__file__).parent
SHARED_MEMORY = {"sm_80": 163 * 1024, "sm_90": 227 * 1024}  # bytes that one block may have


@pytest.fixture(scope="module")
def interpreted() -> dict[str, str]:
    return run_in_process(["triton"], {"TRITON_INTERPRET": "1"})


@needs_triton
@pytest.mark.parametrize("name", case_names())
def test_interpreted(interpreted: dict[str, str], name: str) -> None:
    assert not interpreted[name], interpreted[name]


@needs_triton
@pytest.mark.slow
def test_compiles_for_gpus_without_spills(tmp_path: Path) -> None:
    environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    environment |= {"PYTHONPATH": str(HERE.parents[1]), "TRITON_CACHE_DIR": str(tmp_path)}
    script = str(HERE / "masked_conv2d_compile.py")
    done = subprocess.run([sys.executable, script], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    report = json.loads(done.stdout.splitlines()[-1])
    assert len(report) >= 28
    assert any(used["wide"] for used in report.values()), "the huge layer was not compiled with 64-bit offsets."
    for launch, used in report.items():
        assert used["local"] == 0, f"{launch} spills: {used}"
        assert used["stack"] == 0, f"{launch} spills: {used}"
        assert used["registers"] <= 255, f"{launch} takes too many registers: {used}"
        assert used["shared"] <= SHARED_MEMORY[launch[:5]], f"{launch} takes too much shared memory: {used}"


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
