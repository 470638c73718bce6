"""Which backend computes an operator, and why not another.

Backends: reference (plain PyTorch), cpu (C++), triton, cuda (CUDA C++). Asking for one by name gives that one or an
error that says why not; "auto" takes the first that is there: cpu then reference for CPU tensors, cuda then triton
then reference for CUDA tensors.
"""

import importlib
import importlib.metadata
import importlib.util
import platform
from types import ModuleType

import torch

BACKENDS = ("reference", "cpu", "triton", "cuda")
PREFERENCE = {"cpu": ("cpu", "reference"), "cuda": ("cuda", "triton", "reference")}
NO_DEVICE = "no CUDA device is usable here"
NEVER_RUN = "no GPU has run it yet"  # true of every GPU kernel until `make gpu-check` has passed on one
OPERATORS: dict[str, tuple[str, ...]] = {
    "masked_conv2d": BACKENDS,
    "gated_activation": ("reference", "cpu", "triton"),
    "row_lstm": BACKENDS,
    "diagonal_lstm": BACKENDS,
    "logistic_mixture": BACKENDS,
}


def _load() -> tuple[ModuleType | None, str]:
    """The compiled module, or None and the reason. Importing it registers the operators' C++ kernels."""
    try:
        return importlib.import_module("genfast._C"), ""
    except ImportError as error:
        if importlib.util.find_spec("genfast._C") is None:
            return (
                None,
                "the extension is not built: install a C++ compiler, then run pip install --no-build-isolation -e .",
            )
        return None, f"the extension does not load ({error}): build it again with this torch"


# Facts of this installation, found once. Plain values, so that torch.compile can trace the choice of a backend.
EXTENSION, NO_EXTENSION = _load()
ARCHITECTURES: list[str] = [a for a in getattr(EXTENSION, "cuda_architectures", "").split(",") if a]
HAS_TRITON = importlib.util.find_spec("triton") is not None


def why_not(backend: str) -> str:
    """Empty if the backend can run on this machine, or else one sentence without its full stop."""
    if backend == "reference":
        return ""
    if backend == "cpu":
        return NO_EXTENSION
    if backend == "triton" and not HAS_TRITON:
        return "triton is not installed"
    if backend == "cuda" and NO_EXTENSION:
        return NO_EXTENSION
    if backend == "cuda" and not ARCHITECTURES:
        return "built without nvcc; put it on the PATH and build again"
    return "" if torch.cuda.is_available() else NO_DEVICE


def choose(backend: str, device: torch.device, operator: str) -> str:
    """The backend that computes the operator on this device. Raises RuntimeError for one that cannot, with the
    reason."""
    if backend == "auto":
        usable = (b for b in PREFERENCE.get(device.type, ()) if b in OPERATORS[operator] and not why_not(b))
        return next(usable, "reference")
    if backend not in BACKENDS:
        raise ValueError(f"backend must be auto, {', '.join(BACKENDS)}, not {backend!r}.")
    reason = why_not(backend)
    if not reason and backend not in OPERATORS[operator]:
        reason = f"{operator} has no {backend} kernel"
    if not reason and backend != "reference" and backend not in PREFERENCE.get(device.type, ()):
        reason = f"it does not compute on {device.type} tensors"
    if reason:
        raise RuntimeError(f"The {backend} backend is not available here: {reason}.")
    return backend


def table() -> list[tuple[str, str, str]]:
    """(operator, backend, state) for every pair: what `genfast info` prints. "interpreted", "compiled" and "emulated"
    are weaker than "present"."""
    checked = {
        "triton": "interpreted and compiled in tests",
        "cuda": f"compiled for {', '.join('sm_' + a for a in ARCHITECTURES)}, emulated in tests",
    }
    state = {"reference": "present", "cpu": why_not("cpu") or f"present, {isa()}"}
    for backend, how in checked.items():
        reason = why_not(backend)
        state[backend] = f"{how}, {NEVER_RUN}" + (f"; {reason}" if reason else "")
        if reason and reason != NO_DEVICE:
            state[backend] = reason
    return [(operator, backend, state[backend]) for operator, backends in OPERATORS.items() for backend in backends]


def isa() -> str:
    """The instruction set of the cpu backend: generic, avx2 or avx512; "none" without the extension."""
    return str(EXTENSION.isa()) if EXTENSION else "none"


def report() -> str:
    """What `genfast info` prints: versions, processor, threads, and operators by backend."""
    if EXTENSION:
        built = f"built by {EXTENSION.compiler} with torch {EXTENSION.built_with_torch}"
        best = EXTENSION.best_isa()
        instructions = isa() if best == isa() else f"{isa()} (this machine has {best}; GENFAST_CPU caps it)"
    else:
        built, instructions = f"none: {NO_EXTENSION}", "PyTorch's own: operators run on their reference code"
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else NO_DEVICE
    version = importlib.metadata.version("genfast")
    lines = [
        f"genfast {version}, Python {platform.python_version()}, torch {torch.__version__}",
        f"extension         {built}",
        f"instruction set   {instructions}",
        f"threads           {torch.get_num_threads()}",
        f"GPU               {gpu}",
        "",
    ]
    rows = [("operator", "backend", "state"), *table()]
    widths = [max(len(row[column]) for row in rows) for column in (0, 1)]
    lines += [f"{operator:{widths[0]}}  {backend:{widths[1]}}  {state}" for operator, backend, state in rows]
    return "\n".join(lines)
