"""Tests once more, in a process that may use fewer instructions."""

import os
import subprocess
import sys

import pytest

ORDER = ("generic", "avx2", "avx512", "avx512_bf16", "amx_bf16")


def rerun_on(isa: str, chosen: str, *files: str) -> None:
    """Runs the tests of some files that match ``chosen`` (as pytest's -k does; "": all) on an instruction set; skips
    where this machine has none such, or tests run on it anyway. Fails with the end of their output where they fail."""
    from genfast import _C

    if ORDER.index(isa) > ORDER.index(_C.best_isa()):
        pytest.skip(f"this machine has no {isa}")
    if isa == _C.isa():
        pytest.skip(f"tests run on {isa} anyway")
    command = [sys.executable, "-m", "pytest", "-q", *files, "-k", chosen]
    run = subprocess.run(command, env={**os.environ, "GENFAST_CPU": isa}, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout[-3000:]
