"""What a sampler runs: its model compiled for each kind of condition, and again when the weights have changed."""

import zlib
from typing import Any

import torch
from torch import Tensor
from torch.nn.parameter import is_lazy

from genfast.sampling import incremental
from genfast.sampling.incremental import Compiled, Signature, dtype_of, signature
from genfast.sampling.task import CausalModel, device_of


class Programs:
    """A model compiled for an incremental engine, by kind of condition."""

    def __init__(self, model: CausalModel, engine: str, threads: int, precision: str) -> None:
        self._model = model
        self._engine, self._threads, self._precision = engine, threads, precision
        self._compiled: dict[Signature, Compiled] = {}
        self._examples: dict[Signature, tuple[Tensor, ...]] = {}
        self._marks: list[tuple[int, int, float]] = []  # cheap to compare; where they differ, the fingerprint decides
        self._fingerprint: list[tuple[torch.Size, int]] = []

    def values(self) -> list[Compiled]:
        return list(self._compiled.values())

    def of(self, conditions: tuple[Tensor, ...]) -> Compiled:
        """The compiled model for this kind of conditions, compiled again if the weights have changed."""
        self.refresh()
        check_values(self._model, conditions)
        key = signature(conditions)
        if key not in self._compiled:
            self._compiled[key] = self._compile(conditions)
            self._examples[key] = conditions
        return self._compiled[key]

    def refresh(self) -> None:
        """Compiles all of it again if the weights have changed."""
        if marks(self._model) == self._marks:
            return
        if fingerprint(self._model) != self._fingerprint:
            for key, example in self._examples.items():
                self._compiled[key] = self._compile(example)
            self._fingerprint = fingerprint(self._model)  # a model may mask its weights while it is compiled
        self._marks = marks(self._model)

    def clear(self) -> None:
        self._compiled.clear()
        self._examples.clear()

    def _compile(self, conditions: tuple[Tensor, ...]) -> Compiled:
        return incremental.compile_model(self._model, self._engine, self._threads, conditions, self._precision)


def check_values(model: CausalModel, conditions: tuple[Tensor, ...]) -> None:
    """Lets a model of ours refuse a condition that it would refuse in a forward pass, which the engines do not make."""
    check = getattr(model, "encode_condition", None)
    if check is not None:
        rows = len(conditions[0]) if conditions else 2
        like = torch.zeros(rows, 1, dtype=dtype_of(model), device=device_of(model))
        check(conditions[0] if conditions else None, like)


def marks(model: CausalModel) -> list[tuple[int, int, float]]:
    """Change when the weights may have, whoever wrote to them: through ``.data``, too, which counts no version.

    Costs one read of all weights: a fraction of a millisecond for a million of them.
    """
    with torch.no_grad():
        return [(t.data_ptr(), 0 if t.is_inference() else t._version, float(t.sum())) for t in weights_of(model)]


def fingerprint(model: CausalModel) -> list[tuple[torch.Size, int]]:
    """Changes when the numbers in the weights do, and with nothing else: a forward pass that masks its weights in place
    leaves the same numbers, in the same memory or in other. One checksum: 2 ms for a million weights."""

    def bytes_of(t: Tensor) -> memoryview:
        array: Any = t.reshape(-1).view(torch.uint8).cpu().numpy()
        return memoryview(array)

    return [(t.shape, zlib.crc32(bytes_of(t))) for t in weights_of(model)]


def weights_of(model: CausalModel) -> list[Tensor]:
    """Parameters and buffers. Lazy layers have none before they have run; sparse ones are made dense."""
    assert isinstance(model, torch.nn.Module)
    weights = [t.detach() for t in [*model.parameters(), *model.buffers()] if not is_lazy(t)]
    return [t.to_dense() if t.layout != torch.strided else t for t in weights]
