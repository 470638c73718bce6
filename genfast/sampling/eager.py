"""The eager engine: a Plan carried out in PyTorch, launch by launch. It defines what a Plan means.

It runs on any device and in any floating dtype, computes each cell once, and costs Python's time for every launch: the
cpu engine does the same in C++.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from genfast.compiler.evaluate import condition_table
from genfast.compiler.plan import Argument, Kernel, Plan, Slice
from genfast.compiler.program import Attend, Constant, Copy, Linear, Lookup, Read, Reduce, one_for_all
from genfast.kernels.attend.reference import attend
from genfast.kernels.pointwise.reference import TORCH_OPS
from genfast.kernels.reduce.reference import reduce
from genfast.likelihoods import Likelihood
from genfast.sampling.request import Request


class EagerEngine:
    """Runs a plan on a device. Made once for a plan; ``start`` makes a run over a batch.

    bfloat16: the factors of products are rounded to bfloat16; their sums, and all else, are of the dtype.
    """

    def __init__(
        self, plan: Plan, likelihood: Likelihood, device: torch.device, dtype: torch.dtype, bfloat16: bool = False
    ) -> None:
        self.plan, self.likelihood, self.device, self.dtype = plan, likelihood, device, dtype
        self.bfloat16 = bfloat16
        bounds = np.searchsorted(plan.launch_tick, np.arange(-1, plan.ticks + 1))
        self.first_launch = bounds  # of tick t: launches first_launch[t + 1] .. first_launch[t + 2] - 1
        self.drawn_at: list[list[tuple[int, int]]] = [[] for _ in range(plan.ticks)]
        for c, p in np.ndindex(*plan.draw_tick.shape):
            self.drawn_at[plan.draw_tick[c, p]].append((c, p))
        self.tensors: dict[int, Tensor] = {}  # constants of the plan on the device, by the identity of their arrays

    def start(self, request: Request) -> "EagerRun":
        return EagerRun(self, request)

    def on_device(self, array: np.ndarray, dtype: torch.dtype) -> Tensor:
        if id(array) not in self.tensors:
            self.tensors[id(array)] = torch.from_numpy(array).to(self.device, dtype)
        return self.tensors[id(array)]


class EagerRun:
    """One batch on its way. until_row(y) draws rows 0 .. y whole (and, in a wavefront, some of the rows after)."""

    def __init__(self, engine: EagerEngine, request: Request) -> None:
        self.engine, self.request = engine, request
        plan, n = engine.plan, len(request.images)
        self.cache = [
            torch.full((count, n, v.channels), torch.nan, dtype=engine.dtype, device=engine.device)
            for v, count in zip(plan.values, plan.slot_count, strict=True)
        ]
        for value, condition in zip(plan.program.conditions, request.conditions, strict=True):
            slots = plan.slots[value]
            self.cache[value][slots[slots >= 0]] = (
                condition_table(condition).to(self.cache[value]).transpose(0, 1)[torch.from_numpy(slots >= 0)]
            )
        self.tick = 0
        self._launches(-1)

    def until_row(self, row: int) -> None:
        width = self.engine.plan.program.image_shape[2]
        last = int(self.engine.plan.draw_tick[:, : (row + 1) * width].max())
        while self.tick <= last:
            for c, p in self.engine.drawn_at[self.tick]:
                self._draw(c, p)
            self._launches(self.tick)
            self.tick += 1

    def _launches(self, tick: int) -> None:
        plan = self.engine.plan
        for i in range(self.engine.first_launch[tick + 1], self.engine.first_launch[tick + 2]):
            k = plan.launch_kernel[i]
            self._launch(plan.kernels[k], plan.order[k][plan.launch_begin[i] : plan.launch_end[i]])

    def _draw(self, c: int, p: int) -> None:
        plan, request = self.engine.plan, self.request
        height, width = plan.program.image_shape[1:]
        y, x = divmod(p, width)
        likelihood = self.engine.likelihood
        params = self._take(plan.draws[c].params, np.array([p]))[0]  # [B, width]
        if request.params is not None:
            request.params[:, c, p] = params.to(request.params.dtype)
        params = params.reshape(len(params), *likelihood.param_shape)
        known = request.known[:, p]
        if not likelihood.whole_pixels:
            self._draw_levels((slice(None), c, y, x), params, known)
        elif c == 0:  # all colours at a time; those after the first only become known to the network later
            self._draw_levels((slice(None), slice(None), y, x), params[:, :, None], known[:, None])
        if request.log_probs is not None:
            levels = request.images[:, c, y, x].long()
            logits = likelihood.level_logits(params).double()
            request.log_probs[:, c, p] = logits.log_softmax(1).gather(1, levels[:, None])[:, 0]
        value = plan.program.inputs[c]
        slot = plan.slots[value][p]
        if slot >= 0:
            self.cache[value][slot, :, 0] = request.images[:, c, y, x].to(self.engine.dtype)

    def _draw_levels(self, place: tuple, params: Tensor, known: Tensor) -> None:
        """Draws levels where they are not known, and puts them into the images."""
        request = self.request
        if bool(known.all()):
            return
        options = (request.temperature, request.top_k, request.top_p)
        fresh = self.engine.likelihood.draw(params, request.uniforms[place], *options)
        request.images[place] = torch.where(known, request.images[place], fresh.to(request.images.dtype))

    def _launch(self, kernel: Kernel, q: np.ndarray) -> None:
        """Positions q of a kernel; registers are [positions, B, width]."""
        registers = [] if kernel.head is None else [self._head(kernel.head, q)]
        n = len(self.request.images)
        for instruction in kernel.body:
            args = [self._argument(a, registers, q) for a in instruction.args]
            result = TORCH_OPS[instruction.op](*args).to(self.engine.dtype)
            registers.append(result.expand(len(q), n, instruction.width))
        for store in kernel.stores:
            slots = self.engine.plan.slots[store.value][q]
            there = slots >= 0
            part = slice(store.start, store.start + store.width)
            self.cache[store.value][slots[there], :, part] = registers[store.register][torch.from_numpy(there)]

    def _head(self, head: Linear | Lookup | Reduce | Copy | Attend, q: np.ndarray) -> Tensor:
        engine = self.engine
        match head:
            case Linear():
                total = self._constant(head.bias, q).expand(len(q), len(self.request.images), -1)
                if not head.taps:
                    return total
                rows = torch.cat([self._take(t.read, q) for t in head.taps], -1)
                weights = torch.cat([engine.on_device(t.weight, engine.dtype) for t in head.taps])
                if engine.bfloat16:
                    rows, weights = (factor.bfloat16().to(engine.dtype) for factor in (rows, weights))
                return rows @ weights + total
            case Lookup():
                table = engine.on_device(head.table, engine.dtype)
                return table[self._take(head.index, q)[..., 0].long().clamp(0, len(table) - 1)]
            case Reduce():
                return reduce(head.kind, torch.cat([self._take(r, q) for r in head.reads], -1), head.eps)
            case Copy():
                width = engine.plan.program.values[head.out].channels
                shape = (len(q), len(self.request.images), width)
                total = torch.full(shape, torch.nan, dtype=engine.dtype, device=engine.device)
                for start, piece in zip(head.starts, head.pieces, strict=True):
                    if isinstance(piece, Constant):
                        rows = self._constant(piece, q)
                        total[..., start : start + max(rows.shape[-1], 1)] = rows
                    else:
                        there = torch.from_numpy(piece.at[q] >= 0)
                        total[there, :, start : start + piece.width] = self._take(piece, q)[there]
                return total
            case Attend():
                used = np.flatnonzero((head.key.at[q] >= 0).any(0))  # the others would only be masked
                tables = [read.at[q][:, used] for read in (head.key, head.value)]
                bias = None if head.bias is None else engine.on_device(head.bias, engine.dtype)
                bias = None if bias is None else bias[torch.from_numpy(q).long()][..., torch.from_numpy(used)]
                seen, terms = (torch.from_numpy(at >= 0).to(engine.device) for at in tables)
                keys, terms_at = map(one_for_all, tables)
                if keys is None or terms_at is None:
                    keys, terms_at = tables
                key, value = self._rows(head.key, keys), self._rows(head.value, terms_at)
                return attend(self._take(head.query, q), key, value, seen, head.heads, head.scale, bias, terms)

    def _argument(self, arg: Argument, registers: Sequence[Tensor], q: np.ndarray) -> Tensor:
        if isinstance(arg, Slice):
            return registers[arg.register][..., arg.start : arg.start + arg.width]
        return self._take(arg, q) if isinstance(arg, Read) else self._constant(arg, q)

    def _take(self, read: Read, q: np.ndarray) -> Tensor:
        """A read at positions q, zeros where there is nothing.  # [positions, B, width]"""
        return self._rows(read, read.at[q])

    def _rows(self, read: Read, at: np.ndarray) -> Tensor:
        """What is read at places of any shape, zeros where there is nothing.  # [*at.shape, B, width]"""
        slots = np.where(at >= 0, self.engine.plan.slots[read.value][at], 0)
        rows = self.cache[read.value][torch.from_numpy(slots).long(), :, read.start : read.start + read.width]
        if (at < 0).any():
            rows = rows.masked_fill(torch.from_numpy(at < 0).to(rows.device)[..., None, None], 0)
        return rows

    def _constant(self, constant: Constant, q: np.ndarray) -> Tensor:
        """[positions, 1, width]"""
        rows = self.engine.on_device(constant.rows, self.engine.dtype)
        return rows[torch.from_numpy(constant.which[q]).long()][:, None]
