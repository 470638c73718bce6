"""Timing that can be trusted on a noisy machine: two functions in turns in one process, and the ratio of each turn.

An absolute time from a shared machine means little; what was running beside it slowed both functions of a turn alike,
so the ratio holds. Every benchmark first checks that both functions give the same answer.
"""

import json
import os
import platform
import statistics
import subprocess
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True)
class Ratio:
    """How many times faster `ours` was than `theirs`: the median over the turns, and its quartiles; best times in
    seconds."""

    median: float
    low: float
    high: float
    ours: float
    theirs: float


def compare(
    ours: Callable[[], Any], theirs: Callable[[], Any], turns: int = 7, clock: Callable[[], float] = time.perf_counter
) -> Ratio:
    """Times both in turns, swapping who goes first, after one unmeasured call of each. On a machine that is busy with
    other work, time.process_time on one thread still tells which needs less of a processor."""
    times: dict[str, list[float]] = {"ours": [], "theirs": []}
    both = {"ours": ours, "theirs": theirs}
    for function in both.values():
        function()
    for turn in range(turns):
        for name in sorted(both, reverse=turn % 2 == 1):
            start = clock()
            both[name]()
            times[name].append(clock() - start)
    ratios = [t / o for o, t in zip(times["ours"], times["theirs"], strict=True)]
    low, median, high = statistics.quantiles(ratios, n=4)
    return Ratio(median, low, high, min(times["ours"]), min(times["theirs"]))


def matmul_peak(size: int = 1536, turns: int = 8) -> float:
    """FLOP/s of the largest rate seen of a float32 matrix product: the ceiling that kernels are measured against."""
    a, b = torch.randn(size, size), torch.randn(size, size)
    best = float("inf")
    for _ in range(turns):
        start = time.perf_counter()
        torch.mm(a, b)
        best = min(best, time.perf_counter() - start)
    return 2 * size**3 / best


def machine() -> dict[str, Any]:
    """What a number depends on."""
    from genfast.ops.backends import isa

    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [
            line.split(":", 1)[1].strip() for line in cpuinfo.read_text().splitlines() if line.startswith("model name")
        ]
        model = names[0] if names else model
    commit = subprocess.run(
        ["git", "describe", "--always", "--dirty"], cwd=RESULTS.parent, capture_output=True, text=True
    )
    return {
        "cpu": model,
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "instruction_set": isa(),
        "torch": torch.__version__,
        "commit": commit.stdout.strip() or "unknown",
        "date": time.strftime("%Y-%m-%d"),
    }


def save(name: str, rows: list[dict[str, Any]], **more: Any) -> Path:
    """Writes benchmarks/results/NAME.json: the machine, and one object a row."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    path.write_text(json.dumps({"machine": machine(), **more, "rows": rows}, indent=1) + "\n")
    return path


def as_row(prefix: str, ratio: Ratio) -> dict[str, float]:
    return {f"{prefix}_{key}": round(value, 6) for key, value in asdict(ratio).items()}
