"""Recurrent networks: the program computes what the module does and reads what it reads, each state once; leaks are
found and the right layer is named."""

import dataclasses

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from genfast.compiler import Target, check_causality, compile_module, model_target, schedule
from genfast.compiler.cost import cost
from genfast.compiler.evaluate import evaluate
from genfast.compiler.plan import Plan
from genfast.compiler.program import Program, Scan, reads_of, scan_of, structure
from genfast.compiler.schedule import feasible, kernel_reads, smallest_slope
from genfast.errors import NotCausal, NotSupported
from genfast.models import PixelRNN, PixelRNNConfig
from genfast.ops.row_lstm import row_lstm
from tests.compiler.networks_recurrent import Recurrent, Shape
from tests.compiler.pattern import influence, random_levels, randomise
from tests.compiler.test_patterns import close, footprints

SHAPES: list[Shape] = [(1, 1, 1), (1, 1, 5), (1, 6, 1), (1, 5, 7), (3, 1, 3), (3, 3, 1), (3, 3, 4), (3, 1, 1)]
STACKS = [["row"], ["diagonal"], ["right"], ["row", "row"], ["diagonal", "diagonal"], ["row", "conv", "diagonal"]]


def build(shape: Shape, variants: list[str], seed: int = 0, **options: object) -> Recurrent:
    torch.manual_seed(seed)
    model = Recurrent(shape, variants, **options).double().eval()  # type: ignore[arg-type]
    randomise(model)
    return model


def compiled(shape: Shape, variants: list[str], **options: object) -> Program:
    return compile_module(model_target(build(shape, variants, **options)))


@pytest.mark.parametrize("variants", STACKS, ids=".".join)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@torch.no_grad()
def test_values_and_footprints(shape: Shape, variants: list[str]) -> None:
    model = build(shape, variants)
    program = compile_module(model_target(model))
    images = random_levels(shape, 3, 3, 1)
    expected = model(images)
    close(torch.stack(evaluate(program, images), 2).reshape(expected.shape), expected)
    report = check_causality(model)
    assert report.ok
    assert torch.equal(footprints(report.program), influence(model_target(model).forward, shape, 3))


def cells_of(plan: Plan, k: int) -> list[int]:
    """The positions that kernel k computes, in the order in which it does."""
    return [int(q) for b, e in launches_of(plan, k) for q in plan.order[k][b:e]]


def launches_of(plan: Plan, k: int) -> list[tuple[int, int]]:
    chosen = np.flatnonzero(plan.launch_kernel == k)
    return [(int(plan.launch_begin[i]), int(plan.launch_end[i])) for i in chosen]


@pytest.mark.parametrize("variants", STACKS, ids=".".join)
@pytest.mark.parametrize("shape", [(1, 5, 7), (3, 3, 4)], ids=str)
def test_every_cell_once_and_after_what_it_reads(shape: Shape, variants: list[str]) -> None:
    """Launch by launch, in every order that a plan can have: nothing is read before it is there, or after its slot went
    to another cell, and nothing is computed twice."""
    program = compiled(shape, variants)
    width = shape[2]
    for slope in sorted({smallest_slope(program), width}):
        plan = schedule(program, slope)
        holds: dict[tuple[int, int], int] = {}  # (value, slot) -> position
        draws = np.argsort(plan.draw_tick.reshape(-1), kind="stable")
        drawn = 0
        for i, tick in enumerate(plan.launch_tick):
            while drawn < len(draws) and plan.draw_tick.flat[draws[drawn]] <= tick:
                c, p = divmod(int(draws[drawn]), plan.draw_tick.shape[1])
                read = program.draws[c].params
                assert holds[read.value, int(plan.slots[read.value][read.at[p]])] == read.at[p]
                holds[program.inputs[c], int(plan.slots[program.inputs[c]][p])] = p
                drawn += 1
            kernel = plan.kernels[plan.launch_kernel[i]]
            q = plan.order[plan.launch_kernel[i]][plan.launch_begin[i] : plan.launch_end[i]]
            for read in kernel_reads(kernel):
                for at in read.at[q][read.at[q] >= 0]:
                    assert holds[read.value, int(plan.slots[read.value][at])] == at
            for store in kernel.stores:
                for at in q:
                    holds[store.value, int(plan.slots[store.value][at])] = int(at)
        for k in range(len(plan.kernels)):
            cells = cells_of(plan, k)
            assert len(cells) == len(set(cells))


def products(plan: Plan) -> list[int]:
    """The kernels that are a recurrent product and nothing else."""
    return [k for k, kernel in enumerate(plan.kernels) if kernel.scan is not None and not kernel.body]


@pytest.mark.parametrize("shape", [(1, 5, 7), (3, 4, 5)], ids=str)
def test_the_recurrent_product_of_a_row_lstm_runs_once_a_row(shape: Shape) -> None:
    _, height, width = shape
    plan = schedule(compiled(shape, ["row", "row"]), width)
    assert len(products(plan)) == 2
    for k in products(plan):
        rows = [sorted(plan.order[k][b:e].tolist()) for b, e in launches_of(plan, k)]
        assert rows == [list(range(y * width, (y + 1) * width)) for y in range(height)]


def test_the_diagonal_from_the_right_runs_when_its_row_is_complete() -> None:
    """Pixel by pixel within one tick: that of the draw which completes the row. What it reads of the row above is a
    product of the whole row."""
    _, height, width = shape = (1, 5, 7)
    plan = schedule(compiled(shape, ["diagonal"]), width)
    left = next(k for k, kernel in enumerate(plan.kernels) if "layers.0.left" in kernel.name and kernel.body)
    ticks = plan.launch_tick[plan.launch_kernel == left]
    for y in range(height - 1):  # nobody reads the last row
        own = ticks[y * width : (y + 1) * width]
        assert len(set(own.tolist())) == 1
        assert width * (y + 1) - 2 <= own[0] < width * (y + 1)
    assert cells_of(plan, left) == [y * width + x for y in range(height - 1) for x in reversed(range(width))]
    whole = [k for k in products(plan) if all(e - b == width for b, e in launches_of(plan, k))]
    assert len(whole) == 2  # one of each direction


def test_maps_wider_than_the_image_go_row_by_row_too() -> None:
    """PixelRNN's diagonal layers run on one column more than the image has."""
    config = PixelRNNConfig(image_shape=(1, 5, 7), levels=2, variant="diagonal", hidden=4, layers=2)
    plan = schedule(compile_module(model_target(PixelRNN(config).double().eval())), 7)
    above = [k for k in products(plan) if all(e - b > 1 for b, e in launches_of(plan, k))]
    assert len(above) == 4
    assert all(len(launches_of(plan, k)) <= 5 for k in above)


def test_row_lstms_take_a_wavefront_and_diagonals_raster_order() -> None:
    row, diagonal = compiled((1, 4, 8), ["row", "row"]), compiled((1, 4, 8), ["diagonal"])
    assert smallest_slope(row) == 2
    assert feasible(row, 2)
    assert smallest_slope(diagonal) >= 7  # the last pixel of the row above, from the right
    assert cost(schedule(row)).weight_reads < cost(schedule(row, 8)).weight_reads


@pytest.mark.parametrize(
    ("variants", "colors"), [(["row"], 1), (["row", "row"], 3), (["right"], 1), (["diagonal"], 1), (["diagonal"], 3)]
)
def test_a_first_mask_that_lets_the_pixel_in_is_named(variants: list[str], colors: int) -> None:
    """Also below a diagonal layer, where one of two readers is moved down and could do with such a mask."""
    model = build((colors, 3, 4), variants, fault="mask")
    with pytest.raises(NotCausal, match="layer first is the first on the way that looks ahead"):
        compile_module(model_target(model))


@pytest.mark.parametrize("colors", [1, 3])
def test_a_scan_from_the_right_without_the_shift_down_is_named(colors: int) -> None:
    model = build((colors, 3, 4), ["conv", "diagonal"], fault="shift")
    with pytest.raises(NotCausal, match=r"layer layers\.1\.left is the first on the way that looks ahead"):
        compile_module(model_target(model))
    report = check_causality(model)
    assert torch.equal(footprints(report.program), influence(model_target(model).forward, (colors, 3, 4), 3))


class Conditional(nn.Module):
    """An LSTM whose ``part`` is computed from the image."""

    def __init__(self, part: str) -> None:
        super().__init__()
        self.part = part
        self.weight = nn.Parameter(torch.randn(8, 2, 3).double())

    def forward(self, images: Tensor, condition: Tensor | None = None) -> Tensor:
        numbers = images.double()
        computed = {"weight": numbers.reshape(8, 2, 3), "h0": numbers[:, 0, 0, 0], "c0": numbers[:, 0, 0, 0]}
        given = {"weight": self.weight, "h0": self.weight[0, :, 0], "c0": self.weight[0, :, 0]}
        return row_lstm(numbers.expand(-1, 8, -1, -1), **(given | {self.part: computed[self.part]}))[:, :, None]


@pytest.mark.parametrize("part", ["weight", "h0", "c0"])
def test_states_and_weights_from_the_image_are_refused(part: str) -> None:
    module = Conditional(part).eval()
    target = Target(module, module.forward, (1, 4, 6), 2, "categorical")
    with pytest.raises(NotSupported, match="row_lstm: a recurrence whose weights or initial states are computed"):
        compile_module(target)


def test_a_wrong_generation_shows_in_the_numbers() -> None:
    """Whatever a scan reads before its generation is NaN, so that a wrong table cannot pass the check of a compile."""
    program = compiled((1, 4, 5), ["row"])
    images = random_levels((1, 4, 5), 3, 2, 0)
    assert all(bool(p.isfinite().all()) for p in evaluate(program, images))
    (scan,) = program.scans
    wrong = dataclasses.replace(program, scans=(Scan(scan.values, scan.generation * 0),))
    assert not all(bool(p.isfinite().all()) for p in evaluate(wrong, images))


def test_scans_say_what_is_earlier() -> None:
    program = compiled((3, 3, 4), ["row", "diagonal"])
    assert len(program.scans) == 3
    scans, made = scan_of(program), set()
    for step in program.steps:
        for read in reads_of(step):
            scan = scans.get(step.out)
            if scan is None or read.value not in scan.values:
                continue
            q = np.flatnonzero(read.at >= 0)
            gap = scan.generation[q] - scan.generation[read.at[q]]
            assert (gap >= 0).all()
            assert (gap > 0).all() or read.value in made
        made.add(step.out)


def test_the_structure_tells_scans_apart() -> None:
    program = compiled((1, 4, 5), ["row"])
    assert structure(program) == structure(compiled((1, 4, 5), ["row"], seed=1))
    scan = program.scans[0]
    other = dataclasses.replace(program, scans=(Scan(scan.values, scan.generation + 1),))
    assert structure(program) != structure(other)


def test_zero_weights_are_not_read() -> None:
    """A recurrence without weights is a gate on its own pixel: the compiler sees that nothing comes from above."""
    model = build((1, 4, 5), ["row"])
    with torch.no_grad():
        model.layers[0].scan.weight.zero_()
    assert torch.equal(
        footprints(compile_module(model_target(model))), influence(model_target(model).forward, (1, 4, 5), 3)
    )
