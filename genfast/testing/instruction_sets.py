"""Tests once more, in a process that may use fewer instructions."""

import os
import subprocess
import sys

import pytest

ORDER = ("generic", "avx2", "avx512", "avx512_bf16", "amx_bf16")


def rerun_on(isa: str, file: str, chosen: str) -> None:
    """Runs the tests of a file that match ``chosen`` (as pytest's -k does) on an instruction set; skips where this
    machine has none such. Fails with the end of their output where they fail."""
    from genfast import _C

    if ORDER.index(isa) > ORDER.index(_C.best_isa()):
        pytest.skip(f"this machine has no {isa}")
    command = [sys.executable, "-m", "pytest", "-q", file, "-k", chosen]
    run = subprocess.run(command, env={**os.environ, "GENFAST_CPU": isa}, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout[-3000:]
