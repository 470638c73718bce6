"""Which backend computes an operator, and why not another.

Backends: reference (plain PyTorch), cpu (C++), triton, cuda (CUDA C++). Asking for one by name gives that one or an error that says why
not; "auto" takes the first that is there: cpu then reference for CPU tensors, cuda then triton then reference for CUDA tensors.
"""

import importlib
import importlib.util
from functools import cache
from types import ModuleType

import torch

BACKENDS = ("reference", "cpu", "triton", "cuda")
PREFERENCE = {"cpu": ("cpu", "reference"), "cuda": ("cuda", "triton", "reference")}
OPERATORS: dict[str, tuple[str, ...]] = {"masked_conv2d": BACKENDS}


@cache
def extension() -> tuple[ModuleType | None, str]:
    """The compiled module, or None and the reason. Importing it registers the operators' C++ kernels."""
    try:
        return importlib.import_module("genfast._C"), ""
    except ImportError as error:
        if importlib.util.find_spec("genfast._C") is None:
            return None, "the extension is not built: install a C++ compiler, then run pip install --no-build-isolation -e ."
        return None, f"the extension does not load ({error}): build it again with this torch"


@cache
def why_not(backend: str) -> str:
    """Empty if the backend can run on this machine, or else one sentence without its full stop."""
    if backend == "reference":
        return ""
    if backend == "cpu":
        return extension()[1]
    if backend == "triton" and importlib.util.find_spec("triton") is None:
        return "triton is not installed"
    if backend == "cuda":
        module, reason = extension()
        if module is None:
            return reason
        if not module.cuda_architectures:
            return "built without nvcc"
    return "" if torch.cuda.is_available() else "no CUDA device, or a CPU build of torch"


@torch.compiler.assume_constant_result
def choose(backend: str, device: torch.device) -> str:
    """The backend that computes on this device. Raises RuntimeError for one that cannot, with the reason."""
    if backend == "auto":
        return next((b for b in PREFERENCE.get(device.type, ()) if not why_not(b)), "reference")
    if backend not in BACKENDS:
        raise ValueError(f"backend must be auto, {', '.join(BACKENDS)}, not {backend!r}.")
    reason = why_not(backend)
    if not reason and backend != "reference" and backend not in PREFERENCE.get(device.type, ()):
        reason = f"it does not compute on {device.type} tensors"
    if reason:
        raise RuntimeError(f"The {backend} backend is not available here: {reason}.")
    return backend


def table() -> list[tuple[str, str, str]]:
    """One (operator, backend, state) for every cell of `genfast info`."""
    rows = []
    for operator, backends in OPERATORS.items():
        for backend in backends:
            reason = why_not(backend)
            present = {"cpu": f"present ({isa()})", "cuda": "compiled", "triton": "present"}.get(backend, "present")
            rows.append((operator, backend, present if not reason else f"no: {reason}"))
    return rows


def isa() -> str:
    """The instruction set of the cpu backend: generic, avx2 or avx512; "none" without the extension."""
    module, _ = extension()
    return str(module.isa()) if module else "none"
