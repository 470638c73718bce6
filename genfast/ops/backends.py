"""Which backend computes an operator, and why not another.

Backends: reference (plain PyTorch), cpu (C++), triton, cuda (CUDA C++). Asking for one by name gives that one or an error that says why
not; "auto" takes the first that is there: cpu then reference for CPU tensors, cuda then triton then reference for CUDA tensors.
"""

import importlib
import importlib.metadata
import importlib.util
import platform
from functools import cache
from types import ModuleType

import torch

BACKENDS = ("reference", "cpu", "triton", "cuda")
PREFERENCE = {"cpu": ("cpu", "reference"), "cuda": ("cuda", "triton", "reference")}
NO_DEVICE = "no CUDA device is usable here"
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
            return "built without nvcc; put it on the PATH and build again"
    return "" if torch.cuda.is_available() else NO_DEVICE


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
    """(operator, backend, state) for every pair: what `genfast info` prints. "compiled" is weaker than "present": no GPU has run it."""
    present = {"cpu": f"present, {isa()}"}
    state = {backend: why_not(backend) or present.get(backend, "present") for backend in BACKENDS}
    if state["cuda"] == NO_DEVICE:
        state["cuda"] = f"compiled for {', '.join('sm_' + a for a in architectures())}; {NO_DEVICE}"
    return [(operator, backend, state[backend]) for operator, backends in OPERATORS.items() for backend in backends]


def isa() -> str:
    """The instruction set of the cpu backend: generic, avx2 or avx512; "none" without the extension."""
    module, _ = extension()
    return str(module.isa()) if module else "none"


def architectures() -> list[str]:
    """The GPU architectures that the CUDA kernels were compiled for: ["80", "90a"], or none."""
    module, _ = extension()
    return module.cuda_architectures.split(",") if module and module.cuda_architectures else []


def report() -> str:
    """What `genfast info` prints: versions, processor, threads, and operators by backend."""
    module, reason = extension()
    best = f" (this machine: {module.best_isa()})" if module and module.best_isa() != module.isa() else ""
    lines = [
        f"genfast {importlib.metadata.version('genfast')}, Python {platform.python_version()}, torch {torch.__version__}",
        f"extension         {f'built by {module.compiler} with torch {module.built_with_torch}' if module else f'none: {reason}'}",
        f"instruction set   {isa()}{best}" if module else "instruction set   PyTorch's own: operators run on reference code",
        f"threads           {torch.get_num_threads()}",
        f"GPU               {torch.cuda.get_device_name() if torch.cuda.is_available() else NO_DEVICE}",
        "",
    ]
    rows = [("operator", "backend", "state"), *table()]
    widths = [max(len(row[column]) for row in rows) for column in (0, 1)]
    lines += [f"{operator:{widths[0]}}  {backend:{widths[1]}}  {state}" for operator, backend, state in rows]
    return "\n".join(lines)
