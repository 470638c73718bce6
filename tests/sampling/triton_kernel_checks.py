"""What the kernels of the triton engine that draw, and those that work number by number, must do by themselves; run by
triton_engine_checks.py."""

import math
from typing import Any

import torch
from torch import Tensor

from genfast.compiler.program import OPS
from genfast.kernels.categorical import triton_launch as drawing
from genfast.kernels.cells import triton_launch as cells
from genfast.kernels.pointwise.reference import TORCH_OPS
from genfast.likelihoods import Likelihood, LogisticMixture, make_likelihood
from genfast.sampling import noise

CPU = torch.device("cpu")


def draw_from(
    params: Tensor, likelihood: Likelihood, distribution: drawing.Distribution, options: tuple[float, int, float]
) -> tuple[Tensor, Tensor, Tensor]:
    """(levels, uniforms, log-probabilities) of n draws by the kernel alone; params [n, width]."""
    n, width = params.shape
    sheet = drawing.Sheet(
        torch.zeros(n, 1, 1, dtype=torch.int32), torch.zeros(n, 1, dtype=torch.uint8),
        noise.uniforms(1, 0, n, (1, 1, 1)).flatten(2), torch.zeros(n, 1, 1, dtype=torch.float64),
        torch.tensor(options, dtype=torch.float64), torch.zeros(1, dtype=torch.int32),
    )  # fmt: skip
    sheet.uniforms[0] = 0.5
    arena = torch.cat([params.flatten(), torch.zeros(n)])  # the parameters' value, then the input
    tables = torch.tensor([0, 0, width], dtype=torch.int32)
    where = drawing.Draws(0, 1, 0, 1, 0, 1, 1, width, 0)
    drawing.draw_launch(arena, tables, sheet, distribution, where, n).run(CPU)
    levels, uniforms = sheet.images[:, 0, 0].long(), sheet.uniforms[:, 0, 0]
    assert torch.equal(arena[n * width :].long(), levels)
    assert int(sheet.failed) == 0
    return levels, uniforms, sheet.log_probs[:, 0, 0]


def check_ties() -> None:
    """Every rule of ranking, on logits with ties, infinities and both zeros."""
    logits = torch.tensor([1.0, 2, 2, 0.0, -0.0, -math.inf, 2, 1, -3, 0]).repeat(40, 1)
    logits[20:] = torch.randn(20, 10).mul(4).round()
    logits[0] = 0  # half of these levels have probability 1 / 2, which is uniform 0
    likelihood = make_likelihood("categorical", 1, 10)
    for options in ((1.0, 3, 1.0), (1.0, 2, 0.3), (0.5, 10, 0.55), (1.0, 5, 0.9), (0.0, 10, 1.0)):
        levels, uniforms, nats = draw_from(logits, likelihood, drawing.Distribution(10, 10), options)
        assert torch.equal(levels, likelihood.draw(logits, uniforms, *options)), options
        expected = logits.double().log_softmax(1).gather(1, levels[:, None])[:, 0]
        torch.testing.assert_close(nats, expected, rtol=1e-13, atol=1e-13)


def check_mixture_draws() -> None:
    """Mixtures of logistics, with and without earlier colours, by halving and by the ranking of all levels."""
    for channels, levels in ((3, 16), (1, 2)):
        likelihood = LogisticMixture(channels, levels, components=3)
        rows = torch.randn(30, likelihood.rows, 3)
        rows[:, 2::3] -= 2
        if channels == 3:
            rows[:, 3] = torch.randint(-1, levels, (30, 1))
            rows[:, 6] = torch.where(rows[:, 3] < 0, -1, torch.randint(-1, levels, (30, 1)))
        distribution = drawing.Distribution(levels, 3 * likelihood.rows, False, 3, channels, likelihood.min_log_scale)
        every = ((1.0, levels, 1.0), (0.4, levels, 1.0), (0.0, levels, 1.0), (1.5, 3, 0.6))
        for temperature, top_k, top_p in every if channels == 3 else every[:1]:
            given = (temperature, top_k, top_p)
            drawn, uniforms, nats = draw_from(rows.flatten(1), likelihood, distribution, given)
            how = (temperature, None if top_k == levels else top_k, None if top_p == 1 else top_p)
            assert torch.equal(drawn, likelihood.draw(rows, uniforms, *how)), given
            expected = likelihood.level_logits(rows).log_softmax(1).gather(1, drawn[:, None])[:, 0]
            torch.testing.assert_close(nats, expected, rtol=1e-11, atol=1e-11)


def special_numbers() -> Tensor:
    numbers = [0.0, -0.0, 1, -1, 0.5, -0.5, 1.5, 2.5, -2.5, 3, -3, 1e-3, 1e-20, 1e20, 87, -87, 100, -100, 7.25]
    return torch.tensor([*numbers, 1e9, -1e9, math.inf, -math.inf, math.nan])


def check_pointwise() -> None:
    """Every operation on all pairs of special numbers and on noise, against PyTorch in float64."""
    special = special_numbers()
    a = torch.cat([special.repeat_interleave(len(special)), torch.randn(200) * 3])
    b = torch.cat([special.repeat(len(special)), torch.randn(200) * 2])
    n = len(a)
    arena = torch.cat([torch.stack([a, b], 1).flatten(), torch.full((n * len(OPS),), torch.nan)])
    body: list[tuple[Any, ...]] = [("read", 0, 2, 0, False), ("read", 0, 2, 1, False)]
    body += [(op, 0, 1, 1, 0) for op in OPS]
    stores = tuple((2 + i, 1, len(OPS), i) for i in range(len(OPS)))
    constants = cells.Constants("none", tuple(body), stores, 1)
    buffers = cells.Buffers(arena, torch.zeros(1), torch.zeros(1), torch.tensor([0, 2], dtype=torch.int32))
    cells.launch(buffers, constants, cells.Numbers(0, 1, 0, 1, 0, 0), n, "float32").run(CPU)
    results = arena[2 * n :].view(n, len(OPS))
    for i, (op, count) in enumerate(OPS.items()):
        arguments = [a, b, b][:count]
        truth = TORCH_OPS[op](*(x.double() for x in arguments)).to(torch.float32)
        plain = TORCH_OPS[op](*arguments).to(torch.float32)
        got = results[:, i]
        inside = (a.abs() < 1e6) if op in ("sin", "cos") else torch.ones(n, dtype=torch.bool)
        if op == "remainder":
            inside = ~((a / b).abs() >= 2**29)
        near = torch.isclose(got, truth, rtol=4e-6, atol=2e-37, equal_nan=True)
        near |= torch.isclose(got, plain, rtol=4e-6, atol=2e-37, equal_nan=True)
        wrong = inside & ~near
        assert not wrong.any(), f"{op}({a[wrong][:4]}, {b[wrong][:4]}) = {got[wrong][:4]}, not {truth[wrong][:4]}"
