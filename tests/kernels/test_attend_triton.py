"""attend in Triton: interpreted on the CPU, and run on a GPU where there is one. The tests of the triton engine compile
it for GPUs that are not there."""

from pathlib import Path

import pytest

from genfast.testing import require_cuda
from tests.kernels.apart import run_in_process

pytest.importorskip("triton")
from tests.kernels.attend_triton_checks import names, run_table


@pytest.fixture(scope="module")
def interpreted() -> dict[str, str]:
    return run_in_process(Path(__file__).parent / "attend_triton_checks.py", [], {"TRITON_INTERPRET": "1"})


@pytest.mark.parametrize("name", names())
def test_interpreted(interpreted: dict[str, str], name: str) -> None:
    assert not interpreted[name], interpreted[name]


def test_on_a_gpu() -> None:
    require_cuda()
    failures = {name: failure for name, failure in run_table("cuda").items() if failure}
    assert not failures, "\n".join(f"{name}: {failure}" for name, failure in failures.items())
