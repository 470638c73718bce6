"""Timing that can be trusted on a noisy machine: functions in turns in one process, and the ratio of each turn.

An absolute time from a shared machine means little; what was running beside it slowed all functions of a turn alike,
so the ratio holds. Where much else runs, time.process_time on one thread still tells which needs less of a processor.
"""

import json
import math
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from genfast.profiling.machine import machine

RESULTS = Path(__file__).parent / "results"
LONG_ENOUGH = 2e-3  # seconds: one preemption would be all that is seen of a shorter call, so several are timed as one
Clock = Callable[[], float]


@dataclass(frozen=True)
class Ratio:
    """How many times faster `ours` was than `theirs`: the median over the turns, and its quartiles; best times in
    seconds."""

    median: float
    low: float
    high: float
    ours: float
    theirs: float


def timed(function: Callable[[], Any], clock: Clock = time.perf_counter) -> float:
    start = clock()
    function()
    return clock() - start


def ratio_of(ours: list[float], theirs: list[float]) -> Ratio:
    """Of the times of the same turns."""
    ratios = [t / max(o, 1e-9) for o, t in zip(ours, theirs, strict=True)]
    low, median, high = statistics.quantiles(ratios, n=4) if len(ratios) > 1 else ratios * 3
    return Ratio(median, low, high, min(ours), min(theirs))


def take_turns(
    functions: Mapping[str, Callable[[], Any]], turns: int, clock: Clock = time.perf_counter
) -> dict[str, list[float]]:
    """Seconds of each function in each turn, the order reversed in every other turn, after one unmeasured call."""
    for function in functions.values():
        function()
    times: dict[str, list[float]] = {name: [] for name in functions}
    for turn in range(turns):
        for name in reversed(functions) if turn % 2 else functions:
            times[name].append(timed(functions[name], clock))
    return times


def calls_a_turn(function: Callable[[], Any], clock: Clock = time.perf_counter) -> int:
    """How many calls to time as one."""
    return max(1, math.ceil(LONG_ENOUGH / max(timed(function, clock), 1e-7)))


def repeated(function: Callable[[], Any], calls: int) -> Callable[[], Any]:
    def several() -> None:
        for _ in range(calls):
            function()

    return function if calls == 1 else several


def save(name: str, rows: list[dict[str, Any]], **more: Any) -> Path:
    """Writes benchmarks/results/NAME.json: the machine, and one object a row."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    path.write_text(json.dumps({"machine": machine(), **more, "rows": rows}, indent=1) + "\n")
    return path
