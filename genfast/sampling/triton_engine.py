"""The triton engine: a Plan as launches of Triton kernels, on a GPU recorded once and replayed row by row.

All that differs between two runs lies in buffers of fixed addresses: levels, what is known, uniforms, conditions and
options. So the launches of each image row are captured in a CUDA graph, and drawing a row is one call, with no wait for
the GPU inside it. On the CPU, in Triton's interpreter, the same launches run one after the other.

No GPU has run this engine: its kernels are interpreted, and compiled ahead of time, by the tests.
"""

import math
import weakref
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from genfast.compiler.evaluate import condition_table
from genfast.compiler.plan import Plan
from genfast.errors import GenfastError, NotSupported
from genfast.kernels.categorical import triton_launch as drawing
from genfast.kernels.cells import triton_launch as cells
from genfast.kernels.common.triton_launch import Launch
from genfast.likelihoods import Bernoulli, Categorical, Likelihood, LogisticMixture
from genfast.sampling.request import Request
from genfast.sampling.triton_program import TritonProgram

MOST_SPARE = 2  # sets of buffers that are kept while nobody uses them
Record = Callable[[Sequence[Launch], torch.device], Callable[[], None]]


class TritonEngine:
    """Runs a plan in float32 on a GPU, or in Triton's interpreter. Made once for a plan; ``start`` makes a run.

    precision: "float32"; "tf32" or "bfloat16": the factors of products are rounded to that, their sums and all else are
    float32. An image does not depend on the batch that it is drawn in, to the bit.
    Raises NotSupported for a likelihood or a step that it has no kernel for, GenfastError for a plan that makes no
    sense.
    """

    def __init__(self, plan: Plan, likelihood: Likelihood, device: torch.device, precision: str = "float32") -> None:
        self.plan, self.device, self.precision = plan, device, precision
        self.distribution = distribution_of(likelihood, plan)
        self.program = TritonProgram(plan, precision)
        self.buffers = cells.Buffers(
            torch.empty(0, device=device),
            torch.from_numpy(self.program.weights.taken()).to(device, cells.weight_dtype(precision)),
            torch.from_numpy(self.program.constants.taken()).to(device),
            torch.from_numpy(self.program.tables.taken()).to(device),
        )
        width = plan.program.image_shape[2]
        last = [int(plan.draw_tick[:, : end * width].max()) for end in range(1, plan.program.image_shape[1] + 1)]
        self.first_tick = [-1, *(tick + 1 for tick in np.maximum.accumulate(last))]  # of each row, and the end
        self.first_launch = np.searchsorted(plan.launch_tick, np.arange(-1, plan.ticks + 1))
        self.spare: list[Session] = []
        self.record: Record = captured if device.type == "cuda" else uncaptured

    def start(self, request: Request, poison: bool = False) -> "TritonRun":
        """poison: caches start as NaN, so that a plan which reads what nothing wrote shows."""
        return TritonRun(self, request, poison)

    def session(self, n: int, params: bool) -> "Session":
        """Buffers for n images: spare ones if they have room and are not twice as large as needed, or new ones."""
        fitting = [s for s in self.spare if s.asks_params == params and n <= s.n <= 2 * n]
        if not fitting:
            return Session(self, n, params)
        best = min(fitting, key=lambda s: s.n)
        self.spare.remove(best)
        return best

    def give_back(self, session: "Session") -> None:
        self.spare = [*self.spare, session][-MOST_SPARE:]

    def launches(self, session: "Session", row: int) -> list[Launch]:
        """What draws an image row: for each tick the draws, then the launches of the plan."""
        found: list[Launch] = []
        for tick in range(self.first_tick[row], self.first_tick[row + 1]):
            for c in range(self.plan.program.image_shape[0]):
                found += self.draws(session, c, tick)
            for i in range(self.first_launch[tick + 1], self.first_launch[tick + 2]):
                begin = int(self.plan.launch_begin[i])
                count = int(self.plan.launch_end[i]) - begin
                for part in self.program.parts[self.plan.launch_kernel[i]]:
                    found.append(part.launch(session.buffers, begin, count, session.n, self.precision))
        return found

    def draws(self, session: "Session", c: int, tick: int) -> list[Launch]:
        part = self.program.draws[c]
        begin, end = (int(i) for i in np.searchsorted(part.ticks, [tick, tick + 1]))
        if begin == end:
            return []
        channels, height, width = self.plan.program.image_shape
        draws = drawing.Draws(
            begin, end - begin, part.table, part.positions, c, channels, height * width, part.stride, part.column
        )
        arena, tables = session.buffers.arena, session.buffers.tables
        found = [drawing.draw_launch(arena, tables, session.sheet, self.distribution, draws, session.n)]
        if session.params is not None:
            wide = self.distribution.width
            found.append(drawing.params_launch(arena, tables, session.params, wide, draws, session.n))
        return found


def distribution_of(likelihood: Likelihood, plan: Plan) -> drawing.Distribution:
    """Raises NotSupported for a likelihood that no kernel draws from."""
    levels, width = likelihood.levels, plan.draws[0].params.width
    match likelihood:
        case Bernoulli():
            return drawing.Distribution(2, 1, bernoulli=True)
        case Categorical():
            return drawing.Distribution(levels, width)
        case LogisticMixture():
            return drawing.Distribution(
                levels, width, False, likelihood.components, likelihood.channels, likelihood.min_log_scale
            )
    raise NotSupported(
        f"The triton engine draws from bernoulli, categorical and logistic_mixture likelihoods and cannot call "
        f"{likelihood.name!r}: use engine='eager' or 'jacobi'."
    )


class Session:
    """Buffers for n images, and for each image row what draws it. One run at a time."""

    def __init__(self, engine: TritonEngine, n: int, params: bool) -> None:
        self.engine, self.n, self.asks_params = engine, n, params
        channels, height, width = engine.plan.program.image_shape
        shape, device = (n, channels, height * width), engine.device
        self.buffers = engine.buffers._replace(arena=torch.zeros(n * engine.program.numbers, device=device))
        self.sheet = drawing.Sheet(
            torch.zeros(shape, dtype=torch.int32, device=device),
            torch.ones(n, height * width, dtype=torch.uint8, device=device),
            torch.full(shape, 0.5, dtype=torch.float64, device=device),
            torch.zeros(shape, dtype=torch.float64, device=device),
            torch.ones(3, dtype=torch.float64, device=device),
            torch.zeros(1, dtype=torch.int32, device=device),
        )
        self.params = torch.zeros((*shape, engine.distribution.width), device=device) if params else None
        self.rows: dict[int, Callable[[], None]] = {}

    def draw_row(self, row: int) -> None:
        if row not in self.rows:
            self.rows[row] = self.engine.record(self.engine.launches(self, row), self.engine.device)
        self.rows[row]()

    def fill(self, request: Request, poison: bool) -> None:
        """Puts a request into the buffers. Images beyond those asked for are known, so nothing is drawn for them."""
        n, sheet, plan = len(request.images), self.sheet, self.engine.plan
        if poison:
            self.buffers.arena.fill_(math.nan)
        sheet.images[:n] = request.images.flatten(2)
        sheet.known.fill_(1)
        sheet.known[:n] = request.known
        sheet.uniforms[:n] = request.uniforms.flatten(2)
        settings = (request.temperature, request.top_k or self.engine.distribution.levels, request.top_p or 1.0)
        sheet.settings.copy_(torch.tensor(settings, dtype=torch.float64))
        sheet.failed.zero_()
        for value, condition in zip(plan.program.conditions, request.conditions, strict=True):
            cells_of = condition_table(condition)  # [n, positions, channels]
            if cells_of.shape[1:] != (plan.values[value].positions, plan.values[value].channels):
                raise GenfastError(f"The model was not compiled for a condition of the shape {list(condition.shape)}.")
            slots = torch.from_numpy(plan.slots[value]).long().to(self.engine.device)
            region = self.cache(value)
            region[:, n:] = 0
            region[slots[slots >= 0], :n] = cells_of.to(region).transpose(0, 1)[slots >= 0]

    def cache(self, value: int) -> Tensor:
        """[slots, n, channels]"""
        plan, n = self.engine.plan, self.n
        count, channels = plan.slot_count[value], plan.values[value].channels
        return self.buffers.arena[n * self.engine.program.region[value] :][: count * n * channels].view(
            count, n, channels
        )


class TritonRun:
    """One batch on its way. until_row(y) draws rows 0 .. y whole (and, in a wavefront, some of the rows after)."""

    def __init__(self, engine: TritonEngine, request: Request, poison: bool) -> None:
        if not bool(((request.uniforms >= 0) & (request.uniforms < 1)).all()):
            raise GenfastError("Uniforms must lie in [0, 1).")
        self.request, self.row, self.failed = request, 0, False
        if len(request.images) == 0:
            return
        self.session = engine.session(len(request.images), request.params is not None)
        self.leave = weakref.finalize(self, engine.give_back, self.session)
        self.leave.atexit = False
        self.session.fill(request, poison)

    def until_row(self, row: int) -> None:
        request, height = self.request, self.request.images.shape[2]
        if self.failed:
            raise GenfastError("This run was stopped: start another.")
        if row < self.row or len(request.images) == 0:
            return
        while self.row <= row:
            self.session.draw_row(self.row)
            self.row += 1
        sheet, n = self.session.sheet, len(request.images)
        if bool(sheet.failed.item()):
            self.failed = True
            self.leave()
            raise GenfastError(
                "The network's output is not a distribution: it holds NaN or infinity; "
                "check that the weights are finite and that training did not diverge."
            )
        request.images.copy_(sheet.images[:n].view(request.images.shape))
        if request.log_probs is not None:
            request.log_probs.copy_(sheet.log_probs[:n])
        if request.params is not None and self.session.params is not None:
            request.params.copy_(self.session.params[:n])
        if self.row == height:
            self.leave()


def uncaptured(launches: Sequence[Launch], device: torch.device) -> Callable[[], None]:
    """Runs the launches one after the other."""

    def run() -> None:
        for launch in launches:
            launch.run(device)

    return run


def captured(launches: Sequence[Launch], device: torch.device) -> Callable[[], None]:
    """The launches as a CUDA graph. Each kernel runs before, on nothing, so that it is compiled and loaded."""
    with torch.cuda.device(device):
        for launch in {launch.constants(): launch for launch in launches}.values():
            nothing = {"cells": 0} if "cells" in launch.args else {"draws": 0}
            launch._replace(args=launch.args | nothing).run(device)
        torch.cuda.synchronize(device)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            for launch in launches:
                launch.run(device)

    def replay() -> None:
        with torch.cuda.device(device):
            graph.replay()

    return replay
