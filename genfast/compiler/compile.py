"""compile_module: any causal module -> Program, checked against the module itself before anybody samples with it."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from genfast.compiler import contraction, elementwise, movement, recurrence, reduction
from genfast.compiler.builder import Builder, Opaque
from genfast.compiler.causality import refuse_leaks
from genfast.compiler.cells import Cells, make_ids
from genfast.compiler.evaluate import condition_table, evaluate
from genfast.compiler.footprint import needed
from genfast.compiler.frontend import Tracer
from genfast.compiler.products import float32_products
from genfast.compiler.program import (
    Constant,
    Copy,
    Draw,
    Linear,
    Pointwise,
    Program,
    Read,
    Scan,
    Step,
    with_reads,
)
from genfast.compiler.target import Target, ask
from genfast.errors import GenfastError, NotSupported
from genfast.likelihoods import level_dtype, trusted

HANDLER_MODULES = (contraction, elementwise, movement, recurrence, reduction)  # importing them registers their handlers


@dataclass(frozen=True, eq=False)
class Trace:
    """program: the steps that the outputs need. opaque: those of them that cannot be taken (a Program must have none).

    eps: the rounding of the least exact floating dtype in which the module computes.
    """

    program: Program
    opaque: list[Opaque]
    eps: float


def compile_module(target: Target) -> Program:
    """The Program of a causal module in evaluation mode.

    Raises NotCausal, naming the first layer that looks ahead; NotSupported, naming the operator and the layer;
    GenfastError if the module fails, is not deterministic, or does not give what its likelihood takes.
    """
    with one_thread(), float32_products():
        found = trace(target)
        refuse_leaks(found.program, found.opaque)
        if found.opaque:
            step = found.opaque[0]
            raise NotSupported(
                f"The compiler cannot take layer {found.program.values[step.out].layer}: {step.reason}. "
                "Sample with engine='naive' or 'jacobi' instead."
            )
        check(target, found.program, found.eps)
    return found.program


@contextmanager
def one_thread() -> Iterator[None]:
    """Thousands of small operations: on a busy machine, threads that wait for each other at every one cost most."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def random_images(target: Target, seed: int, batch: int = 2) -> Tensor:
    """The same levels on every device.  # [B, C, H, W]"""
    generator = torch.Generator().manual_seed(seed)
    shape = (batch, *target.image_shape)
    images = torch.randint(0, target.levels, shape, generator=generator, dtype=level_dtype(target.levels))
    return images.to(target.device)


def forward(target: Target, images: Tensor, conditions: Sequence[Tensor]) -> Tensor:
    """The module's parameters for two images. Raises GenfastError where the module itself fails."""
    out = ask(target.forward, images, *conditions)
    shape = target.image_shape
    if not isinstance(out, Tensor) or out.dim() < 4 or tuple(out.shape[-3:]) != shape or out.shape[0] != 2:
        found = list(out.shape) if isinstance(out, Tensor) else type(out).__name__
        raise GenfastError(
            f"The network's output must be likelihood parameters [B, ..., {', '.join(map(str, shape))}], as "
            f"likelihood.unpack gives them, not {found}."
        )
    return out


def trace(target: Target) -> Trace:
    """The program of one forward pass."""
    watched = watch(target, target.forward, partial(forward, target))
    builder, shape = watched.builder, target.image_shape
    builder.layer = "output"
    params = Cells(watched.out.ids[0].reshape(-1, shape[0], shape[1] * shape[2]),
                   watched.out.values[0].reshape(-1, shape[0], shape[1] * shape[2]))  # fmt: skip
    draws = tuple(Draw(builder.gather(params[:, c])) for c in range(shape[0]))
    return Trace(*without_dead_steps(watched.program(target, draws)), watched.eps)


@dataclass(frozen=True, eq=False)
class Watched:
    """One forward pass, written down. out: the cells of its result."""

    builder: Builder
    out: Cells
    inputs: list[int]
    conditions: list[int]
    eps: float

    def program(self, target: Target, draws: tuple[Draw, ...] = ()) -> Program:
        """All steps, needed or not, and some that cannot be taken."""
        return Program(
            target.image_shape, target.levels, target.likelihood, tuple(self.builder.values), tuple(self.inputs),
            tuple(self.conditions), tuple(self.builder.steps), draws, tuple(self.builder.notes),  # type: ignore[arg-type]
            tuple(self.builder.scans),
        )  # fmt: skip


def watch(target: Target, call: Callable[..., Tensor], settle: Callable[[Tensor, Sequence[Tensor]], Tensor]) -> Watched:
    """Watches one forward pass, once masks and caches that are made on the way have settled.

    call(images, *conditions): what is watched, for two images. settle(images, conditions): the same before anybody
    watches; raises GenfastError where the module itself fails.
    """
    images = random_images(target, 0)
    with torch.no_grad():
        first, second = (settle(images, target.conditions) for _ in range(2))
        if differ(first, second) > 1e-5 * size_of(first):
            raise GenfastError(
                "The module gives different outputs for the same input: take the randomness out of its forward pass "
                "(put dropout into evaluation mode)."
            )
        tracer = Tracer(target.module)
        builder = tracer.builder
        builder.layer = "input"
        images = images.clone()
        inputs = [builder.new_value(1, images[0, 0].numel()) for _ in range(len(images[0]))]
        seen = [declare(v, images[:1, c : c + 1]) for c, v in enumerate(inputs)]
        tracer.shadow.write(images, two_images(np.concatenate(seen, 1)))
        builder.layer = "condition"
        conditions, condition_values = [c.clone() for c in target.conditions], []
        for condition in conditions:
            table = condition_table(condition)
            value = builder.new_value(table.shape[2], table.shape[1])
            ids = make_ids(value, np.arange(table.shape[2])[:, None], np.arange(table.shape[1])[None, :])
            tracer.shadow.write(condition, two_images(ids.reshape(1, *condition.shape[1:])))
            condition_values.append(value)
        try:
            with tracer.watching(), trusted():  # of images and conditions that were looked at above
                out = call(images, *conditions)
        except GenfastError:
            raise
        except Exception as error:
            raise NotSupported(
                f"Layer {tracer.where()} runs, but not while the compiler watches: {type(error).__name__}: {error}"
            ) from error
        cells = tracer.shadow.cells(out)
    eps = max((torch.finfo(d).eps for d in tracer.dtypes | {out.dtype} if d.is_floating_point), default=0.0)
    return Watched(builder, cells, inputs, condition_values, eps)


def declare(value: int, like: Tensor) -> np.ndarray:
    """Ids of a one-channel value in the shape of an image's channel."""
    return make_ids(value, np.zeros(1, np.int64), np.arange(like.numel())).reshape(tuple(like.shape))


def two_images(ids: np.ndarray) -> np.ndarray:
    return np.concatenate([ids, ids + 1])


def without_dead_steps(program: Program) -> tuple[Program, list[Opaque]]:
    """The program without the steps, and the taps and pieces, that no output needs, its values numbered anew."""
    need = needed(program)
    alive: list[Step | Opaque] = [without_dead_parts(s, need[s.out]) for s in program.steps if need[s.out].any()]
    opaque = [s for s in alive if isinstance(s, Opaque)]
    kept = sorted({*program.inputs, *program.conditions, *(s.out for s in alive)})
    number = {old: new for new, old in enumerate(kept)}
    return renumber(program, alive, kept, number), [Opaque(number[s.out], s.reason, (), s.mixes_images) for s in opaque]


def without_dead_parts(step: Step | Opaque, need: np.ndarray) -> Step | Opaque:
    """A step without the taps or pieces that are nowhere where it is needed, zeros for such arguments."""

    def used(x: Any) -> bool:
        return not isinstance(x, Read) or bool((x.at[need] >= 0).any())

    if isinstance(step, Linear):
        return replace(step, taps=tuple(t for t in step.taps if used(t.read)))
    if isinstance(step, Pointwise):
        zero = Constant(np.zeros((1, 1)), np.zeros(len(need), np.int32))
        return replace(step, args=tuple(a if used(a) else zero for a in step.args))
    if isinstance(step, Copy):
        kept = [(s, p) for s, p in zip(step.starts, step.pieces, strict=True) if used(p)]
        return replace(step, starts=tuple(s for s, _ in kept), pieces=tuple(p for _, p in kept))
    return step


def renumber(program: Program, steps: Sequence[Step | Opaque], kept: list[int], number: dict[int, int]) -> Program:
    return Program(
        program.image_shape, program.levels, program.likelihood, tuple(program.values[v] for v in kept),
        tuple(number[v] for v in program.inputs), tuple(number[v] for v in program.conditions),
        tuple(renumber_step(s, number) for s in steps),  # type: ignore[misc]
        tuple(Draw(replace(d.params, value=number[d.params.value])) for d in program.draws), program.notes,
        tuple(s for s in (renumber_scan(s, number) for s in program.scans) if s.values),
    )  # fmt: skip


def renumber_scan(scan: Scan, number: dict[int, int]) -> Scan:
    return replace(scan, values=tuple(number[v] for v in scan.values if v in number))


def renumber_step(step: Step | Opaque, number: dict[int, int]) -> Step | Opaque:
    """A step whose reads and result are numbered anew."""

    def moved(read: Read) -> Read:
        return replace(read, value=number[read.value])

    if isinstance(step, Opaque):
        return replace(step, out=number[step.out], reads=tuple(map(moved, step.reads)))
    return replace(with_reads(step, moved), out=number[step.out])


def check(target: Target, program: Program, eps: float) -> None:
    """Compares the program with the live module on fresh images, whole and half drawn, and on fresh conditions.

    They may differ by what rounding does to this network: as much as the program itself changes from float64 to
    float32, in the module's dtype, times 16. (An ill-conditioned network is allowed more than a tame one.) Parameters
    [B, rows, K, ...] are compared row by row, each by its own size: they may be of different kinds, as those of a
    mixture are, where levels stand beside means.
    """
    conditions = [fresh(c) for c in target.conditions]
    large = len(program.steps) * int(np.prod(target.image_shape)) > 200_000
    batch = 1 if large else 2  # of a large network one image says enough
    for seed in range(1, 5 if program.notes else 2):  # more where Python looked at numbers
        images = random_images(target, seed)
        images[1, :, images.shape[2] // 2 :] = (seed - 1) % target.levels
        with torch.no_grad():
            expected = forward(target, images, conditions)
        kinds = expected.shape[1] if expected.dim() == 3 + len(target.image_shape) else 1
        expected = expected[:batch].double().cpu().reshape(batch, kinds, -1, *target.image_shape).flatten(4)
        given = images[:batch].cpu(), [c[:batch].cpu() for c in conditions]
        exact, rough = (
            torch.stack(evaluate(program, *given, d), 2).reshape(expected.shape) for d in (torch.float64, torch.float32)
        )
        bounds = []
        for kind in range(kinds):
            noise = differ(exact[:, kind], rough[:, kind]) * eps / torch.finfo(torch.float32).eps
            off, size = differ(exact[:, kind], expected[:, kind]), size_of(expected[:, kind])
            bounds.append(16 * noise + 256 * eps * size)
            if off <= bounds[kind]:
                continue
            if bool(expected.isnan().any()):
                raise NotSupported(
                    "The network's output holds NaN, and which of its numbers do is not reproduced: check that the "
                    "weights are finite and that training did not diverge."
                )
            raise NotSupported(
                f"The compiled program does not reproduce the module on fresh images (largest difference {off:.2g} "
                f"for outputs up to {size:.2g}): its computation depends on the image in a way that cannot be "
                "followed. Sample with engine='naive' or 'jacobi' instead."
            )
        if seed == 1:
            check_batch_size(target, images, conditions, expected, bounds)


def check_batch_size(
    target: Target, images: Tensor, conditions: Sequence[Tensor], expected: Tensor, bounds: Sequence[float]
) -> None:
    """Raises GenfastError if a third image changes the outputs for the first ones, as ``x / len(x)`` would."""
    batch = [torch.cat([part, part[:1]]) for part in (images, *conditions)]
    with torch.no_grad():
        try:
            out = target.forward(*batch)[: len(expected)].double().cpu().reshape(expected.shape)
        except Exception:  # some keep the batch size of their first pass, and complain themselves about another
            return
    if any(differ(out[:, kind], expected[:, kind]) > bound for kind, bound in enumerate(bounds)):
        raise GenfastError(
            "The module's output for an image changes with the number of images in its batch: take the batch size out "
            "of its forward pass."
        )


def fresh(condition: Tensor) -> Tensor:
    """Another example of a condition: the rows swapped and, of real numbers, changed a little."""
    other = condition.flip(0)
    return other * 0.9 if other.is_floating_point() else other


def differ(one: Tensor, two: Tensor) -> float:
    """The largest difference; infinite where one of the two is NaN, or infinite, and the other is not the same."""
    one, two = one.double(), two.double()
    odd = ~(one.isfinite() & two.isfinite())
    same = (one == two) | (one.isnan() & two.isnan())
    if bool((odd & ~same).any()):
        return float("inf")
    return float((one - two).masked_fill(odd, 0).abs().amax()) if one.numel() else 0.0


def size_of(x: Tensor) -> float:
    return float(x.double().masked_fill(~x.isfinite(), 0).abs().amax()) if x.numel() else 0.0
