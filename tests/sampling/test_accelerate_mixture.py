"""accelerate: mixtures of logistics, as PixelCNN++ and its relatives emit them, drawn by the engines themselves.

The truth is written here once more: one pass of the module for each pixel, and the probability of every level of every
colour in float64.
"""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import genfast
from genfast.errors import GenfastError, NotCausal, NotSupported
from genfast.likelihoods import LogisticMixture
from genfast.sampling import noise
from tests.compiler.networks_masks import DataMask
from tests.compiler.pattern import random_levels, randomise
from tests.sampling.modules import ENGINES, Arranged

GREY, COLOUR = (1, 4, 5), (3, 3, 4)
Call = Callable[[Tensor], Tensor]


def signed(levels: int) -> Call:
    return lambda images: images.float() * (2 / (levels - 1)) - 1


def network(channels: int, components: int = 2, out: int | None = None) -> nn.Module:
    """Reads no colour of the pixel itself. Its numbers are of the size that a trained network's have."""
    torch.manual_seed(0)
    last = nn.Conv2d(8, components * (3 if channels == 1 else 10) if out is None else out, 1)
    module = randomise(nn.Sequential(DataMask("A", channels, 8, 3, padding=1), nn.Tanh(), last)).eval()
    with torch.no_grad():
        last.weight.mul_(2)
    return module


def level_weights(numbers: Tensor, earlier: list[Tensor], levels: int, components: int) -> Tensor:
    """P of every level of the next colour of some pixels, up to a factor, given the colours before it.

    numbers [B, 3 K or 10 K], float64, as published: K logits; for each colour K means, K log-scales and, of three
    colours, K coefficients.  # [B, levels]
    """
    channels = 1 if numbers.shape[1] == 3 * components else 3
    logits, rest = numbers[:, :components], numbers[:, components:].unflatten(1, (channels, -1, components))
    grid = torch.arange(levels).double() * (2 / (levels - 1)) - 1
    seen = [grid[level] for level in earlier]
    shares = logits.softmax(1)[:, None]  # [B, 1, K]
    for c in range(len(earlier) + 1):
        means, log_scales = rest[:, c, 0], rest[:, c, 1].clamp(min=-7)
        if channels == 3:
            coefficients = torch.tanh(rest[:, :, 2])  # green of red; blue of red; blue of green
            for i in range(c):
                means = means + coefficients[:, 0 if c == 1 else 1 + i] * seen[i][:, None]
        x, half = grid[None, :, None], 1 / (levels - 1)
        above = torch.sigmoid((x + half - means[:, None]) / log_scales.exp()[:, None])
        below = torch.sigmoid((x - half - means[:, None]) / log_scales.exp()[:, None])
        above[:, -1], below[:, 0] = 1, 0
        bins = above - below  # [B, levels, K]
        if c < len(earlier):
            shares = shares * bins[torch.arange(len(bins)), earlier[c]][:, None]
    return (shares * bins).sum(2)


def pixel_loop(call: Call, shape: tuple[int, ...], levels: int = 256, components: int = 2, n: int = 3) -> Tensor:
    """Images by the loop that people write; call: levels -> the network's numbers [B, 3 K or 10 K, H, W]."""
    channels, height, width = shape
    images = torch.zeros(n, *shape, dtype=torch.uint8)
    uniforms = noise.uniforms(5, 0, n, shape)
    for y in range(height):
        for x in range(width):
            with torch.no_grad():
                numbers = call(images.clone())[:, :, y, x].double()
            drawn: list[Tensor] = []
            for c in range(channels):
                below = level_weights(numbers, drawn, levels, components).cumsum(1)
                drawn.append((below <= uniforms[:, c, y, x, None] * below[:, -1:]).sum(1))
            images[:, :, y, x] = torch.stack(drawn, 1).to(torch.uint8)
    return images


# ---- drawing ----

CASES: list[tuple[tuple[int, ...], int, str | Call, Callable[[int], Call]]] = [
    (GREY, 256, "signed", signed),
    (COLOUR, 256, "signed", signed),
    (GREY, 17, "unit", lambda levels: lambda images: images.float() / (levels - 1)),
    (COLOUR, 17, lambda images: images.float() - 5, lambda levels: lambda images: images.float() - 5),
    (COLOUR, 2, "signed", signed),
]


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case[0]}-{case[1]}")
def test_every_engine_draws_what_the_loop_draws(case: Any, engine: str) -> None:
    shape, levels, encode, encoded = case
    module = network(shape[0])
    expected = pixel_loop(lambda images: module(encoded(levels)(images)), shape, levels)
    sampler = genfast.accelerate(module, shape, "logistic_mixture", levels=levels, encode=encode, engine=engine)
    assert (sampler.engine, sampler.reason, sampler.model.likelihood.components) == (engine, "", 2)
    drawn = sampler.sample(3, seed=5)
    assert torch.equal(drawn, expected)
    assert torch.equal(torch.stack(list(sampler.stream(3, seed=5)), 2), drawn)
    with torch.no_grad():
        numbers = module(encoded(levels)(drawn)).double()
    nats = torch.zeros(3, dtype=torch.float64)
    for y in range(shape[1]):
        for x in range(shape[2]):
            colours = [drawn[:, c, y, x].long() for c in range(shape[0])]
            for c in range(shape[0]):
                weights = level_weights(numbers[:, :, y, x], colours[:c], levels, 2)
                nats += (weights / weights.sum(1, keepdim=True)).log()[torch.arange(3), colours[c]]
    torch.testing.assert_close(sampler.log_prob(drawn), nats, rtol=1e-5, atol=1e-4)
    if engine in ("cpu", "eager"):
        assert not sampler.program.notes
        torch.testing.assert_close(sampler.last_log_prob, nats, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("shape", [GREY, COLOUR])
def test_options_and_completion(shape: tuple[int, ...]) -> None:
    """Temperature is that of every logistic, top_k and top_p cut levels: as for a PixelCNN++ of ours."""
    module = network(shape[0])
    samplers = [
        genfast.accelerate(module, shape, "logistic_mixture", encode="signed", engine=e)
        for e in ("naive", "eager", "cpu")
    ]
    images, known = random_levels(shape, 256, 3, 1), torch.rand(3, 1, *shape[1:]) < 0.5
    plain = samplers[0].sample(3, seed=5)
    for options in ({"temperature": 0.5}, {"temperature": 0.0}, {"top_k": 9}, {"top_p": 0.5, "temperature": 2.0}):
        first, *others = [s.sample(3, seed=5, **options) for s in samplers]  # type: ignore[arg-type]
        assert not torch.equal(first, plain)
        assert all(torch.equal(other, first) for other in others)
    first, *others = [s.complete(images, known, seed=5) for s in samplers]
    assert all(torch.equal(other, first) for other in others)
    assert torch.equal(first.where(known, 0), images.where(known, 0))


def test_the_cpu_engine_needs_no_python(monkeypatch: pytest.MonkeyPatch) -> None:
    """It draws by itself, and the same images, to the bit, whatever the batch and the threads."""
    sampler = genfast.accelerate(network(3), COLOUR, "logistic_mixture", encode="signed", threads=1)
    expected = sampler.sample(5, seed=5)
    nats = sampler.last_log_prob
    assert nats is not None

    def refuse(*arguments: object) -> None:
        raise AssertionError("Python was asked to draw")

    monkeypatch.setattr(LogisticMixture, "draw", refuse)
    monkeypatch.setattr(LogisticMixture, "draw_pixels", refuse)
    for threads, batch in ((1, 2), (2, 5), (7, 1)):
        other = genfast.accelerate(network(3), COLOUR, "logistic_mixture", encode="signed", threads=threads)
        assert other.engine == "cpu"
        assert torch.equal(other.sample(5, seed=5, batch_size=batch), expected)
        assert other.last_log_prob is not None
        assert torch.equal(other.last_log_prob, nats)


def test_parameters_in_float64() -> None:
    """The module's own numbers to 1e-12, and beside them what the earlier colours say."""
    module = network(3).double()
    sampler = genfast.accelerate(module, COLOUR, "logistic_mixture", encode="signed", engine="eager")
    images = random_levels(COLOUR, 256, 3, 0)
    with torch.no_grad():
        expected = LogisticMixture(3, 256, 2).unpack(module(images.double() * (2 / 255) - 1), images)
    params = sampler.logits(images)
    assert params.shape == (3, 9, 2, *COLOUR)
    torch.testing.assert_close(params, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("engine", ["cpu", "eager", "naive"])
def test_a_likelihood_object_keeps_what_it_says(engine: str) -> None:
    """The number of components, and the least log-scale."""
    module = network(1, out=9)
    mixture = LogisticMixture(1, 256, components=3, min_log_scale=0.5)
    sampler = genfast.accelerate(module, GREY, mixture, encode="signed", engine=engine)
    assert sampler.model.likelihood == mixture
    raised = genfast.accelerate(module, GREY, "logistic_mixture", encode="signed", engine=engine)
    assert raised.model.likelihood == LogisticMixture(1, 256, components=3)
    assert not torch.equal(raised.sample(3, seed=5), sampler.sample(3, seed=5))
    images = sampler.sample(3, seed=5)
    with torch.no_grad():
        nats = mixture.log_prob_pixels(module(signed(256)(images)), images).flatten(1).sum(1)
    torch.testing.assert_close(sampler.log_prob(images), nats.double(), rtol=1e-5, atol=1e-4)


def test_conditions_and_other_orders() -> None:
    class Labelled(nn.Module):
        """From the last column to the first, and a label."""

        def __init__(self) -> None:
            super().__init__()
            self.network, self.label = network(3), nn.Embedding(4, 20)

        def forward(self, x: Tensor, label: Tensor) -> Tensor:
            out = self.network(x.transpose(2, 3).flip(2)).flip(2).transpose(2, 3)
            return out + self.label(label)[:, :, None, None]

    module, labels = Labelled().eval(), torch.tensor([2, 0, 3])
    samplers = [
        genfast.accelerate(module, COLOUR, "logistic_mixture", encode="signed", condition=labels[:1], engine=engine)
        for engine in ENGINES
    ]
    assert not any(sampler.order.is_raster for sampler in samplers)

    def call(levels: Tensor) -> Tensor:  # the loop goes row by row, so it sees the image turned
        turned = levels.flip(2).transpose(2, 3)
        return module(signed(256)(turned), labels).transpose(2, 3).flip(2)

    uniforms = noise.uniforms
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(noise, "uniforms", lambda s, f, n, shape: uniforms(s, f, n, COLOUR).transpose(2, 3).flip(2))
        expected = pixel_loop(call, (3, 4, 3)).flip(2).transpose(2, 3)
    for sampler in samplers:
        assert torch.equal(sampler.sample(3, seed=5, condition=labels), expected)
    with torch.no_grad():
        out = module(signed(256)(expected), labels)
    nats = LogisticMixture(3, 256, 2).log_prob_pixels(out, expected).flatten(1).sum(1).double()
    torch.testing.assert_close(samplers[0].log_prob(expected, labels), nats, rtol=1e-5, atol=1e-4)


# ---- outputs ----

PUBLISHED: dict[str, Callable[[Tensor], Any]] = {
    "[B, N, H, W]": lambda out: out,
    "[B, H, W, N]": lambda out: out.permute(0, 2, 3, 1),
    "[B, H W, N]": lambda out: out.flatten(2).transpose(1, 2),
    "flat": lambda out: out.flatten(1),
    "a dictionary with a loss": lambda out: {"loss": out.mean(), "out": out},
}


@pytest.mark.parametrize("shape", [GREY, COLOUR])
@pytest.mark.parametrize("name", PUBLISHED)
def test_layouts_are_found(name: str, shape: tuple[int, ...]) -> None:
    module = network(shape[0], components=3)
    expected = pixel_loop(lambda images: module(signed(256)(images)), shape, components=3)
    sampler = genfast.accelerate(Arranged(module, PUBLISHED[name]).eval(), shape, "logistic_mixture", encode="signed")
    assert (sampler.engine, sampler.model.likelihood.components) == ("cpu", 3)
    assert torch.equal(sampler.sample(3, seed=5), expected)


def colours_inside(out: Tensor) -> Tensor:
    """K logits, then for each number of a component its three colours."""
    rest = out[:, 6:].unflatten(1, (3, 3, 6)).permute(0, 2, 3, 1, 4, 5)
    return torch.cat([out[:, :6], rest.flatten(1, 3)], 1)


def apart(out: Tensor) -> tuple[Tensor, ...]:
    """Logits [B, K, H, W]; means, log-scales and coefficients [B, 3, K, H, W]."""
    return (out[:, :6], *out[:, 6:].unflatten(1, (3, 3, 6)).unbind(2))


def unused(out: Tensor) -> Tensor:
    """One-channel images with coefficients that nothing uses."""
    return torch.cat([out, torch.ones_like(out[:, :6])], 1)


PICKED: list[tuple[tuple[int, ...], Callable[[Tensor], Any], Callable[..., Tensor]]] = [
    (COLOUR, colours_inside, lambda out, y, x: torch.cat(
        [out[:, :6, y, x], out[:, 6:, y, x].unflatten(1, (3, 6, 3)).permute(0, 3, 1, 2).flatten(1)], 1)),
    (COLOUR, apart, lambda out, y, x: torch.cat(
        [out[0][:, :, y, x], torch.stack(out[1:], 2)[..., y, x].flatten(1)], 1)),
    (GREY, unused, lambda out, y, x: out[:, :18, y, x]),
]  # fmt: skip


@pytest.mark.parametrize(("shape", "arrange", "pick"), PICKED, ids=lambda part: getattr(part, "__name__", str(part)))
def test_other_layouts_by_pick(shape: tuple[int, ...], arrange: Callable[[Tensor], Any], pick: Any) -> None:
    module = network(shape[0], components=6)
    expected = pixel_loop(lambda images: module(signed(256)(images)), shape, components=6)
    for engine in ("cpu", "eager", "naive"):
        sampler = genfast.accelerate(
            Arranged(module, arrange).eval(), shape, "logistic_mixture", encode="signed", pick=pick, engine=engine
        )
        assert torch.equal(sampler.sample(3, seed=5), expected)


# ---- refusals ----


class Sudden(nn.Module):
    """Adds a little to one of its numbers where Python sees that a pixel is bright."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.network, self.number = network(3), number

    def forward(self, x: Tensor) -> Tensor:
        out = self.network(x)
        if float(x[0, 0, 0, 0]) > 0:
            out = torch.cat([out[:, : self.number], out[:, self.number, None] + 1e-3, out[:, self.number + 1 :]], 1)
        return out


@pytest.mark.parametrize("number", [0, 2, 4, 8, 10], ids=["logit", "mean", "log-scale", "of green", "scale of green"])
def test_the_self_check_is_as_fine_as_for_other_likelihoods(number: int) -> None:
    """1e-3 is seen, though the levels beside these numbers go up to 255."""
    with pytest.raises(NotSupported, match=r"does not reproduce .* difference 0.001 for outputs up to \d\."):
        genfast.accelerate(Sudden(number).eval(), COLOUR, "logistic_mixture", encode="signed", engine="cpu")


REFUSED: list[tuple[nn.Module, tuple[int, ...], dict[str, Any], str]] = [
    (network(3, out=12), COLOUR, {}, r"output \[2, 12, 3, 4\] is not 10 K x 3 x 4 .* pass pick=lambda out, y, x:"),
    (network(1, out=4), GREY, {}, r"is not 3 K x 4 x 5 numbers"),
    (network(3), COLOUR, {"likelihood": LogisticMixture(3, 256, 3)}, r"is not 30 x 3 x 4 numbers"),
    (network(3), COLOUR, {"pick": lambda out, y, x: out[:, :15, y, x]}, "gives 15 numbers for a pixel, .* takes 10 K"),
    (network(3), COLOUR, {"pick": lambda out, y, x, c: out[:, :, y, x]}, r"pick\(out, y, x\) fails .* TypeError"),
    (network(2, out=20), (2, 3, 4), {}, "for images of 1 or 3 channels, not 2"),
    (network(1), GREY, {"levels": 257}, "2 to 256 levels, not 257"),
    (Arranged(network(1), lambda out: (out, out * 2)).eval(), GREY, {}, "in several of its tensors.* by pick="),
]  # fmt: skip


@pytest.mark.parametrize(("module", "shape", "arguments", "sentence"), REFUSED, ids=lambda part: str(part)[:30])
def test_refusals(module: nn.Module, shape: tuple[int, ...], arguments: dict[str, Any], sentence: str) -> None:
    with pytest.raises(GenfastError, match=sentence) as error:
        genfast.accelerate(module, shape, **{"likelihood": "logistic_mixture", "encode": "signed"} | arguments)
    assert str(error.value).count("\n") == 0


def test_a_mixture_that_reads_its_own_pixel_is_refused() -> None:
    """The colours of a pixel share its numbers: none may read red."""
    torch.manual_seed(0)
    leaky = randomise(nn.Sequential(DataMask("A", 3, 8, 3, padding=1), nn.Tanh(), nn.Conv2d(8, 20, 1))).eval()
    with torch.no_grad():
        leaky[0].mask[:, 0, 1, 1] = 1  # red of the pixel itself
    for engine in ("cpu", "jacobi"):
        with pytest.raises(NotCausal, match="channel R"):
            genfast.accelerate(leaky, COLOUR, "logistic_mixture", encode="signed", engine=engine)
    assert not genfast.check_causality(leaky, COLOUR, "logistic_mixture", encode="signed").ok
    assert genfast.check_causality(network(3), COLOUR, "logistic_mixture", encode="signed").ok
