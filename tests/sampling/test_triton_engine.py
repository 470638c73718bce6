"""The triton engine: interpreted on the CPU, and compiled for GPUs that are not there."""

import importlib.util
from pathlib import Path
from typing import Any

import pytest
import torch

import genfast
from genfast.errors import NotSupported
from genfast.sampling.triton_lanes import SCRATCH, lanes_of
from tests.kernels.apart import needs_triton, run_in_process
from tests.kernels.gates import assert_fits

pytest.importorskip("triton")
from tests.sampling.triton_engine_checks import names  # noqa: E402

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def interpreted() -> dict[str, str]:
    return run_in_process(HERE / "triton_engine_checks.py", [], {"TRITON_INTERPRET": "1"})


@pytest.mark.parametrize("name", names())
def test_interpreted(interpreted: dict[str, str], name: str) -> None:
    assert not interpreted[name], interpreted[name]


@pytest.mark.slow
def test_compiles_for_gpus_without_spills(tmp_path: Path) -> None:
    report = run_in_process(HERE / "triton_engine_compile.py", [], {"TRITON_CACHE_DIR": str(tmp_path)})
    assert len(report) >= 40
    assert_fits(report, registers=128)  # four blocks of 128 threads on a multiprocessor
