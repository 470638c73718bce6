"""row_lstm and diagonal_lstm in CUDA C++: compiled by nvcc, emulated on the CPU (emulation.py), and run on a GPU where
there is one."""

from pathlib import Path

import pytest
import torch

from genfast.testing import require_cuda
from tests.kernels.emulation import (
    KERNELS,
    assert_compiles,
    barriers,
    fast_library,
    needs_gcc,
    needs_nvcc,
    noticed_barriers,
    run_sanitized,
)
from tests.kernels.lstm_checks import checks, emulated_checks, names, run_table
from tests.kernels.lstm_emulation import A100, GPU, H100, NEWER, Planned, load, planned, shape_of

CHECKS = Path(__file__).parent / "lstm_checks.py"
PLANS = [  # layers of the paper: h, side, batch, taps, dtype; forward and backward
    (H100, (16, 28, 16, 3), torch.float32, Planned(16, 1, 128, 16128), Planned(16, 1, 128, 27648)),
    (H100, (64, 28, 16, 3), torch.float32, Planned(64, 4, 128, 64512), Planned(64, 4, 128, 110592)),
    (H100, (64, 28, 256, 3), torch.float32, Planned(256, 1, 448, 211968), Planned(256, 1, 448, 196608)),
    (H100, (128, 32, 16, 3), torch.float32, Planned(128, 8, 128, 133120), Planned(128, 8, 128, 98304)),
    (H100, (128, 32, 16, 2), torch.float32, Planned(128, 8, 128, 99328), Planned(128, 8, 128, 200704)),
    (H100, (128, 32, 256, 2), torch.bfloat16, Planned(512, 2, 512, 164864), Planned(512, 2, 512, 131072)),
    (H100, (128, 32, 16, 3), torch.float64, Planned(128, 8, 128, 196608), Planned(128, 8, 128, 196608)),
    (H100, (512, 32, 256, 3), torch.float32, Planned(256, 1, 512, 0), Planned(256, 1, 512, 0)),
    (NEWER, (128, 32, 16, 3), torch.float32, Planned(16, 1, 512, 0), Planned(16, 1, 512, 0)),
    (A100, (16, 28, 16, 3), torch.float32, Planned(16, 1, 128, 16128), Planned(16, 1, 128, 27648)),
    (A100, (64, 28, 16, 2), torch.float32, Planned(16, 1, 448, 145920), Planned(16, 1, 448, 131072)),
    (A100, (64, 28, 16, 3), torch.bfloat16, Planned(16, 1, 448, 113664), Planned(16, 1, 448, 159744)),
    (A100, (128, 32, 16, 2), torch.float32, Planned(16, 1, 512, 0), Planned(16, 1, 512, 0)),
]


@pytest.fixture(scope="module")
def emulated(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return run_sanitized("lstm", CHECKS, tmp_path_factory.mktemp("emulation"))


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fast_library("lstm", tmp_path_factory.mktemp("emulation"))


@pytest.fixture(scope="module")
def noticed(library: Path) -> dict[str, bool]:
    return noticed_barriers("lstm", CHECKS, library)


@needs_gcc
@pytest.mark.parametrize("name", names(emulated_checks()))
def test_emulated(emulated: dict[str, str], name: str) -> None:
    assert not emulated[name], emulated[name]


@needs_gcc
@pytest.mark.slow
@pytest.mark.parametrize("barrier", barriers("lstm"))
def test_a_missing_barrier_is_noticed(noticed: dict[str, bool], barrier: str) -> None:
    assert noticed[barrier], f"without the barrier in {barrier} everything still passes."


@needs_gcc
@pytest.mark.parametrize(("gpu", "layer", "dtype", "forward", "backward"), PLANS, ids=str)
def test_what_fits_in_shared_memory(
    gpu: GPU,
    layer: tuple[int, int, int, int],
    dtype: torch.dtype,
    forward: Planned,
    backward: Planned,
    library: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """How many blocks share an image of a real layer, and how much each holds. The emulation refuses what the GPU
    would: more shared memory than it has, or than the kernel asked for, and clusters where there are none."""
    monkeypatch.setenv("GENFAST_EMULATED_GPU", gpu.described)
    monkeypatch.setenv("GENFAST_EMULATED_DRY", "1")
    hidden, side, batch, taps = layer
    shape = shape_of(dtype, (batch, hidden, side, side), taps, () if taps == 3 else (False,))
    lib = load(str(library))
    assert planned(lib, shape, backward=False) == forward
    assert planned(lib, shape, backward=True) == backward
    assert max(forward.shared, backward.shared) <= gpu.shared


@needs_nvcc
@pytest.mark.slow
def test_compiles_for_gpus_without_spills(tmp_path: Path) -> None:
    kernels = 4 * (1 + 2 * 3)  # dtypes x (pack, directions x what is in shared memory)
    assert_compiles(KERNELS / "lstm" / "cuda.cu", tmp_path, kernels, registers=255)  # float64; the others have 128


def test_operators_on_a_gpu() -> None:
    require_cuda()
    assert hasattr(torch.ops.genfast, "row_lstm_cuda"), "this build has no CUDA kernels: build it where nvcc is."
    failures = {name: failure for name, failure in run_table("cuda", checks("cuda")).items() if failure}
    assert not failures, "\n".join(f"{name}: {failure}" for name, failure in failures.items())
