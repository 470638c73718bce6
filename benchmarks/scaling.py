"""`genfast bench --scaling`: how time and memory grow with batch, image side, depth, channels and threads.

One Gated PixelCNN, of which one size at a time is changed; drawing by the cpu engine, and a training step. Every turn
goes through all values of a size, up in one turn and down in the next, and gives an exponent: that of the power law
through its times, x for time ~ size^x, by least squares in logarithms over the upper half of the values, where fixed
costs no longer count. What is reported is the median over the turns and, as their spread, the quartiles.

Memory is how far the process grew beyond what it had before the call, by the peak that Linux keeps for it.
"""

import ctypes
import gc
import math
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import scaling_page
import torch
from harness import Clock, take_turns
from training import stepper

import genfast
from genfast.models import GatedPixelCNN, GatedPixelCNNConfig
from genfast.profiling.machine import busy, machine
from genfast.profiling.units import size_name
from genfast.training.files import write_json

KINDS = ("drawing", "training")


@dataclass(frozen=True)
class Setting:
    batch: int = 16
    side: int = 16
    layers: int = 4
    hidden: int = 32
    threads: int = 0  # PyTorch's

    @property
    def pixels(self) -> int:
        return self.side**2


@dataclass(frozen=True)
class Axis:
    """field: of Setting; per: what a time is divided by in the plot. promise: (smallest, largest) exponent of the time,
    and in words; without a promise there is nothing to break."""

    name: str
    field: str
    values: tuple[int, ...]
    quick: tuple[int, ...]
    promise: tuple[float, float] = (-math.inf, math.inf)
    said: str = ""
    base: Setting = Setting()


CORES = torch.get_num_threads()
AXES = (
    Axis("batch", "batch", (1, 2, 4, 8, 16, 32, 64, 128, 256), (1, 4, 16), (-math.inf, 1.05),
         "an image costs no more in a large batch than in a small one"),
    Axis("pixels", "side", (8, 16, 32, 64, 128), (8, 12, 16), (-math.inf, 1.1),
         "the cost of an image grows no faster than its number of pixels", Setting(batch=4)),
    Axis("layers", "layers", (1, 2, 4, 8, 16), (1, 2, 4), (-math.inf, 1.1), "the cost grows no faster than the layers"),
    Axis("channels", "hidden", (8, 16, 32, 64, 128), (8, 16, 32), (-math.inf, 2.1),
         "the cost grows no faster than the square of the channels: that is how many weights there are"),
    Axis("threads", "threads", tuple(2**i for i in range(CORES.bit_length()) if 2**i <= CORES), (1, CORES)),
)  # fmt: skip


@dataclass(frozen=True)
class Curve:
    """x: the values; seconds[i][turn] and memory[i] (bytes; -1 where the system does not tell) of each."""

    axis: str
    kind: str
    x: tuple[int, ...]
    seconds: tuple[tuple[float, ...], ...]
    memory: tuple[int, ...]
    promise: tuple[float, float]
    said: str

    def exponents(self) -> tuple[float, float, float]:
        """Of the time: lower quartile, median, upper quartile over the turns. Of one value there is none: zeros."""
        if len(self.x) < 2:
            return 0.0, 0.0, 0.0
        first = upper_half(self.x)
        turns = [exponent(self.x[first:], turn) for turn in zip(*self.seconds[first:], strict=True)]
        low, middle, high = statistics.quantiles(turns, n=4) if len(turns) > 1 else turns * 3
        return low, middle, high

    def memory_exponent(self) -> float | None:
        first = upper_half(self.x)
        points = [(x, y) for x, y in zip(self.x[first:], self.memory[first:], strict=True) if y > 0]
        return exponent(*zip(*points, strict=True)) if len(points) > 1 else None

    @property
    def kept(self) -> bool:
        """Whether the promise holds: broken only where all but the lowest quarter of the turns break it."""
        low, _, high = self.exponents()
        return low <= self.promise[1] and high >= self.promise[0]

    def line(self) -> str:
        low, middle, high = self.exponents()
        said = f": {self.said}: {'yes' if self.kept else 'NO'}" if self.said else ""
        memory = self.memory_exponent()
        grown = f"; memory ~ {self.axis}^{memory:.2f}" if memory is not None else ""
        return f"{self.kind}: time ~ {self.axis}^{middle:.2f} ({low:.2f} to {high:.2f}){grown}{said}"


def upper_half(x: Sequence[int]) -> int:
    """Where it begins: at least three values, if there are as many."""
    return max(0, min(len(x) // 2, len(x) - 3))


def exponent(x: Sequence[float], y: Sequence[float]) -> float:
    """The slope of the straight line through the logarithms."""
    return statistics.linear_regression([math.log(a) for a in x], [math.log(b) for b in y]).slope


def make(setting: Setting, kind: str) -> Callable[[], Any]:
    """What is timed, with everything prepared."""
    config = GatedPixelCNNConfig(
        (1, setting.side, setting.side), levels=2, hidden=setting.hidden, layers=setting.layers, head=32, first_kernel=7
    )
    torch.manual_seed(0)
    model = GatedPixelCNN(config).eval()
    threads = setting.threads or CORES
    if kind == "drawing":
        sampler = genfast.compile_sampler(model, engine="cpu", threads=threads)
        return lambda: sampler.sample(setting.batch, batch_size=setting.batch)
    step = stepper(model, torch.randint(0, 2, (setting.batch, 1, setting.side, setting.side), dtype=torch.uint8), True)

    def with_threads() -> None:
        torch.set_num_threads(threads)
        step()
        torch.set_num_threads(CORES)

    return with_threads


def resident(field: str) -> int:
    """Bytes: VmRSS now, VmHWM at most since the peak was reset."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field + ":"))


def grown(function: Callable[[], Any]) -> int:
    """Bytes by which the process grew at most while it ran, or -1 where the system does not tell."""
    function()  # what is allocated once and kept
    gc.collect()
    try:
        ctypes.CDLL("libc.so.6").malloc_trim(0)  # memory that was freed before must not be what is used now
        Path("/proc/self/clear_refs").write_text("5")
        before = resident("VmRSS")
        function()
        return max(resident("VmHWM") - before, 1)
    except (OSError, AttributeError, StopIteration):
        return -1


def measure(axis: Axis, kind: str, quick: bool, clock: Clock = time.perf_counter) -> Curve:
    values = axis.quick if quick else axis.values
    values = tuple(dict.fromkeys(values))
    settings = [replace(axis.base, **{axis.field: value}) for value in values]
    functions = {str(value): make(setting, kind) for value, setting in zip(values, settings, strict=True)}
    memory = tuple(grown(function) for function in functions.values())
    times = take_turns(functions, 3 if quick else 5, clock)
    x = tuple(setting.pixels for setting in settings) if axis.field == "side" else values
    return Curve(axis.name, kind, x, tuple(map(tuple, times.values())), memory, axis.promise, axis.said)


def run(folder: Path, quick: bool, threads: int, cpu_time: bool) -> int:
    """Returns 1 if a promise is broken."""
    global CORES
    CORES = 1 if cpu_time else threads or CORES
    torch.set_num_threads(CORES)
    clock = time.process_time if cpu_time else time.perf_counter
    note = "Times are processor time of one thread." if cpu_time else busy()
    here = machine()  # the commit may change meanwhile
    curves = []
    for axis in AXES:
        if axis.field == "threads" and CORES == 1:
            print("threads: there is one, so nothing to compare.")
            continue
        for kind in KINDS:
            curves.append(measure(axis, kind, quick, clock))
            print(curves[-1].line(), flush=True)
            for x, seconds, memory in zip(curves[-1].x, curves[-1].seconds, curves[-1].memory, strict=True):
                size = size_name(memory) if memory > 0 else "memory not told"
                print(f"    {axis.name} {x:6}: {min(seconds) * 1e3:9.2f} ms, {size}", flush=True)
    folder.mkdir(parents=True, exist_ok=True)
    settings = {"quick": quick, "cpu_time": cpu_time, "base": asdict(Setting())}
    values = {"machine": here, "settings": settings, "curves": [as_json(curve) for curve in curves]}
    write_json(folder / "scaling.json", values)
    written = scaling_page.write(curves, folder, here, [__doc__ or "", *([note] if note else [])])
    print(f"wrote {', '.join(map(str, [folder / 'scaling.json', *written]))}")
    if note:
        print(note)
    return 0 if all(curve.kept for curve in curves) else 1


def as_json(curve: Curve) -> dict[str, Any]:
    low, middle, high = curve.exponents()
    found = {"time_exponent": middle, "time_exponent_low": low, "time_exponent_high": high, "kept": curve.kept}
    limits = [limit if math.isfinite(limit) else None for limit in curve.promise]
    return asdict(curve) | found | {"memory_exponent": curve.memory_exponent(), "promise": limits}
