"""Incremental sampling: a model compiled to a Plan, carried out by an engine that computes each cell once."""

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from genfast.compiler import compile_module, model_target, schedule
from genfast.compiler.cost import Cost, cost
from genfast.compiler.evaluate import condition_table
from genfast.compiler.plan import Plan
from genfast.compiler.products import products_in
from genfast.compiler.program import Lookup, Program
from genfast.compiler.target import ask_model, two_rows
from genfast.errors import GenfastError
from genfast.likelihoods import Drawn, Likelihood, level_dtype
from genfast.ops import backends
from genfast.sampling.request import Engine, Request
from genfast.sampling.task import CausalModel, Task, device_of, evaluation_mode

Signature = tuple[tuple[torch.dtype, torch.Size], ...]  # of each condition, without the batch


def signature(conditions: Sequence[Tensor]) -> Signature:
    return tuple((c.dtype, c.shape[1:]) for c in conditions)


def why_not(engine: str, model: CausalModel) -> str:
    """Empty if the engine can run the model, or else one sentence without its full stop."""
    if engine == "eager":
        return ""
    device = device_of(model)
    if engine == "triton":
        missing = "" if backends.HAS_TRITON else "triton is not installed"
    else:
        missing = backends.NO_EXTENSION if engine == "cpu" else backends.why_not(engine)
    if missing:
        return missing
    if engine in ("cpu", "cuda") and device.type != engine:
        return f"the model is on {device}; move it with model.{engine}()"
    if engine == "triton" and device.type != "cuda" and not (device.type == "cpu" and interpreted()):
        usable = "move it with model.cuda()" if torch.cuda.is_available() else backends.NO_DEVICE
        return (
            f"it runs on a GPU, or in Triton's interpreter (TRITON_INTERPRET=1), and the model is on {device}: {usable}"
        )
    if dtype_of(model) == torch.float64:
        return "it computes in float32 and the model is float64; use engine='eager', or model.float()"
    return ""


def interpreted() -> bool:
    """Whether Triton's kernels run on the CPU, in its interpreter."""
    from genfast.kernels.common.triton_launch import INTERPRETED

    return bool(INTERPRETED)


def dtype_of(model: CausalModel) -> torch.dtype:
    return next((p.dtype for p in model.parameters() if p.is_floating_point()), torch.float32)


@dataclass
class Compiled:
    """A model compiled for one kind of condition."""

    plan: Plan
    cost: Cost
    engine: Engine


def compile_model(
    model: CausalModel, engine: str, threads: int, conditions: Sequence[Tensor], precision: str = "float32"
) -> Compiled:
    """Raises NotCausal, NotSupported or GenfastError: see compiler.compile_module."""
    with evaluation_mode(model):
        plan = schedule(compile_module(model_target(model, *conditions)))
    return Compiled(plan, cost(plan), make_engine(model, engine, threads, plan, precision))


def make_engine(model: CausalModel, engine: str, threads: int, plan: Plan, precision: str) -> Engine:
    bfloat16 = precision == "bfloat16"
    if engine == "cpu":
        from genfast.sampling.cpu import CpuEngine

        return CpuEngine(plan, threads, bfloat16, model.likelihood)
    if engine == "triton":
        from genfast.sampling.triton_engine import TritonEngine

        return TritonEngine(plan, model.likelihood, device_of(model), precision)
    if engine == "cuda":
        from genfast.sampling.cuda import CudaEngine

        return CudaEngine(plan, model.likelihood, device_of(model), bfloat16)
    from genfast.sampling.eager import EagerEngine

    dtype = dtype_of(model)
    dtype = dtype if dtype == torch.float64 else torch.float32
    return EagerEngine(plan, model.likelihood, device_of(model), dtype, bfloat16)


def request_of(task: Task) -> Request:
    """The same request as an engine takes it, sharing the images."""
    return Request(
        task.images, task.known.flatten(1), task.uniforms(), task.conditions, task.temperature, task.top_k, task.top_p
    )


def rows(task: Task, compiled: Compiled, log_probs: Tensor | None) -> Iterator[int]:
    """As the loops' ``rows``. log_probs: float64 [n, C, H * W], filled; None where the likelihood tells none."""
    n, height = len(task.images), task.images.shape[2]
    check_labels(compiled.plan.program, task.conditions)
    request = dataclasses.replace(request_of(task), log_probs=log_probs)
    stats, price = task.stats, compiled.cost
    stats.steps += price.steps
    stats.cells += price.cells * n
    stats.flops += price.flops * n
    stats.cache_bytes = max(stats.cache_bytes, 4 * price.cache_numbers * n)
    row = task.images[0].numel() // height
    with task.bar() as bar:
        with torch.no_grad():
            run = compiled.engine.start(request)
            if not task.watched:
                run.until_row(height - 1)
        for y in range(height):
            with torch.no_grad():  # not around the yield: what the caller does between two rows is the caller's
                run.until_row(y)
            bar.update(row)
            yield y


def room_for_log_probs(likelihood: Likelihood, images: Tensor) -> Tensor | None:
    """For ln P of every sub-pixel; None if it is a function that draws: only it knows what the parameters mean.

    # float64 [n, C, H * W]
    """
    if isinstance(likelihood, Drawn):
        return None
    return torch.empty(images.flatten(2).shape, dtype=torch.float64, device=images.device)


def profile(task: Task, compiled: Compiled) -> dict[str, float]:
    """Seconds of each part of the cpu engine's work, added up over kernels and threads."""
    from genfast.sampling.cpu import CpuEngine

    assert isinstance(compiled.engine, CpuEngine)
    run = compiled.engine.start(request_of(task), profile=True)
    run.until_row(task.images.shape[2] - 1)
    measured = run.profile()
    parts = {part: sum(k[part] for k in measured["kernels"]) for part in ("gather", "gemm", "body", "store")}
    return parts | {"draws": measured["draws"]}


def score(
    compiled: Compiled, likelihood: Likelihood, images: Tensor, conditions: Sequence[Tensor], params: torch.dtype | None
) -> tuple[Tensor | None, Tensor | None]:
    """Of given images: (log_probs float64 [n, C, H * W], likelihood parameters [n, ..., C, H, W] if given a dtype)."""
    check_labels(compiled.plan.program, conditions)
    n, channels, height, width = images.shape
    shape = (n, channels, height * width)
    log_probs = room_for_log_probs(likelihood, images)
    wide = compiled.plan.program.draws[0].params.width
    out = None if params is None else torch.empty((*shape, wide), dtype=params, device=images.device)
    request = Request(
        images.to(level_dtype(likelihood.levels), copy=True),
        torch.ones(n, height * width, dtype=torch.bool, device=images.device),
        torch.full((n, likelihood.uniforms, height, width), 0.5, dtype=torch.float64, device=images.device),
        tuple(conditions),
        log_probs=log_probs,
        params=out,
    )
    with torch.no_grad():
        compiled.engine.start(request).until_row(height - 1)
    if out is None:
        return log_probs, None
    return log_probs, out.permute(0, 3, 1, 2).reshape(n, *likelihood.param_shape, channels, height, width)


def agrees(model: CausalModel, compiled: Compiled, conditions: Sequence[Tensor], precision: str) -> bool:
    """Whether an engine gives what one forward pass of the model gives, for two images of noise. For engines that
    nobody has run on this kind of device."""
    conditions = tuple(two_rows(c) for c in conditions)
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, model.levels, (2, *model.image_shape), generator=generator)
    images = images.to(device_of(model), level_dtype(model.levels))
    with evaluation_mode(model), torch.no_grad(), products_in(precision):
        expected = ask_model(model, images, *conditions).float()
    given = score(compiled, model.likelihood, images, conditions, torch.float32)[1]
    assert given is not None
    off = float((given - expected).abs().max())
    return off <= (1e-3 if precision == "float32" else 5e-2) * (1 + float(expected.abs().max()))  # NaN is no agreement


def check_labels(program: Program, conditions: Sequence[Tensor]) -> None:
    """Raises GenfastError for a label that an embedding of the module has no row for, as the module itself would."""
    tables = [s for s in program.steps if isinstance(s, Lookup) and s.index.value in program.conditions]
    for step in tables:
        read = step.index
        labels = condition_table(conditions[program.conditions.index(read.value)])  # [n, positions, channels]
        used = labels[:, read.at[read.at >= 0].astype(np.int64), read.start : read.start + read.width]
        low, high = int(used.min()), int(used.max())
        if low < 0 or high >= len(step.table):
            raise GenfastError(
                f"The condition holds {low if low < 0 else high}, but layer {program.values[step.out].layer} takes "
                f"0 to {len(step.table) - 1}."
            )


def total(log_probs: Tensor) -> Tensor:
    """ln P of each image: its sub-pixels added in the order of generation, one after the other.  # float64 [n]"""
    ordered = log_probs.transpose(1, 2).flatten(1).cpu().numpy()
    return torch.from_numpy(np.cumsum(ordered, 1)[:, -1].copy()).to(log_probs.device)
