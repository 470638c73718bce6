"""Random networks: causal ones are computed exactly, and read what they read; one wrong layer is found and named."""

from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
import torch
import torch.nn.functional as F
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from genfast.compiler import check_causality, compile_module, make_target
from genfast.compiler.evaluate import evaluate
from genfast.errors import NotCausal
from genfast.sampling import compile_sampler, naive
from tests.compiler.pattern import Wrapped, causal_mask, influence, random_levels
from tests.compiler.test_patterns import _double, close, footprints  # noqa: F401  (a fixture)

ACTIVATIONS = [torch.tanh, F.elu, F.silu, F.softplus, lambda x: x * torch.sigmoid(x.flip(1)), torch.sin]
SHAPES = [(1, 5, 4), (2, 3, 5), (3, 4, 3), (1, 6, 1), (3, 1, 5), (1, 7, 3), (2, 1, 1)]


@dataclass
class Spec:
    """What one layer does; leak: it is without its mask."""

    kind: str
    kernel: tuple[int, int] = (3, 3)
    dilation: int = 1
    groups: int = 1
    activation: int = 0
    leak: bool = field(default=False)


specs = st.builds(
    Spec,
    st.sampled_from(["conv", "conv", "residual", "branches", "stride", "gate", "norm", "attend"]),
    st.tuples(st.sampled_from([1, 3]), st.sampled_from([1, 3, 5])),
    st.integers(1, 2),
    st.sampled_from([1, 2]),
    st.integers(0, len(ACTIVATIONS) - 1),
)


class Masked(nn.Conv2d):
    """Keeps the size, and reads rows above and pixels to the left (B: also its own)."""

    def __init__(self, inputs: int, outputs: int, kind: str, spec: Spec) -> None:
        (h, w), d = spec.kernel, spec.dilation
        super().__init__(inputs, outputs, (h, w), padding=(h // 2 * d, w // 2 * d), dilation=d, groups=spec.groups)
        mask = causal_mask(self.weight.detach(), kind)
        self.register_buffer("mask", torch.ones_like(mask) if spec.leak else mask)

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.weight * self.mask, self.bias, 1, self.padding, self.dilation, self.groups)


class Layer(nn.Module):
    def __init__(self, width: int, spec: Spec) -> None:
        super().__init__()
        self.spec = spec
        self.conv = Masked(width, width, "B", spec)
        self.down = nn.Conv2d(width, width, (2, 2), stride=2)
        self.up = nn.ConvTranspose2d(width, width, (2, 2), stride=2)
        self.norm, self.mix = nn.LayerNorm(width), nn.Linear(2 * width, width)
        self.ask = nn.Linear(width, 3 * width)

    def forward(self, x: Tensor) -> Tensor:
        act, kind = ACTIVATIONS[self.spec.activation], self.spec.kind
        y = self.conv(x)
        if kind == "residual":
            return x + act(y)
        if kind == "branches":
            return self.mix(torch.cat([act(y), x], 1).movedim(1, 3)).movedim(3, 1)
        if kind == "gate":
            return torch.tanh(y) * torch.sigmoid(F.pad(x, (1, 0, 0, 0))[..., :-1])
        if kind == "norm":
            return self.norm(act(y).movedim(1, -1)).movedim(-1, 1)
        if kind == "attend":
            earlier = torch.ones(y[0, 0].numel(), y[0, 0].numel()).tril(-1).bool()
            q, k, v = self.ask(y.flatten(2).mT).chunk(3, 2)
            weights = (q @ k.mT).masked_fill(~earlier, -1e9).softmax(2) * earlier
            return x + (weights @ v).mT.reshape(x.shape)
        if kind == "stride":
            height, width = x.shape[2:]
            coarse = act(self.down(F.pad(y, (1, width % 2, 1, height % 2))))  # rows and columns up to the block's first
            return x + self.up(coarse)[:, :, :height, :width]
        return act(y)


class Network(nn.Module):
    def __init__(self, channels: int, levels: int, layers: list[Spec], leak: int | None) -> None:
        super().__init__()
        first = Spec("conv", (3, 3), leak=leak == 0)
        self.first = Masked(channels, 6, "A", first)
        self.layers = nn.Sequential(*(Layer(6, spec) for spec in layers))
        self.out = nn.Conv2d(6, channels * levels, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(torch.tanh(self.layers(self.first(x))))


def by_colour(levels: int) -> Callable[..., Tensor]:
    """All levels of the first colour come first: colours that are blind to each other could as well be interleaved."""
    return lambda out, y, x, c: out[:, c * levels : (c + 1) * levels, y, x]


few = settings(
    max_examples=10, derandomize=True, deadline=None, database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)  # fmt: skip


@few
@given(st.lists(specs, min_size=1, max_size=4), st.sampled_from(SHAPES), st.sampled_from([2, 3]), st.integers(0, 99))
@torch.no_grad()
def test_causal(layers: list[Spec], shape: tuple[int, int, int], levels: int, seed: int) -> None:
    torch.manual_seed(seed)
    module = Network(shape[0], levels, layers, None).eval()
    target = make_target(module, shape, levels=levels, encode="signed", pick=by_colour(levels))
    program = compile_module(target)
    images = random_levels(shape, levels, 3, seed)
    expected = target.forward(images)
    close(torch.stack(evaluate(program, images), 2).reshape(expected.shape), expected)
    assert torch.equal(footprints(program), influence(target.forward, shape, levels))
    sampler = compile_sampler(Wrapped(target).eval(), "eager")
    close(sampler.logits(images), expected)
    assert torch.equal(sampler.sample(2, seed=seed), naive.sample(sampler.model, 2, seed=seed))


@few
@given(st.lists(specs, min_size=1, max_size=3), st.sampled_from(SHAPES[:5]), st.data())
@torch.no_grad()
def test_one_layer_without_its_mask(layers: list[Spec], shape: tuple[int, int, int], data: st.DataObject) -> None:
    place = data.draw(st.integers(0, len(layers)))
    if place:
        layers[place - 1].leak = True
        layers[place - 1].kernel = (3, 3)
    torch.manual_seed(place)
    module = Network(shape[0], 2, layers, place).eval()
    target = make_target(module, shape, levels=2, pick=by_colour(2))
    report = check_causality(module, shape, levels=2, pick=by_colour(2))
    seen = influence(target.forward, shape, 2)
    assert torch.equal(footprints(report.program), seen)
    order = torch.arange(shape[1] * shape[2]).reshape(1, *shape[1:]) * shape[0] + torch.arange(shape[0])[:, None, None]
    early = order.flatten()[:, None] <= order.flatten()[None, :]
    leaky = (seen.flatten(3).flatten(0, 2) & early).any(1)
    assert {int(order[leak.output]) for leak in report.leaks} == set(order.flatten()[leaky].tolist())
    if report.ok:
        return  # on so small an image, what the layer sees too much of is padding
    name = "first" if place == 0 else f"layers.{place - 1}.conv"
    with pytest.raises(NotCausal, match=f"layer {name.replace('.', '[.]')} is the first"):
        compile_module(target)
