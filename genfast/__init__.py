"""genfast: pixel-level generative models in PyTorch, exact and fast to sample.

    model = genfast.load_model("runs/digits")
    sampler = genfast.compile_sampler(model)
    images = sampler.sample(64, seed=0)            # uint8 [64, C, H, W]

Sub-packages: nn (modules), ops (operators), models, compiler, likelihoods, sampling, data, training, quality. Names
load on first use, so that the command line answers before torch is imported.
"""

import importlib
from typing import TYPE_CHECKING, Any

from genfast.errors import GenfastError, NotCausal, NotSupported

if TYPE_CHECKING:
    from genfast.compiler import check_causality
    from genfast.models import build_model
    from genfast.sampling import accelerate, compile_sampler
    from genfast.training import load_model

__all__ = [
    "GenfastError",
    "NotCausal",
    "NotSupported",
    "accelerate",
    "build_model",
    "check_causality",
    "compile_sampler",
    "load_model",
]

_HOMES = {
    "accelerate": "sampling",
    "compile_sampler": "sampling",
    "load_model": "training",
    "build_model": "models",
    "check_causality": "compiler",
}
_PACKAGES = ("nn", "ops", "models", "compiler", "likelihoods", "sampling", "data", "training", "quality")


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(f"genfast.{_HOMES[name]}"), name)
    if name in _PACKAGES:
        return importlib.import_module(f"genfast.{name}")
    raise AttributeError(f"module 'genfast' has no attribute {name!r}")
