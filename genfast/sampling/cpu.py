"""The cpu engine: a Plan carried out in C++ (csrc/engine), the whole image loop in one call without the GIL.

This file turns a Plan into what the extension takes: dicts, lists and numpy arrays, in float32. All that matters is
checked there.
"""

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from genfast.compiler.evaluate import condition_table
from genfast.compiler.plan import Argument, Kernel, Plan, Slice
from genfast.compiler.program import Attend, Constant, Copy, Linear, Lookup, Program, Read, Reduce, present
from genfast.errors import GenfastError
from genfast.likelihoods import Drawn, Likelihood, LogisticMixture
from genfast.sampling.request import Request

Spec = dict[str, Any]
T = TypeVar("T")


class CpuEngine:
    """Runs a plan on the CPU in float32. Made once for a plan; ``start`` makes a run over a batch.

    bfloat16: the factors of products are rounded to bfloat16; their sums, and all else, stay float32.
    likelihood: what is drawn from; may be left out where the name that the plan has says it all (see ``drawing``).
    threads: split the batch; where there are more threads than images, they split the columns of each product.
    Results do not depend on it, to the bit. Raises GenfastError for a plan that makes no sense.
    """

    def __init__(
        self, plan: Plan, threads: int | None = None, bfloat16: bool = False, likelihood: Likelihood | None = None
    ) -> None:
        from genfast import _C

        self.plan = plan
        self.threads = threads if threads is not None else torch.get_num_threads()
        self.engine = refusing(lambda: _C.Engine(specification(plan, bfloat16, likelihood)))

    def start(self, request: Request, profile: bool = False, poison: bool = False) -> "CpuRun":
        """poison: caches start as NaN, so that a plan which reads what nothing wrote shows."""
        return CpuRun(self, request, profile, poison)

    def cache_bytes(self, n: int) -> int:
        return int(refusing(lambda: self.engine.cache_bytes(n, self.threads)))


class CpuRun:
    """One batch on its way. until_row(y) draws all sub-pixels of rows 0 .. y; Ctrl-C ends it for good."""

    def __init__(self, engine: CpuEngine, request: Request, profile: bool, poison: bool) -> None:
        channels, height, width = engine.plan.program.image_shape
        n, pixels = len(request.images), height * width
        self.request = request
        self.written: list[tuple[Tensor, np.ndarray]] = []  # results, and the arrays that the extension fills

        def result(tensor: Tensor | None, dtype: torch.dtype, *shape: int) -> np.ndarray | None:
            """The tensor's own memory where it can be written in place, or else a copy that until_row copies back."""
            if tensor is None:
                return None
            plain = tensor.detach().to("cpu", dtype).contiguous()
            array = plain.reshape(shape).numpy()
            if plain.data_ptr() != tensor.data_ptr():
                self.written.append((tensor, array))
            return array

        values = engine.plan.values
        self.run = refusing(
            lambda: engine.engine.start(
                images=result(request.images, torch.int32, n, channels, height, width),
                known=request.known.to("cpu", torch.uint8).reshape(n, pixels).contiguous().numpy(),
                uniforms=request.uniforms.to("cpu", torch.float64).flatten(2).contiguous().numpy(),
                conditions=[
                    condition_array(condition, values[v].positions, values[v].channels)
                    for v, condition in zip(engine.plan.program.conditions, request.conditions, strict=True)
                ],
                temperature=float(request.temperature),
                top_k=request.top_k or 0,
                top_p=1.0 if request.top_p is None else float(request.top_p),
                log_probs=result(request.log_probs, torch.float64, n, channels, pixels),
                params=result(request.params, torch.float32, n, channels, pixels, engine.plan.draws[0].params.width),
                threads=engine.threads,
                profile=profile,
                poison=poison,
            )
        )

    def until_row(self, row: int) -> None:
        refusing(lambda: self.run.until_row(row))
        for tensor, array in self.written:
            tensor.copy_(torch.from_numpy(array).reshape(tensor.shape))

    def profile(self) -> Spec:
        """{"kernels": [{"name", "gather", "gemm", "body", "store"}], "draws"}: seconds, added up over the threads."""
        return dict(self.run.profile())


def refusing(call: Callable[[], T]) -> T:
    """The result of a call into the extension, whose complaints are sentences."""
    try:
        return call()
    except ValueError as error:
        raise GenfastError(str(error)) from None


def drawing(program: Program, likelihood: Likelihood | None) -> Spec:
    """How levels are drawn. A function is called back for every pixel, by each thread with its own images."""
    match likelihood:
        case Drawn():
            whole, uniforms = likelihood.whole_pixels, likelihood.uniforms
            more: Spec = {"whole_pixels": whole, "uniforms": uniforms, "sample": levels_by(likelihood)}
        case LogisticMixture():
            more = {"components": likelihood.components, "min_log_scale": float(likelihood.min_log_scale)}
        case _:
            more = {}
    return {"name": program.likelihood, **more}


def levels_by(likelihood: Drawn) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    """A likelihood that is a function, as the extension calls it: arrays in, int32 levels [M, colours] out."""

    def sample(params: np.ndarray, uniforms: np.ndarray) -> np.ndarray:
        given = torch.from_numpy(uniforms)
        with torch.no_grad():
            levels = likelihood.rows(torch.from_numpy(params), given if likelihood.whole_pixels else given[:, 0])
        return np.ascontiguousarray(levels.to("cpu", torch.int32).reshape(len(params), -1).numpy())

    return sample


def condition_array(condition: Tensor, positions: int, channels: int) -> np.ndarray:
    """A condition as the cells of its value.  # float32 [n, positions, channels]"""
    cells = condition_table(condition)
    if cells.shape[1:] != (positions, channels):
        raise GenfastError(f"The model was not compiled for a condition of the shape {list(condition.shape)}.")
    return np.ascontiguousarray(cells.detach().to("cpu", torch.float32).numpy())


def specification(plan: Plan, bfloat16: bool = False, likelihood: Likelihood | None = None) -> Spec:
    """The plan as csrc/engine/specification.cpp reads it."""
    program = plan.program
    launches = np.stack([plan.launch_tick, plan.launch_kernel, plan.launch_begin, plan.launch_end], 1)
    return {
        "image_shape": integers(program.image_shape),
        "levels": program.levels,
        "likelihood": drawing(program, likelihood),
        "bfloat16": bfloat16,
        "ticks": plan.ticks,
        "values": [
            {"channels": v.channels, "slots": count, "slot": integers(slot)}
            for v, count, slot in zip(plan.values, plan.slot_count, plan.slots, strict=True)
        ],
        "inputs": integers(program.inputs),
        "conditions": integers(program.conditions),
        "kernels": [
            KernelPacker(plan, kernel).pack(order, part)
            for kernel, order, part in zip(plan.kernels, plan.order, plan.part, strict=True)
        ],
        "launches": integers(launches),
        "draws": [read_spec(draw.params) for draw in plan.draws],
        "draw_tick": integers(plan.draw_tick),
    }


def integers(numbers: Iterable[int] | np.ndarray) -> np.ndarray:
    array = numbers if isinstance(numbers, np.ndarray) else np.array(list(numbers), np.int64)
    return np.ascontiguousarray(array, np.int32)


def floats(numbers: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):  # what is too large for float32 becomes infinite, as in the model itself
        return np.ascontiguousarray(numbers, np.float32)


def read_spec(read: Read) -> Spec:
    return {"value": read.value, "start": read.start, "width": read.width, "at": integers(read.at)}


class KernelPacker:
    """One kernel: its reads and constants in two lists, to which the head and the body refer by number."""

    def __init__(self, plan: Plan, kernel: Kernel) -> None:
        self.plan, self.kernel = plan, kernel
        self.reads: list[Read] = []
        self.constants: list[Constant] = []

    def pack(self, order: np.ndarray, part: np.ndarray) -> Spec:
        head = self.head()
        body = [{"op": i.op, "width": i.width, "args": [self.argument(a) for a in i.args]} for i in self.kernel.body]
        stores = np.array([(s.register, s.value, s.start) for s in self.kernel.stores], np.int32).reshape(-1, 3)
        return {
            "name": self.kernel.name,
            "positions": self.positions(),
            "order": integers(order),
            "part": integers(part),
            "early": self.kernel.early,
            "reads": [read_spec(r) for r in self.reads],
            "constants": [{"rows": floats(c.rows), "which": integers(c.which)} for c in self.constants],
            "head": head,
            "body": body,
            "stores": stores,
        }

    def positions(self) -> int:
        """How many positions the kernel's tables have."""
        if self.kernel.stores:
            return self.plan.values[self.kernel.stores[0].value].positions
        tables = [r.at for r in self.reads] + [c.which for c in self.constants]
        return len(tables[0]) if tables else 0

    def argument(self, arg: Argument) -> Spec:
        if isinstance(arg, Slice):
            return {"from": "slice", "index": arg.register, "start": arg.start, "width": arg.width}
        if isinstance(arg, Read):
            self.reads.append(arg)
            return {"from": "read", "index": len(self.reads) - 1, "start": 0, "width": 0}
        self.constants.append(arg)
        return {"from": "constant", "index": len(self.constants) - 1, "start": 0, "width": 0}

    def head(self) -> Spec:
        head = self.kernel.head
        if head is None:
            return {"kind": "none"}
        width = self.plan.program.values[head.out].channels
        match head:
            case Linear():
                weights = [floats(tap.weight) for tap in head.taps]
                rows = np.broadcast_to(head.bias.rows, (len(head.bias.rows), width))
                return {
                    "kind": "linear",
                    "width": width,
                    "reads": [self.argument(tap.read) for tap in head.taps],
                    "weight": np.concatenate(weights) if weights else np.zeros((0, width), np.float32),
                    "bias": self.argument(Constant(rows, head.bias.which))["index"],
                }
            case Lookup():
                reads = [self.argument(head.index)]
                return {"kind": "lookup", "width": width, "reads": reads, "weight": floats(head.table)}
            case Reduce():
                reads = [self.argument(r) for r in head.reads]
                return {"kind": "reduce", "width": width, "reads": reads, "reduce": head.kind, "eps": float(head.eps)}
            case Copy():
                pieces = [self.argument(p) for p in head.pieces]
                return {"kind": "copy", "width": width, "reads": pieces, "starts": integers(head.starts)}
            case Attend():
                return {"kind": "attend", "width": width, "reads": [self.argument(head.query)], **attention_spec(head)}


def attention_spec(head: Attend) -> Spec:
    """The keys and values of each query one after the other, those that are not there left out."""
    query, _ = present(head.key.at)
    there = head.key.at >= 0
    bias = np.zeros(0)
    if head.bias is not None:  # for each query [heads, keys]
        bias = np.concatenate([b[:, t].reshape(-1) for b, t in zip(head.bias, there, strict=True)])
    return {
        "key": read_spec(replace(head.key, at=head.key.at[there])),
        "value": read_spec(replace(head.value, at=head.value.at[there])),
        "first": np.searchsorted(query, np.arange(len(there) + 1)).astype(np.int64),
        "bias": floats(bias),
        "heads": head.heads,
        "scale": float(head.scale),
    }
