"""The cpu engine and its kernels once more, in processes that may use fewer instructions."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from genfast.testing.instruction_sets import ORDER

_C = pytest.importorskip("genfast._C")


@pytest.mark.slow
@pytest.mark.parametrize("isa", ["generic", "avx2", "avx512"])
def test_every_narrower_instruction_set(isa: str) -> None:
    """The engine and its kernels once more, in a process that may use less."""
    if ORDER.index(isa) >= ORDER.index(_C.isa()):
        pytest.skip(f"the tests run on {_C.isa()}")
    tests = Path(__file__).parents[1]
    files = [
        "kernels/test_pointwise.py",
        "kernels/test_attend.py",
        "kernels/test_categorical.py",
        "kernels/test_bfloat16_product.py",
        "kernels/test_logistic_mixture_draw.py",
    ]
    files += [f"sampling/test_cpu_engine{part}.py" for part in ("", "_refusals", "_interrupts")]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-x", *(str(tests / file) for file in files)],
        env={**os.environ, "GENFAST_CPU": isa}, cwd=tests.parent, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:]
