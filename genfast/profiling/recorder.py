"""Every operator that PyTorch dispatches, forward, backward and in the optimizer: how often, how long, how much work.

Device time: on a CPU an operator's time from call to return; on a GPU that between two events around it. Host time is
what is left of the whole: Python, autograd and dispatch between the operators.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from genfast.kernels.common.work import Work
from genfast.profiling.profile import Row
from genfast.profiling.work import call_work

TRAFFIC = "bandwidth"


@dataclass
class Calls:
    """All calls of one kind. times: seconds of each, in order. example: the arguments of the first, if asked for."""

    operator: str
    shapes: str
    times: list[float] = field(default_factory=list)
    work: Work = field(default_factory=Work)
    example: tuple[Any, tuple[Any, ...], dict[str, Any]] | None = None

    @property
    def count(self) -> int:
        return len(self.times)

    @property
    def seconds(self) -> float:
        return sum(self.times)

    def row(self, name: str, seconds: float) -> Row:
        return Row(
            name,
            self.count,
            seconds,
            self.work.flops,
            self.work.exponentials,
            {TRAFFIC: self.work.bytes},
            working_set=self.work.bytes // max(self.count, 1),
        )


class Recorder(TorchDispatchMode):
    """Use as ``with Recorder() as recorder``. Views, which compute nothing, are left out.

    only: record but the operators with this in their name, and keep an example of the arguments of each shape.
    """

    def __init__(self, only: str | None = None) -> None:
        super().__init__()
        self.only = only
        self.calls: dict[tuple[str, str], Calls] = {}
        self.seen: set[str] = set()
        self._events: list[tuple[Calls, int, Any, Any]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name: str = func._schema.name
        if not name.startswith("genfast::"):  # in inference mode composite operators come whole
            with self:
                parts = func.decompose(*args, **kwargs)
            if parts is not NotImplemented:
                return parts
        on_gpu = any(isinstance(t, Tensor) and t.is_cuda for t in tree_leaves((args, kwargs)))
        events: list[Any] = [torch.cuda.Event(enable_timing=True) for _ in range(2)] if on_gpu else []
        if events:
            events[0].record()
        start = time.perf_counter()
        out = func(*args, **kwargs)
        seconds = time.perf_counter() - start
        if events:
            events[1].record()
            seconds = 0.0
        if func.is_view or "detach" in name or name.startswith("profiler::"):
            return out
        self.seen.add(name)
        if self.only is None or self.only in name:
            calls = self._calls(func, args, kwargs)
            work = call_work(func, args, kwargs, out)
            calls.times.append(seconds)
            calls.work += work
            if events:
                self._events.append((calls, len(calls.times) - 1, events[0], events[1]))
        return out

    def _calls(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Calls:
        name = func._schema.name
        shapes = shapes_of(args, kwargs) if self.only is not None else ""
        if (name, shapes) not in self.calls:
            self.calls[name, shapes] = Calls(name, shapes)
            if self.only is not None and not func._schema.is_mutable:
                self.calls[name, shapes].example = (func, args, kwargs)
        return self.calls[name, shapes]

    def finish(self) -> list[Calls]:
        """All kinds of calls, with the times of a GPU if there is one."""
        if self._events:
            torch.cuda.synchronize()
            for calls, i, begin, end in self._events:
                calls.times[i] = begin.elapsed_time(end) / 1e3
            self._events.clear()
        return list(self.calls.values())


def shapes_of(args: Sequence[Any], kwargs: dict[str, Any]) -> str:
    """The shapes of the tensors, as text: "[16, 64, 28, 28] [64, 64, 3, 3]"."""
    tensors = [t for t in tree_leaves((args, kwargs)) if isinstance(t, Tensor)]
    shown = [str(list(t.shape)) for t in tensors[:3]]
    return " ".join(shown) + (" ..." if len(tensors) > 3 else "")
