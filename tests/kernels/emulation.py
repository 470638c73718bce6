"""CUDA C++ without a GPU: built by g++ against tests/emulation, which runs blocks one after another and threads as
fibers, with or without each barrier; and compiled by nvcc, with what each kernel would occupy."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.kernels.apart import run_in_process

ROOT = Path(__file__).parents[2]
KERNELS = ROOT / "kernels"
ENGINE = "engine"  # the cuda engine, as if it were an operator
SOURCES = {  # of what is no operator with a cuda.cu of its own
    ENGINE: ROOT / "csrc" / "engine" / "cuda" / "engine.cu",
    "attend": ROOT / "tests" / "emulation" / "attend.cu",
}
needs_nvcc = pytest.mark.skipif(shutil.which("nvcc") is None, reason="nvcc is not installed")
needs_gcc = pytest.mark.skipif(shutil.which("g++") is None, reason="g++ is not installed")


def source_of(operator: str) -> Path:
    """The file that an operator's kernels, or those of the engine, are built from."""
    return SOURCES.get(operator, KERNELS / operator / "cuda.cu")


def build_emulation(operator: str, library: Path, *flags: str) -> None:
    """Builds an operator's kernels, unchanged, as a CPU library."""
    source = source_of(operator)
    command = ["g++", "-std=c++17", "-O1", "-g", "-fPIC", "-shared", "-Wall", "-Wextra", "-Werror"]
    folders = (ROOT / "tests" / "emulation", KERNELS, ROOT / "csrc")
    command += ["-Wno-unknown-pragmas", *flags, *(f"-I{folder}" for folder in folders)]
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


def run_sanitized(operator: str, checks: Path, folder: Path) -> dict[str, str]:
    """All checks of an operator, emulated under AddressSanitizer where g++ has one: case -> what failed, or ""."""
    library, environment = folder / "sanitized.so", sanitizer_environment()
    build_emulation(operator, library, *(["-fsanitize=address"] if environment else []))
    return run_in_process(checks, ["emulated", str(library)], environment or {})


def fast_library(operator: str, folder: Path) -> Path:
    """The operator emulated without AddressSanitizer, which triples the time."""
    path = folder / f"{operator}.so"
    build_emulation(operator, path)
    return path


def noticed_barriers(operator: str, checks: Path, library: Path) -> dict[str, bool]:
    """barrier -> whether the quick table of a file of checks fails where the emulation leaves it out (needed.py)."""
    found = run_in_process(checks, ["emulated", str(library), "barriers", *barriers(operator)], {})
    assert not found.pop(""), "a quick check fails though no barrier is missing."
    return found


def included(source: Path) -> list[Path]:
    """A file and all of ours that it includes, whoever includes them."""
    found = [source]
    for path in found:
        for name in re.findall(r'#include "([^"]+)"', path.read_text()):
            there = next((folder / name for folder in (KERNELS, ROOT / "csrc") if (folder / name).exists()), None)
            if there is not None and there not in found:
                found.append(there)
    return found


def barriers(operator: str) -> list[str]:
    """Every barrier that an operator may wait at, as tests/emulation names them: file below the root and line."""
    found = [
        f"{path.relative_to(ROOT)}:{number}"
        for path in sorted(included(source_of(operator)))
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if "__syncthreads();" in line or "cluster_barrier();" in line
    ]
    assert found, "no barriers were found: are they still in the files that are searched?"
    return found


def compiled(source: Path, folder: Path) -> str:
    """What nvcc says of the kernels that it makes for each GPU."""
    command = ["nvcc", "-std=c++17", "-O3", "-Xptxas", "-v", "--threads", "2", f"-I{KERNELS}", f"-I{ROOT / 'csrc'}"]
    for architecture in ("80", "90a"):
        command += ["-gencode", f"arch=compute_{architecture},code=sm_{architecture}"]
    command += ["-c", str(source), "-o", str(folder / "cuda.o")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stderr


def assert_compiles(source: Path, folder: Path, kernels: int, registers: int) -> None:
    """nvcc makes so many kernels for each GPU, without spills, with at most so many registers and 48 KB of shared
    memory."""
    said = compiled(source, folder)
    spills = re.findall(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads", said)
    used = [int(r) for r in re.findall(r"Used (\d+) registers", said)]
    shared = [int(s) for s in re.findall(r"(\d+) bytes smem", said)]
    assert len(spills) == len(used) == 2 * kernels, said[-3000:]
    assert set(spills) == {("0", "0", "0")}, f"a kernel spills:\n{said}"
    assert max(used) <= registers, f"a kernel takes {max(used)} registers, but only {registers} let its blocks fit."
    assert max(shared, default=0) <= 48 * 1024
