"""Where drawing pixel by pixel spends its time, kernel by kernel of the plan, from the cpu engine's own clocks."""

import time
from typing import Any

from genfast.compiler.cost import cost, kernel_costs
from genfast.compiler.plan import Plan
from genfast.errors import GenfastError
from genfast.profiling import ceilings as measured_ceilings
from genfast.profiling.ceilings import Ceilings
from genfast.profiling.machine import busy, machine
from genfast.profiling.profile import Profile, Row, against
from genfast.sampling import Sampler
from genfast.sampling.cpu import CpuEngine
from genfast.sampling.incremental import request_of
from genfast.sampling.sampler import example_conditions
from genfast.sampling.task import Task, nothing_known, prepare

PARTS = ("gather", "gemm", "body", "store")
DRAWS = "draws"
WEIGHTS, ACTIVATIONS = "weight bandwidth", "activation bandwidth"


def profile_sampler(sampler: Sampler, n: int = 16, title: str = "", turns: int = 5, quick: bool = False) -> Profile:
    """Draws n images as one batch with the cpu engine, so many turns, and keeps the quickest of each step.

    The ceilings are measured before and after. quick: measure them for a few milliseconds each, for tests. Raises
    GenfastError for another engine, which does not measure itself, or for fewer than one image.
    """
    if sampler.engine != "cpu":
        raise GenfastError(f"The {sampler.engine} engine does not measure its steps; the cpu engine does.")
    seconds = 0.005 if quick else 0.12
    weights = between_uses(sampler.plan, n, sampler.threads, sampler.precision)
    before = measured_ceilings.measure(sampler.precision, (weights,), seconds)
    given = tuple(c[[i % len(c) for i in range(n)]] for c in example_conditions(sampler.model))
    images, known = nothing_known(sampler.model, n)

    def draw() -> object:
        return sampler.sample(n, condition=given, batch_size=n)

    turns = measured_ceilings.affordable(turns, _timed(draw))  # the first is slow
    whole = min(_timed(draw) for _ in range(turns))
    likelihood = sampler.model.likelihood
    engine = CpuEngine(sampler.plan, sampler.threads, sampler.precision == "bfloat16", likelihood)

    def run(profile: bool) -> tuple[float, dict[str, Any]]:
        task: Task = prepare(sampler.model, images, known, condition=given)
        started = engine.start(request_of(task), profile=profile)
        took = _timed(lambda: started.until_row(task.images.shape[2] - 1))
        return took, started.profile() if profile else {}

    inside = min(run(False)[0] for _ in range(turns))
    runs = [run(True) for _ in range(turns)]
    profiled, last = min(runs, key=lambda item: item[0])
    best = before.best_of(measured_ceilings.measure(sampler.precision, (weights,), seconds))
    rows = rows_of(sampler.plan, n, sampler.threads, sampler.precision, quickest([clocks for _, clocks in runs]))
    bandwidths = {
        WEIGHTS: lambda row: best.read_bandwidth(weights),
        ACTIVATIONS: lambda row: best.bandwidth(row.working_set),
    }
    ranked = against(rows, best, bandwidths)
    waiting = 1 - total(last) / sampler.threads / profiled
    notes = [
        crossover(sampler.plan, sampler.threads, sampler.precision, n, best),
        f"With clocks in every step the run took {profiled / inside:.2f} times as long. {max(waiting, 0):.0%} of the "
        "threads' time is in no step: going through the launches, waiting for each other, threads without an image.",
        busy(),
    ]
    return Profile(
        title=title or type(sampler.model).__name__,
        what="sample",
        row_kind="step",
        images=n,
        pixels=images.shape[2] * images.shape[3],
        rows=ranked,
        seconds=whole,
        device_seconds=min(inside, whole),
        ceilings=best,
        machine=machine(),
        notes=tuple(note for note in notes if note),
    )


def _timed(call: Any) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def seconds_of(clock: dict[str, float]) -> float:
    """Of one kernel, added up over the threads."""
    return sum(clock[part] for part in PARTS)


def total(clocks: dict[str, Any]) -> float:
    """Of all kernels and the draws."""
    return float(sum(seconds_of(clock) for clock in clocks["kernels"]) + clocks[DRAWS])


def quickest(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Each kernel as in the run in which it took least, so that what else the machine did is left out where it can
    be."""
    kernels = zip(*(run["kernels"] for run in runs), strict=True)
    return {"kernels": [min(turns, key=seconds_of) for turns in kernels], DRAWS: min(run[DRAWS] for run in runs)}


def width_of(precision: str) -> int:
    """Bytes of a weight."""
    return 2 if precision == "bfloat16" else 4


def teams(n: int, threads: int) -> int:
    """How many times the weights of a launch are read: threads split the batch, and each reads them for its own
    images; where there are more threads than images, several share those of one image."""
    return max(1, min(n, threads))


def between_uses(plan: Plan, n: int, threads: int, precision: str) -> int:
    """Bytes of weights that a thread goes through between two uses of the same ones, which is about those of a tick:
    what fits in a cache comes from there. Threads that share an image read their part of the weights each."""
    price = cost(plan)
    members = threads // teams(n, threads)
    return min(price.weight_numbers, price.weight_reads // max(plan.ticks, 1)) * width_of(precision) // members


def rows_of(plan: Plan, n: int, threads: int, precision: str, clocks: dict[str, Any]) -> list[Row]:
    """A row for each kernel, in the plan's order, and one for the draws.

    clocks: CpuRun.profile(), seconds added up over threads: a row has those of one thread.
    """
    rows, width = [], width_of(precision)
    for kernel, price, clock in zip(plan.kernels, kernel_costs(plan), clocks["kernels"], strict=True):
        activations = 4 * n * (price.read_numbers + price.stored_numbers)
        parts = {part: clock[part] / threads for part in PARTS}
        weights = price.weight_reads * width * teams(n, threads)
        rows.append(
            Row(
                name=kernel.name,
                calls=price.launches,
                seconds=sum(parts.values()),
                flops=price.flops * n,
                exponentials=price.exponentials * n,
                traffic={WEIGHTS: weights, ACTIVATIONS: activations},
                working_set=activations // max(price.launches, 1),
                detail={**parts, "positions a launch": price.positions / max(price.launches, 1)},
            )
        )
    return [*rows, draws_row(plan, n, clocks[DRAWS] / threads)]


def draws_row(plan: Plan, n: int, seconds: float) -> Row:
    """Levels drawn from their parameters: an exponential for each parameter, and one read of it."""
    calls = plan.draw_tick.size
    reads = {(draw.params.value, draw.params.start): draw.params.width for draw in plan.draws}  # colours may share one
    parameters = sum(reads.values()) * plan.draw_tick.shape[1] * n
    traffic = {ACTIVATIONS: 4 * parameters}
    return Row(DRAWS, calls, seconds, 0, parameters, traffic, working_set=4 * parameters // max(calls, 1))


def crossover(plan: Plan, threads: int, precision: str, n: int, ceilings: Ceilings) -> str:
    """From how many images on products cost more than fetching their weights: a sentence."""
    price = cost(plan)
    if not price.weight_reads:
        return ""
    width = width_of(precision)
    streamed = price.weight_reads * width
    size = between_uses(plan, threads, threads, precision)
    fetching = streamed * threads / ceilings.read_bandwidth(size)
    images = fetching / (price.flops / ceilings.peak)
    now = "weights" if n < images else "products"
    return (
        f"A batch reads {streamed / 1e9:.3g} GB of weights a thread, whatever its size: every launch reads those of "
        f"its step again, of {price.weight_numbers * width / 1e6:.3g} MB in all. At the ceilings here that takes as "
        f"long as the products of {max(images, 0.1):.2g} images; with {n}, the {now} weigh more."
    )
