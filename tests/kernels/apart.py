"""Checks that need a process of their own: Triton's interpreter must be chosen before Triton is imported, and
AddressSanitizer before Python starts.

A file of checks has ``main(arguments)``, which ends by printing a line of JSON, case -> what failed or "".
"""

import ctypes
import dataclasses
import importlib.util
import json
import mmap
import os
import subprocess
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

ROOT = Path(__file__).parents[2]
DTYPES = {"float32": torch.float32, "float64": torch.float64, "bfloat16": torch.bfloat16, "float16": torch.float16}
needs_triton = pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="triton is not installed")
NORESERVE = 0x4000  # Linux: claim no memory until it is touched


ONE_IS_ENOUGH = False  # whether the first check that fails ends a table


class Failed(BaseException):
    """Raised by the first check that fails, where one is enough."""


def attempt(results: dict[str, str], name: str, check: Callable[..., None], *args: Any) -> None:
    """Runs one check: its name -> what failed, or nothing."""
    try:
        check(*args)
        results[name] = ""
    except Exception:
        if ONE_IS_ENOUGH:
            raise Failed from None
        results[name] = traceback.format_exc(limit=-3)


def mostly_untouched(elements: int, dtype: torch.dtype, device: str) -> Tensor:
    """A large tensor, on the CPU in memory of which only the touched pages exist."""
    if device != "cpu":
        return torch.zeros(elements, dtype=dtype, device=device)
    pages = mmap.mmap(-1, elements * dtype.itemsize, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | NORESERVE)
    return torch.frombuffer(pages, dtype=dtype)


class Strides(ctypes.Structure):
    """Strides4 in kernels/common/cuda_types.cuh."""

    _fields_ = (("s", ctypes.c_int64 * 4),)


def pointer(t: Tensor | None) -> ctypes.c_void_p:
    return ctypes.c_void_p(None if t is None else t.data_ptr())


def strided(t: Tensor) -> tuple[ctypes.c_void_p, Strides]:
    """A tensor as the launchers of kernels/*/cuda.cuh take it."""
    return pointer(t), Strides((ctypes.c_int64 * 4)(*t.stride()))


def prepare() -> None:
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)  # uninitialised memory is then filled with NaN


def hasten_interpreter() -> None:
    """Has the interpreter put its own functions in the place of triton.language's once and for all, not in every call
    of a function, and look for no overflow of integers: several times as fast."""
    import triton.language as tl
    from triton.runtime import interpreter

    patch, patched = interpreter._patch_lang, set()

    def patch_once(function: Any) -> Any:
        modules = {m.__name__ for m in function.__globals__.values() if m is tl or m is tl.core}
        if not modules <= patched:
            patched.update(modules)
            patch(function)
        return interpreter._LangPatchScope()

    interpreter._patch_lang = patch_once
    unchecked = dataclasses.replace(interpreter.interpreter_builder.options, sanitize_overflow=False)
    interpreter.interpreter_builder.options = unchecked


def run_in_process(script: Path, arguments: list[str], environment: dict[str, str]) -> dict[str, Any]:
    """Runs a file in a new Python; the last line that it printed. Raises RuntimeError with the end of its errors."""
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    inherited = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    done = subprocess.run(
        [sys.executable, str(script), *arguments],
        env={**inherited, "PYTHONPATH": path, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise RuntimeError(f"the process ended with {done.returncode}:\n{done.stderr[:3000]}")
    results: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return results
