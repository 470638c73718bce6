"""Every case as a test of pytest-benchmark: check the answer, then time ours and its rivals in turns.

pytest-benchmark collects, keeps the times of ours and writes the JSON that its own tools read. It times one function
at a time, and compares what ran minutes apart; so the rivals' turns are taken in the setup and teardown of each of its
rounds, before ours in one and after ours in the next, and the ratios of these turns go into extra_info.
"""

import functools
import itertools
import time
from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

import torch
from cases import Case, Options, Prepared, Timing, options_of, suite_module
from harness import calls_a_turn, ratio_of, repeated, timed

FLOOR = "floor"


@functools.lru_cache(maxsize=1)
def prepared(case: Case) -> Prepared:
    """Kept for the other parts of the case."""
    torch.manual_seed(0)
    made = case.prepare()
    made.check()
    return made


def turns_for(seconds: float, quick: bool) -> int:
    """As many as fit in a time, within limits; odd, so that the median is a turn."""
    least, most, budget = (3, 7, 1.5) if quick else (5, 15, 1.5)
    return min(max(int(budget / max(seconds, 1e-9)), least), most) // 2 * 2 + 1


def bench(case: Case, part: str, benchmark: Any, request: Any) -> None:
    options = options_of(request.config.getoption)
    clock = time.process_time if request.config.getoption("--cpu-time") else time.perf_counter
    benchmark._timer = clock  # what @pytest.mark.benchmark(timer=...) would set, were it known before the options
    timing = prepared(case).parts[part]
    found = in_turns(benchmark, timing, options, clock)
    benchmark.group = case.name
    benchmark.extra_info |= {
        "suite": case.suite,
        "table": case.table,
        "title": case.title,
        "part": part,
        "facts": case.facts,
        "left_out": dict(timing.left_out),
        "more": prepared(case).more(part, found),
        "ceilings": getattr(suite_module(case.suite), "ceilings", lambda options: {})(options),
        **found,
    }


def in_turns(benchmark: Any, timing: Timing, options: Options, clock: Any) -> dict[str, Any]:
    """Ratios over the rivals, the fastest of them, seconds a call, and how many floors that is."""
    ours = finishing(timing.ours, options.device)
    ours()
    calls = calls_a_turn(ours, clock)
    ours = finishing(repeated(timing.ours, calls), options.device)
    functions = {**timing.rivals, **({FLOOR: timing.floor} if callable(timing.floor) else {})}
    settled = {name: finishing(repeated(function, calls), options.device) for name, function in functions.items()}
    once = timed(ours, clock) + sum(timed(function, clock) for function in settled.values())
    turns = turns_for(once, options.quick)
    times: dict[str, list[float]] = {name: [] for name in settled}

    def take(order: Iterable[str]) -> None:
        for name in order:
            times[name].append(timed(settled[name], clock) * timing.multiples.get(name, 1))

    done = itertools.count()
    turn = [0]

    def before() -> None:
        turn[0] = next(done)
        if turn[0] % 2 == 0:
            take(settled)

    def after() -> None:
        if turn[0] % 2 == 1:
            take(reversed(settled))

    benchmark.pedantic(ours, setup=before, teardown=after, rounds=turns)
    own = list(benchmark.stats.stats.data)
    best = min(own) / calls
    ratios = {name: asdict(ratio_of(own, times[name])) for name in timing.rivals}
    for ratio in ratios.values():
        ratio["ours"], ratio["theirs"] = ratio["ours"] / calls, ratio["theirs"] / calls
    floors = 0.0
    if callable(timing.floor):
        floors = 1 / ratio_of(own, times[FLOOR]).median
    elif timing.floor:
        floors = best / timing.floor
    return {
        "ours": best,
        "calls": calls,
        "turns": turns,
        "rivals": ratios,
        "fastest": min(ratios, key=lambda name: ratios[name]["median"]),
        "of_floor": floors,
    }


def finishing(function: Any, device: str) -> Any:
    """Waits for a GPU, which otherwise would still be working. Once for all calls of a turn, as a program would: then
    neither the wait nor a launch that the GPU need not wait for counts."""
    if device == "cpu":
        return function

    def finished() -> None:
        function()
        torch.cuda.synchronize()

    return finished
