"""Every operation of the Program, and every operator that is written in them, against PyTorch; moves and sums too."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genfast import ops
from genfast.compiler import Target, trace
from genfast.compiler.builder import Builder
from genfast.compiler.cells import Cells, make_ids
from genfast.compiler.elementwise import FORMULAS
from genfast.compiler.evaluate import evaluate
from genfast.compiler.program import OPS
from genfast.compiler.scalar import SCALAR
from genfast.kernels.pointwise.reference import TORCH_OPS

EDGES = [0.0, -0.0, 1.0, -1.0, 0.5, -0.5, 1.5, 2.5, -2.5, 3.0, 1e-6, -1e-6, 30.0, -30.0, 100.0, -100.0]
NAN, INF = float("nan"), float("inf")


def run(
    function: Callable[..., Tensor], images: Tensor, *conditions: Tensor, levels: int = 256
) -> tuple[Tensor, Tensor]:
    """(what the Program of function says, what function says) for two images; both float64, flat after the batch."""
    shape = tuple(images.shape[1:])

    def forward(x: Tensor, *given: Tensor) -> Tensor:
        out = function(x, *given)
        flat = out.reshape(2, -1)
        return flat[:, :, None, None, None].expand(-1, -1, *shape)  # every pixel's parameters are the whole result

    target = Target(nn.Identity(), forward, shape, levels, "categorical", conditions)  # type: ignore[arg-type]
    found = trace(target)
    assert not found.opaque, found.opaque[0].reason
    got = evaluate(found.program, images, conditions)[0][:, :, 0]
    return got, function(images, *conditions).reshape(2, -1).double()


def same(got: Tensor, expected: Tensor, tolerance: float = 1e-12) -> None:
    torch.testing.assert_close(got, expected, rtol=tolerance, atol=tolerance, equal_nan=True)


def numbers(n: int = 40, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.cat([torch.tensor(EDGES), 3 * torch.randn(n - len(EDGES), generator=generator)]).double()


# ---- the operations themselves ----


@pytest.mark.parametrize("op", OPS)
def test_numpy_and_torch_mean_the_same(op: str) -> None:
    """SCALAR folds constants, TORCH_OPS computes: NaN, infinities and all."""
    x = torch.cat([numbers(), torch.tensor([NAN, INF, -INF])]).double()
    grid = [a.flatten() for a in torch.meshgrid(*[x] * min(OPS[op], 2), indexing="ij")]
    args = [torch.arange(len(grid[0])) % 2 - 0.0, *grid] if op == "where" else grid
    with np.errstate(all="ignore"):
        folded = torch.from_numpy(np.asarray(SCALAR[op](*(a.numpy() for a in args)), np.float64))
    same(folded, TORCH_OPS[op](*args).double(), 1e-13)


@pytest.mark.parametrize("op", OPS)
def test_op_of_computed_and_constant_numbers(op: str) -> None:
    """The builder's rules (shares, folds, 0 * x) change no number."""
    n, count = 12, OPS[op]
    x = numbers(n + 6)[: 2 * n].reshape(-1)[:n].reshape(3, 4)
    inputs = numbers(60, 3)[20:32].reshape(3, 4)
    for which in range(2**count - 1):  # bit i: argument i is constant
        builder = Builder()
        value = builder.new_value(3, 4)
        ids = make_ids(value, np.arange(3)[:, None], np.arange(4)[None])
        dynamic = Cells(np.stack([ids, ids + 1]), np.zeros((2, 3, 4)))
        constant = Cells(np.full((3, 4), -1), x.numpy())
        out = builder.pointwise(op, *(constant if which >> i & 1 else dynamic for i in range(count)))
        values = [x if which >> i & 1 else inputs for i in range(count)]
        expected = TORCH_OPS[op](*values).double()
        if op == "mul":
            expected[(values[0] == 0) | (values[1] == 0)] = 0.0
        same(read_back(builder, out, inputs), expected)


def read_back(builder: Builder, out: Cells, inputs: Tensor) -> Tensor:
    """The numbers of cells of shape [2, 3, 4] (image 0), computed from value 0 [3 channels, 4 positions]."""
    from genfast.compiler.evaluate import apply
    from genfast.compiler.program import Program

    program = Program((1, 1, 1), 2, "bernoulli", tuple(builder.values), (), (), tuple(builder.steps), ())  # type: ignore[arg-type]
    values = {0: inputs.T[None]}
    for step in program.steps:
        made = program.values[step.out]
        values[step.out] = apply(step, values, 1, made.positions, made.channels, torch.float64)
    result = torch.from_numpy(np.broadcast_to(out.values, out.ids.shape)[0].astype(np.float64).copy())
    for place in np.ndindex(3, 4):
        cell = int(out.ids[0][place])
        if cell >= 0:
            lane = cell >> 23
            result[place] = values[lane >> 18][0, (cell >> 1) & ((1 << 22) - 1), lane & ((1 << 18) - 1)]
    return result


# ---- formulas ----

SPECIAL: dict[str, list[tuple[Any, dict[str, Any]]]] = {
    "clamp": [((-0.5, 2), {}), ((None, 1), {}), ((-1,), {})],
    "clip": [((-0.5, 2), {})],
    "clamp_min": [((0.3,), {})],
    "clamp_max": [((0.3,), {})],
    "hardtanh": [((), {}), ((-0.3, 0.7), {})],
    "leaky_relu": [((), {}), ((0.2,), {})],
    "elu": [((), {}), ((0.7, 1.3, 0.5), {})],
    "celu": [((), {}), ((1.7,), {})],
    "gelu": [((), {}), ((), {"approximate": "tanh"})],
    "softplus": [((), {}), ((2.0, 3.0), {})],
    "threshold": [((0.5, -7.0), {})],
    "nan_to_num": [((), {}), ((1.0, 2.0, -3.0), {}), ((0.0, 0.0, 0.0), {})],
    "div": [((2.0,), {}), ((0.3,), {"rounding_mode": "floor"}), ((0.3,), {"rounding_mode": "trunc"})],
    "add": [((2.5,), {"alpha": 3}), ((0,), {})],
    "sub": [((2.5,), {"alpha": 3}), ((0,), {})],
    "rsub": [((2.5,), {}), ((2.5,), {"alpha": 2})],
    "pow": [((2,), {}), ((3,), {}), ((-1,), {})],
    "floor_divide": [((0.1,), {}), ((-2.0,), {})],
    "fmod": [((0.7,), {}), ((-3.0,), {})],
    "remainder": [((0.7,), {}), ((-3.0,), {})],
}
TWO = {"mul", "maximum", "minimum", "remainder", "eq", "ne", "lt", "le", "gt", "ge", "add", "sub", "div", "fmod",
       "floor_divide", "logical_and", "logical_or", "logical_xor", "logaddexp", "hypot"}  # fmt: skip
POSITIVE = {"log", "log2", "log10", "log1p", "sqrt", "rsqrt", "reciprocal"}
OTHERWISE = {"where", "masked_fill", "lerp", "addcmul", "addcdiv", "_prelu_kernel", "isnan", "isinf", "isfinite"}


@pytest.mark.parametrize("name", sorted(set(FORMULAS) - OTHERWISE))
def test_formula(name: str) -> None:
    operator = getattr(torch.ops.aten, name)
    data = numbers(64).reshape(2, 1, 4, 8)
    data = data.abs() + 0.1 if name in POSITIVE else data
    other = numbers(64, 9).flip(0).reshape(2, 1, 4, 8)
    other = torch.where(other == 0, 0.25, other)
    images = torch.arange(64, dtype=torch.uint8).reshape(2, 1, 4, 8)
    table, second = data.flatten(), other.flatten()

    def lookup(t: Tensor, x: Tensor) -> Tensor:  # any numbers as functions of the level
        return F.embedding(x.long(), t[:, None])[..., 0]

    calls = SPECIAL.get(name, [] if name in TWO else [((), {})])
    for args, named in calls:
        same(*run(lambda x, a=args, k=named: operator(lookup(table, x), *a, **k), images, levels=64))
    if name in TWO:
        same(*run(lambda x: operator(lookup(table, x), lookup(second, x)), images, levels=64))


def test_formulas_of_three() -> None:
    images = torch.arange(24, dtype=torch.uint8).reshape(2, 1, 3, 4)
    mask = torch.tensor([1, 0, 1, 0]).bool()

    def floats(x: Tensor) -> Tensor:
        return x.double() / 5 - 1.3

    weight = torch.tensor([0.2]).double()
    cases = [
        lambda x: torch.where(x > 9, floats(x), floats(x) ** 2),
        lambda x: torch.where(mask, floats(x), torch.tensor(7.0).double()),
        lambda x: floats(x).masked_fill(mask, -1e9),
        lambda x: floats(x).masked_fill(x > 5, 3.0),
        lambda x: floats(x).masked_fill(mask, torch.tensor(2.0).double()),
        lambda x: torch.lerp(floats(x), floats(x) ** 2, 0.3),
        lambda x: torch.lerp(floats(x), floats(x).sin(), floats(x)),
        lambda x: torch.addcmul(floats(x), floats(x), floats(x).cos(), value=0.5),
        lambda x: torch.addcdiv(floats(x), floats(x), floats(x).cos(), value=0.5),
        lambda x: F.prelu(floats(x), weight),
        lambda x: F.rrelu(floats(x), training=False),
        lambda x: F.logsigmoid(floats(x)),
        lambda x: F.glu(floats(x), 3),
        lambda x: F.selu(F.relu6(floats(x))) + F.hardsigmoid(floats(x)),
        lambda x: torch.isnan(torch.log(floats(x))).double() + torch.isinf(1 / x).double() + torch.isfinite(1 / x),
        lambda x: F.softsign(floats(x)) + F.tanhshrink(floats(x)) + F.hardshrink(floats(x)) + F.softshrink(floats(x)),
    ]
    for case in cases:
        same(*run(case, images))


# ---- whole numbers ----


@pytest.mark.parametrize(
    "function",
    [
        lambda x: x + 200,
        lambda x: x - 7,
        lambda x: x * x,
        lambda x: -x,
        lambda x: (x.to(torch.int8) + 100) * 3,
        lambda x: (x.long() * 100).to(torch.uint8),
        lambda x: (x.short() * 3000).int(),
        lambda x: (x.float() * 1.7 - 20).to(torch.int8),
        lambda x: x // 3 + x % 5,
        lambda x: -x.long() // 4,
        lambda x: torch.div(-x.int(), 4, rounding_mode="trunc"),
        lambda x: (x > 3) + (x < 9),
        lambda x: ((x > 3) & (x < 9)) | ~(x == 4) ^ (x != 6),
        lambda x: torch.stack([x >> i & 1 for i in range(5)], 1),
        lambda x: (x << 4) + (x.long() << 2) + (x.int() >> torch.tensor([0, 1, 2, 3])),
        lambda x: (x & 0b10110) + (x | 9) + (x ^ 6) + ~x,
        lambda x: (x.long() - 12 & -7) + (x.long() - 12 | 5) + (-x.long() ^ -3) + (x & 0) + (12 & x.long()),
        lambda x: (x.float() / 23 * 255).round().to(torch.uint8) / 255,
        lambda x: x.half() * 2 + x.bfloat16(),
        lambda x: x.bool() * 3 + (x > 5).sum(3, keepdim=True),
        lambda x: x.clamp(3, 8).pow(2) + x.square(),
        lambda x: x.clone().fill_(7) * x,
        lambda x: x.float().mul_(0.5).add_(x).div_(3).clamp_(max=2).neg_(),
    ],
)
def test_whole_numbers_and_conversions(function: Callable[[Tensor], Tensor]) -> None:
    got, expected = run(function, torch.arange(24, dtype=torch.uint8).reshape(2, 1, 3, 4))
    same(got, expected, 1e-6)


@pytest.mark.parametrize("backend", ["auto", "cpu"])
def test_operators_of_ours_are_taken_apart(backend: str) -> None:
    """Whatever backend a network names."""
    pytest.importorskip("genfast._C")
    images = torch.randint(0, 100, (2, 6, 2, 3), dtype=torch.uint8)
    same(*run(lambda x: ops.gated_activation(x.double() / 10 - 5, 3, backend), images))


def test_levels_survive_scaling_there_and_back() -> None:
    """x / 255 * 255 as a whole number again, in the module's float32 and in the Program's float64."""
    images = torch.arange(512, dtype=torch.int64).remainder(256).to(torch.uint8).reshape(2, 1, 16, 16)
    same(*run(lambda x: (x.float() / 255 * 255).long(), images))


# ---- moves ----


@pytest.mark.parametrize(
    "function",
    [
        lambda x: torch.cat([x, x.flip(3)], 2)[:, :, ::2],
        lambda x: torch.stack([x, x + 1], 2).transpose(1, 3).reshape(2, -1),
        lambda x: F.pad(x, (1, -1, 2, 0), value=0.5),
        lambda x: F.pad(x, (1, 1, 1, 1), mode="reflect") + 1,
        lambda x: F.pad(x, (1, 1, 1, 1), mode="replicate"),
        lambda x: F.pad(x, (1, 1, 1, 1), mode="circular"),
        lambda x: torch.roll(x, (1, -1), (2, 3)).rot90(1, (2, 3)),
        lambda x: x.repeat(1, 2, 1, 1).repeat_interleave(3, 1),
        lambda x: x.repeat_interleave(torch.tensor([1, 0, 2, 1]), 3),
        lambda x: F.unfold(x, 2, padding=1, dilation=2),
        lambda x: x.unfold(3, 2, 1).squeeze(),
        lambda x: F.pixel_shuffle(F.pixel_unshuffle(x[..., :2, :2], 2), 2),
        lambda x: F.interpolate(x, scale_factor=2) + F.interpolate(x, (6, 8), mode="nearest-exact"),
        lambda x: F.interpolate(x, scale_factor=2, mode="bilinear"),
        lambda x: x.index_select(3, torch.tensor([3, 0])).expand(2, 3, 3, 2),
        lambda x: x.gather(3, torch.tensor([0, 2, 1, 3]).expand(2, 1, 3, 4)),
        lambda x: x[:, :, torch.tensor([0, 2]), torch.tensor([1, 3])] + x[..., 0, :2],
        lambda x: x[:, :, torch.tensor([True, False, True])].tril() + x[:, :, :2].triu(1),
        lambda x: torch.diagonal_scatter(x[..., :3], x[..., 0], 0, 2, 3),
        lambda x: torch.slice_scatter(x, x[:, :, :1] * 2, 2, 1, 2).unbind(3)[2],
        lambda x: x.index_copy(3, torch.tensor([2]), x[..., :1]).index_fill(3, torch.tensor([0]), 9.0),
        lambda x: torch.index_put(x, (torch.tensor([0, 1]), torch.tensor(0), torch.tensor(2)), torch.tensor(4.0).to(x)),
        lambda x: x.movedim(1, 3),
        lambda x: torch.full_like(x, 3).sub(x) + torch.zeros_like(x) + x.new_ones(4),
        lambda x: torch.cat([x, x], 1, out=torch.empty(2, 2, 3, 4, dtype=x.dtype)),
        lambda x: torch.add(x, x, out=torch.empty(2, 1, 3, 4, dtype=x.dtype)),
        lambda x: torch.eye(9)[x.long() % 9] + torch.eye(9).index_select(0, x.long().flatten() % 9).view(2, 1, 3, 4, 9),
        lambda x: torch.arange(27.0).view(3, 9)[:, x[:, 0].long() % 9 - 9].movedim(0, 1),
        lambda x: torch.eye(4)[x[..., 0].int() % 4] + 1,
        lambda x: torch.channel_shuffle(x.repeat(1, 4, 1, 1), 2) + torch.take(torch.arange(9.0).to(x), torch.tensor(3)),
        lambda x: torch.as_strided(x.clone(), (2, 3, 2), (12, 4, 3)),
    ],
)  # fmt: skip
def test_moves(function: Callable[[Tensor], Tensor]) -> None:
    images = torch.arange(24, dtype=torch.uint8).reshape(2, 1, 3, 4)
    same(*run(lambda x: function(x.double()), images))


# ---- sums ----


@pytest.mark.parametrize(
    "function",
    [
        lambda x: x.sum(1) + x.mean((2, 3), keepdim=True)[:, 0],
        lambda x: x.mean((1, 3)),
        lambda x: x.amax(1) - x.amin((1, 2), keepdim=True)[:, 0],
        lambda x: x.max(1).values + x.min(3, keepdim=True)[0].sum((1, 3))[:, :, None],
        lambda x: x.var(1) + x.std((1, 2), unbiased=False)[:, None],
        lambda x: torch.var_mean(x, 1, correction=0)[0] * torch.std_mean(x, 3, keepdim=True)[1][:, 0],
        lambda x: x.softmax(1) + x.log_softmax(3),
        lambda x: x.masked_fill(torch.tensor([False, True, False, True]), -torch.inf).softmax(3),
        lambda x: x.logsumexp(1) + x.norm(dim=1),
        lambda x: F.normalize(x, dim=1) + F.layer_norm(x, (4,), eps=1e-3),
        lambda x: F.layer_norm(x, (3, 4), torch.ones(3, 4).to(x) * 2, torch.ones(3, 4).to(x)),
        lambda x: F.group_norm(x, 1) + F.instance_norm(x),
        lambda x: F.rms_norm(x, (4,)),
        lambda x: torch.linalg.vector_norm(x, 3, dim=(1, 3)),
        lambda x: (x > 2).any(1).double() + (x > 0).all(3, keepdim=True)[:, 0],
        lambda x: F.avg_pool2d(x, 2, 1) + F.adaptive_avg_pool2d(x, 1),
        lambda x: F.max_pool2d(x, 2, 1),
        lambda x: F.local_response_norm(x, 2),
        lambda x: x.cumsum(1) + x.cumsum(-1) + x.flip(2).cumsum(2),
        lambda x: x.prod(1) + x.cumprod(3)[:, 0] + x.prod(3, keepdim=True)[:, 0],
        lambda x: F.softplus(x).cumsum(1).tanh().atanh(),
    ],
)
def test_sums(function: Callable[[Tensor], Tensor]) -> None:
    images = torch.randint(0, 9, (2, 1, 3, 4), generator=torch.Generator().manual_seed(3), dtype=torch.uint8)

    def planes(x: Tensor) -> Tensor:
        x = x.double()
        return function(torch.cat([x / 3, x.sin(), 2 - x], 1))

    if function(torch.ones(2, 3, 3, 4).double()).shape[0] == 2:
        same(*run(planes, images), 1e-10)


# ---- products ----


@pytest.mark.parametrize(
    "function",
    [
        lambda x, w: x[:, 0] @ w[:4, :5],
        lambda x, w: w[:5, :3] @ x[:, 0],
        lambda x, w: torch.einsum("bcyx,oy->bocx", x, w[:3, :3])[:, 1],
        lambda x, w: torch.einsum("bcyx,yxo->byo", x, torch.stack([w[:3, :4]] * 2, 2) * w[:3, :4, None]),
        lambda x, w: torch.baddbmm(x[:, 0, :, :3], x[:, 0], w[:4, :3].expand(2, 4, 3)),
        lambda x, w: F.linear(x, w[:2, :4], w[0, :2]),
        lambda x, w: torch.mv(x.reshape(6, 4), w[0, :4]).reshape(2, 3),
        lambda x, w: F.conv1d(x[:, 0], w[:6, :3, None]) + F.conv1d(x[:, 0], w[:6, 3:, None], padding="same"),
        lambda x, w: F.conv_transpose2d(x, w[None, :2, :3, None], stride=2, padding=1, dilation=2, output_padding=1),
        lambda x, w: F.conv3d(x[:, None], w[:2, None, None, :2, None]),
        lambda x, w: F.conv2d(x.transpose(0, 1).reshape(1, 2, 3, 4).transpose(0, 1), w[:2, None, :2, None]),
        lambda x, w: F.conv2d(x.reshape(6, 1, 2, 2), w[:2, None, :2, None]),
    ],
)  # fmt: skip
def test_products(function: Callable[[Tensor, Tensor], Tensor]) -> None:
    images = torch.arange(24, dtype=torch.uint8).reshape(2, 1, 3, 4)
    weight = torch.randn(6, 6, generator=torch.Generator().manual_seed(0)).double()
    same(*run(lambda x: function(x.double() / 7, weight), images), 1e-11)
