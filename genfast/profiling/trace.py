"""A Chrome trace: what ran when, with a range for each layer of the model. Open it in Perfetto or chrome://tracing."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.profiler import ProfilerActivity, profile, record_function


def write_trace(path: Path, run: Callable[[], object], network: nn.Module) -> None:
    """Runs a function once under torch.profiler and writes the trace (JSON)."""
    os.environ.setdefault("KINETO_LOG_LEVEL", "9")  # or else it says on stderr when it starts and stops
    activities = [ProfilerActivity.CPU]
    if torch.cuda.is_available():
        activities.append(ProfilerActivity.CUDA)
    run()
    with named_layers(network), profile(activities=activities, record_shapes=True) as profiler:
        run()
    profiler.export_chrome_trace(str(path))


@contextmanager
def named_layers(network: nn.Module) -> Iterator[None]:
    """Ranges in the trace, named as the layers are in the model; on a GPU NVTX ranges too."""
    open_ranges: list[Any] = []
    nvtx = torch.cuda.is_available()

    def enter(name: str) -> Callable[..., None]:
        def hook(*_: Any) -> None:
            layer = record_function(name)
            layer.__enter__()
            open_ranges.append(layer)
            if nvtx:
                torch.cuda.nvtx.range_push(name)

        return hook

    def leave(*_: Any) -> None:
        if nvtx:
            torch.cuda.nvtx.range_pop()
        open_ranges.pop().__exit__(None, None, None)

    handles = []
    for name, layer in network.named_modules():
        handles.append(layer.register_forward_pre_hook(enter(name or type(network).__name__)))
        handles.append(layer.register_forward_hook(leave, always_call=True))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
