"""masked_conv2d in CUDA C++: compiled by nvcc, emulated on the CPU, and run on a GPU where there is one.

Emulated means: cuda.cu and its headers, unchanged, built by g++ against tests/emulation, which runs blocks one after
another and threads as fibers, under AddressSanitizer. It proves arithmetic, addresses and barriers, nothing of a GPU.
"""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import torch

from genfast.testing import require_cuda
from tests.kernels.apart import run_in_process
from tests.kernels.masked_conv2d_checks import case_names, operator_backend, run_table

ROOT = Path(__file__).parents[2]
KERNELS = ROOT / "kernels"
SOURCE = KERNELS / "masked_conv2d" / "cuda.cu"
CHECKS = Path(__file__).parent / "masked_conv2d_checks.py"
needs_nvcc = pytest.mark.skipif(shutil.which("nvcc") is None, reason="nvcc is not installed")
needs_gcc = pytest.mark.skipif(shutil.which("g++") is None, reason="g++ is not installed")


def build_emulation(kernels: Path, library: Path, *flags: str) -> None:
    """Builds masked_conv2d/cuda.cu of a folder like kernels/ as a CPU library."""
    source = kernels / "masked_conv2d" / "cuda.cu"
    command = ["g++", "-std=c++17", "-O1", "-g", "-fPIC", "-shared", "-Wall", "-Wextra", "-Werror"]
    command += ["-Wno-unknown-pragmas", *flags, "-I", str(ROOT / "tests" / "emulation"), "-I", str(kernels)]
    done = subprocess.run([*command, "-x", "c++", str(source), "-o", str(library)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[:3000]


def sanitizer_environment() -> dict[str, str] | None:
    """What a process needs to load a library built with AddressSanitizer; None where g++ has none."""
    paths = []
    for library in ("libasan.so", "libstdc++.so.6"):
        done = subprocess.run(["g++", f"-print-file-name={library}"], capture_output=True, text=True, check=True)
        paths.append(done.stdout.strip())
    if not all(Path(path).is_absolute() for path in paths):
        return None
    options = "detect_leaks=0:detect_stack_use_after_return=0"
    return {"LD_PRELOAD": " ".join(paths), "ASAN_OPTIONS": options}


@pytest.fixture(scope="module")
def emulated(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    library = tmp_path_factory.mktemp("emulation") / "masked_conv2d.so"
    environment = sanitizer_environment()
    build_emulation(KERNELS, library, *(["-fsanitize=address"] if environment else []))
    return run_in_process(CHECKS, ["emulated", str(library)], environment or {})


@needs_gcc
@pytest.mark.parametrize("name", case_names())
def test_emulated(emulated: dict[str, str], name: str) -> None:
    assert not emulated[name], emulated[name]


def barriers() -> list[tuple[str, int]]:
    """File below kernels/ and line, counted from 1, of every barrier that masked_conv2d may wait at."""
    files = [*KERNELS.glob("masked_conv2d/*.cu*"), *KERNELS.glob("common/*.cu*")]
    found = [
        (str(path.relative_to(KERNELS)), number)
        for path in sorted(files)
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if "__syncthreads();" in line
    ]
    assert found, "no barriers were found: are they still in the files that are searched?"
    return found


def run_without(barrier: tuple[str, int] | None, folder: Path) -> dict[str, str]:
    """The quick table, by a copy of the CUDA sources that lacks one barrier, or none."""
    for part in ("masked_conv2d", "common"):
        shutil.copytree(KERNELS / part, folder / part, ignore=shutil.ignore_patterns("*.py", "__pycache__"))
    if barrier:
        source = folder / barrier[0]
        lines = source.read_text().splitlines()
        assert lines.pop(barrier[1] - 1).strip() == "__syncthreads();", f"{barrier}: a barrier needs a line of its own."
        source.write_text("\n".join(lines))
    library = folder / "masked_conv2d.so"
    build_emulation(folder, library)
    return run_in_process(CHECKS, ["emulated", str(library), "quick"], {})


@needs_gcc
@pytest.mark.slow
@pytest.mark.parametrize("barrier", barriers(), ids=lambda barrier: f"{barrier[0]}:{barrier[1]}")
def test_a_deleted_barrier_is_noticed(tmp_path: Path, barrier: tuple[str, int]) -> None:
    try:
        results = run_without(barrier, tmp_path)
    except RuntimeError:  # a crash is as red as a wrong number
        return
    assert any(results.values()), f"without the barrier in {barrier} everything still passes."


@needs_gcc
@pytest.mark.slow
def test_a_copy_with_every_barrier_passes(tmp_path: Path) -> None:
    assert not any(run_without(None, tmp_path).values())


@needs_nvcc
@pytest.mark.slow
def test_compiles_for_gpus_without_spills(tmp_path: Path) -> None:
    command = ["nvcc", "-std=c++17", "-O3", "-Xptxas", "-v", "--threads", "2", "-I", str(KERNELS)]
    for architecture in ("80", "90a"):
        command += ["-gencode", f"arch=compute_{architecture},code=sm_{architecture}"]
    command += ["-c", str(SOURCE), "-o", str(tmp_path / "cuda.o")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    spills = re.findall(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads", done.stderr)
    registers = [int(r) for r in re.findall(r"Used (\d+) registers", done.stderr)]
    shared = [int(s) for s in re.findall(r"(\d+) bytes smem", done.stderr)]
    kernels = 4 * (1 + 2 + 2 + 1)  # dtypes x (pack, conv and weight_partials in two layouts, finish)
    assert len(spills) == len(registers) == 2 * kernels, done.stderr[-3000:]
    assert set(spills) == {("0", "0", "0")}, f"a kernel spills:\n{done.stderr}"
    assert max(registers) <= 128, f"fewer than two blocks of 256 threads fit: {max(registers)} registers."
    assert max(shared) <= 48 * 1024


def test_operators_on_a_gpu() -> None:
    require_cuda()
    import genfast.ops  # noqa: F401  (registers the operators)

    assert hasattr(torch.ops.genfast, "masked_conv2d_cuda"), "this build has no CUDA kernels: build it where nvcc is."
    failures = {name: failure for name, failure in run_table(operator_backend(), "cuda").items() if failure}
    assert not failures, "\n".join(f"{name}: {failure}" for name, failure in failures.items())
