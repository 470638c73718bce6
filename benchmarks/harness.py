"""Timing that can be trusted on a noisy machine: two functions in turns in one process, and the ratio of each turn.

An absolute time from a shared machine means little; what was running beside it slowed both functions of a turn alike,
so the ratio holds. Every benchmark first checks that both functions give the same answer.
"""

import json
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from genfast.profiling.machine import machine

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


def save(name: str, rows: list[dict[str, Any]], **more: Any) -> Path:
    """Writes benchmarks/results/NAME.json: the machine, and one object a row."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    path.write_text(json.dumps({"machine": machine(), **more, "rows": rows}, indent=1) + "\n")
    return path


def as_row(prefix: str, ratio: Ratio) -> dict[str, float]:
    return {f"{prefix}_{key}": round(value, 6) for key, value in asdict(ratio).items()}
