"""Where a training step, an evaluation or a drawing spends its time, operator by operator."""

import time
from collections.abc import Callable, Sequence
from dataclasses import replace

import torch

from genfast.errors import GenfastError
from genfast.ops.backends import OPERATORS
from genfast.profiling.ceilings import Ceilings, affordable, best_seconds, measure
from genfast.profiling.machine import busy, machine
from genfast.profiling.profile import Profile, Row, against
from genfast.profiling.recorder import TRAFFIC, Calls, Recorder

NOT_COUNTED = "FLOPs are those of products and convolutions; elementwise operators have bytes and exponentials only."


def profile_operators(
    run: Callable[[], object],
    what: str,
    images: int,
    pixels: int,
    title: str = "",
    turns: int = 6,
    quick: bool = False,
) -> Profile:
    """Runs a function several times under clocks, and keeps each call as in the turn in which it took least.

    run: a whole training step, say; images, pixels: how many it works on, and the pixels of each. The ceilings are
    measured before and after. quick: measure them for a few milliseconds each, for tests.
    """
    seconds = 0.005 if quick else 0.12
    before = measure(seconds=seconds)
    turns = affordable(turns, _timed(run))  # the first is slow
    whole = min(_timed(run) for _ in range(turns))
    runs = []
    for _ in range(turns):
        with Recorder() as recorder:
            run()
        runs.append(recorder.finish())
    rows = [calls.row(calls.operator, quickest(runs, calls.operator)) for calls in runs[0]]
    best = before.best_of(measure(seconds=seconds))
    inside = sum(row.seconds for row in rows)
    return Profile(
        title=title,
        what=what,
        row_kind="operator",
        images=images,
        pixels=pixels,
        rows=_ranked(rows, best),
        seconds=whole,
        device_seconds=min(inside, whole),
        ceilings=best,
        machine=machine(),
        notes=tuple(note for note in (NOT_COUNTED, busy()) if note),
    )


def profile_operator(
    run: Callable[[], object], operator: str, images: int, pixels: int, title: str = "", quick: bool = False
) -> Profile:
    """The calls of an operator in one run of a function, by their shapes, each then timed alone, again and again.

    operator: a name, or a part of it, such as "masked_conv2d", "convolution" or "genfast::". Raises GenfastError,
    naming the operators there are, where none is called so.
    """
    seconds = 0.005 if quick else 0.12
    run()
    with Recorder(only=operator) as recorder:
        run()
    found = recorder.finish()
    if not found:
        seen = ", ".join(sorted(name.removeprefix("aten::") for name in recorder.seen))
        hint = f"{operator} is an operator of genfast, but this model does not use it" if operator in OPERATORS else (
            f"No operator with {operator!r} in its name runs here"
        )  # fmt: skip
        raise GenfastError(f"{hint}: choose sample, train, evaluate or one of {seen}.")
    before = measure(seconds=seconds)
    rows = [calls.row(f"{calls.operator} {calls.shapes}", calls.count * alone(calls, seconds)) for calls in found]
    best = before.best_of(measure(seconds=seconds))
    kept = [calls.operator for calls in found if calls.example is None]
    notes = [
        "Each kind of call was timed alone, again and again on the same numbers, which caches then hold; the time is "
        "the quickest of them, times the calls of one training step.",
        f"{', '.join(kept)} change their arguments, so theirs is the time within the step." if kept else "",
        busy(),
    ]
    spent = sum(row.seconds for row in rows)
    return Profile(
        title=title,
        what=operator,
        row_kind="operator",
        images=images,
        pixels=pixels,
        rows=_ranked(rows, best),
        seconds=spent,
        device_seconds=spent,
        ceilings=best,
        machine=machine(),
        notes=tuple(note for note in notes if note),
    )


def alone(calls: Calls, seconds: float) -> float:
    """The quickest call with the arguments that were kept, or the mean of those that were seen."""
    if calls.example is None:
        return calls.seconds / calls.count
    func, args, kwargs = calls.example

    def call() -> None:
        func(*args, **kwargs)
        if torch.cuda.is_available():
            torch.cuda.synchronize()

    with torch.no_grad():
        return best_seconds(call, seconds)


def quickest(runs: Sequence[Sequence[Calls]], operator: str) -> float:
    """Seconds of all calls of an operator, each as in the run in which it took least: other work on the machine only
    ever adds. Where the runs made different calls, those of the quickest run."""
    times = [calls.times for run in runs for calls in run if calls.operator == operator]
    if len({len(each) for each in times}) == 1:
        return sum(map(min, zip(*times, strict=True)))
    return min(map(sum, times))


def _ranked(rows: Sequence[Row], ceilings: Ceilings) -> tuple[Row, ...]:
    named = [replace(row, name=row.name.removeprefix("aten::")) for row in rows]
    return against(named, ceilings, {TRAFFIC: lambda row: ceilings.bandwidth(row.working_set)})


def _timed(run: Callable[[], object]) -> float:
    start = time.perf_counter()
    run()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - start
