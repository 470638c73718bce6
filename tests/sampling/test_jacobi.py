"""Jacobi against naive, pixel for pixel; its bound; and what it does when a model looks ahead or rounds."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from genfast.errors import GenfastError
from genfast.likelihoods import Bernoulli, Categorical
from genfast.sampling import jacobi, naive
from genfast.sampling.noise import uniforms
from genfast.sampling.task import Stats

MODELS = {
    "binary": ((1, 6, 5), 2, "bernoulli"),
    "two levels": ((1, 5, 6), 2, "categorical"),
    "gray": ((1, 4, 5), 256, "categorical"),
    "rgb": ((3, 4, 3), 7, "categorical"),
    "rgb bits": ((3, 3, 4), 2, "bernoulli"),
    "one column": ((1, 7, 1), 4, "categorical"),
    "one row": ((3, 1, 5), 4, "categorical"),
    "one pixel": ((1, 1, 1), 3, "categorical"),
    "one rgb pixel": ((3, 1, 1), 256, "categorical"),
}
OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "seeded": {"seed": 2**63, "first": 2**40},
    "greedy": {"temperature": 0},
    "truncated": {"temperature": 1.5, "top_k": 3, "top_p": 0.8},
    "labels": {"condition": torch.tensor([3, 0, 1, 1, 4])},
    "vectors": {"condition": torch.linspace(-2, 2, 20).view(5, 4)},
}


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
@pytest.mark.parametrize("model_arguments", MODELS.values(), ids=MODELS)
def test_samples_equal_the_naive_loop(tiny: Callable[..., Any], model_arguments: Any, options: dict[str, Any]) -> None:
    model = tiny(*model_arguments)
    stats = Stats()
    images = jacobi.sample(model, 5, stats=stats, **options)
    assert torch.equal(images, naive.sample(model, 5, **options))
    c, h, w = model.image_shape
    assert 1 <= stats.passes <= c * h * w + 1
    assert stats.images == 5
    assert images.dtype == torch.uint8
    assert not images.is_inference()


@pytest.mark.parametrize("model_arguments", MODELS.values(), ids=MODELS)
@pytest.mark.parametrize("density", [0.0, 0.3, 0.8, 1.0])
def test_completions_equal_the_naive_loop(tiny: Callable[..., Any], model_arguments: Any, density: float) -> None:
    model = tiny(*model_arguments)
    c, h, w = model.image_shape
    generator = torch.Generator().manual_seed(1)
    images = torch.randint(0, model.levels, (4, c, h, w), generator=generator)
    known = torch.rand(4, 1, h, w, generator=generator) < density
    known[2] = True
    for mask in (known, known[0, 0]):
        ours, definition = [], []
        out = jacobi.complete(model, images, mask, seed=9, on_row=ours.append)
        assert torch.equal(out, naive.complete(model, images, mask, seed=9, on_row=definition.append))
        assert torch.equal(out.where(mask, 0), images.where(mask, 0).to(torch.uint8))
        assert len(ours) == len(definition) == h
        assert all(torch.equal(a, b) for a, b in zip(ours, definition, strict=True))


def test_finished_images_leave_the_batch(rgb: Any) -> None:
    known = torch.zeros(3, 1, 3, 4, dtype=torch.bool)
    known[0] = True  # never enters
    known[1, 0].view(-1)[:-1] = True  # only its last pixel is drawn: three sub-pixels, so at most four passes
    stats = Stats()
    jacobi.complete(rgb, torch.ones(3, 3, 3, 4, dtype=torch.uint8), known, stats=stats)
    assert rgb.seen[0] == 2
    assert rgb.seen[-1] == 1
    assert rgb.seen == sorted(rgb.seen, reverse=True)
    assert rgb.seen.count(2) <= 4
    assert (stats.passes, stats.image_passes) == (len(rgb.seen), sum(rgb.seen))
    rgb.seen.clear()
    jacobi.complete(rgb, torch.ones(3, 3, 3, 4, dtype=torch.uint8), torch.ones(3, 4, dtype=torch.bool))
    assert rgb.seen == []


def test_it_takes_fewer_passes_than_the_loop(tiny: Callable[..., Any]) -> None:
    stats = Stats()
    jacobi.sample(tiny((1, 16, 16), 2, "bernoulli"), 2, stats=stats)
    assert stats.passes < 16 * 16 / 4


class Chain(nn.Module):
    """The slowest causal model there is: each pixel is 1 minus the one before, so a pass settles a single one."""

    def __init__(self, image_shape: tuple[int, int, int]) -> None:
        super().__init__()
        self.image_shape, self.levels = image_shape, 2
        self.likelihood = Bernoulli(image_shape[0])

    def forward(self, images: Tensor, condition: Tensor | None = None) -> Tensor:
        flat = images.permute(0, 2, 3, 1).flatten(1).float()
        before = torch.cat([torch.zeros_like(flat[:, :1]), flat[:, :-1]], dim=1)
        c, h, w = self.image_shape
        return (100 * (1 - 2 * before)).unflatten(1, (h, w, c)).permute(0, 3, 1, 2)


@pytest.mark.parametrize("shape", [(1, 3, 5), (3, 2, 2), (1, 1, 1)])
def test_the_bound_is_reached_and_not_passed(shape: tuple[int, int, int]) -> None:
    stats = Stats()
    images = jacobi.sample(Chain(shape), 2, stats=stats)
    size = images[0].numel()
    order = images.permute(0, 2, 3, 1).flatten(1)
    assert torch.equal(order, (1 - torch.arange(size) % 2).to(torch.uint8).expand(2, -1))
    assert size <= stats.passes <= size + 1


class Ahead(nn.Module):
    """Pixel p reads one pixel at a given distance after itself (0: itself), in raster order."""

    def __init__(self, distance: int, strength: float = 8.0) -> None:
        super().__init__()
        self.image_shape, self.levels, self.likelihood = (1, 4, 4), 3, Categorical(1, 3)
        self.distance, self.strength = distance, strength

    def forward(self, images: Tensor, condition: Tensor | None = None) -> Tensor:
        seen = images.roll(-self.distance, 3).flatten(0, 1).long() if self.distance else images.flatten(0, 1).long()
        other = nn.functional.one_hot((seen + 1) % 3, 3).movedim(-1, 1)  # [B, levels, H, W]: never what it sees
        return self.strength * other[:, :, None].float()


@pytest.mark.parametrize("distance", [0, 1, 2])
def test_a_model_that_looks_ahead_is_refused(distance: int) -> None:
    model = Ahead(distance)
    with pytest.raises(GenfastError, match=r"not causal .* channel 0 at y = \d, x = \d"):
        jacobi.sample(model, 3)
    assert not torch.is_inference_mode_enabled()


class Noisy(nn.Module):
    """A causal model whose every pass rounds differently, with each uniform on the very edge between the two levels."""

    def __init__(self, amplitude: float) -> None:
        super().__init__()
        self.image_shape, self.levels, self.likelihood = (1, 5, 5), 2, Bernoulli(1)
        self.edge = torch.logit(1 - uniforms(0, 0, 3, self.image_shape)).float()  # P(0) = u
        self.amplitude = amplitude
        self.passes = 0

    def forward(self, images: Tensor, condition: Tensor | None = None) -> Tensor:
        self.passes += 1
        noise = torch.randn(self.edge.shape, generator=torch.Generator().manual_seed(self.passes)) * self.amplitude
        return (self.edge + noise)[: len(images)]


def test_ties_within_rounding_neither_loop_nor_raise() -> None:
    stats = Stats()
    jacobi.sample(Noisy(1e-6), 3, stats=stats)
    assert stats.passes <= 26


def test_a_model_of_chance_is_refused() -> None:
    with pytest.raises(GenfastError, match="or not deterministic"):
        jacobi.sample(Noisy(1.0), 3)


def test_errors_are_those_of_the_definition(bernoulli: Any) -> None:
    with pytest.raises(GenfastError, match="at least 1"):
        jacobi.sample(bernoulli, 0)
    with pytest.raises(GenfastError, match="temperature must be"):
        jacobi.sample(bernoulli, 1, temperature=-1)
    with pytest.raises(GenfastError, match="mask of known pixels"):
        jacobi.complete(bernoulli, torch.zeros(1, 1, 4, 5, dtype=torch.uint8), torch.zeros(4, 4, dtype=torch.bool))
    assert bernoulli.seen == []
    with torch.no_grad():
        bernoulli.last.weight[0, 0, 0, 0] = float("inf")
    with pytest.raises(GenfastError, match="not a distribution"):
        jacobi.sample(bernoulli, 1)


def test_progress(bernoulli: Any, capsys: pytest.CaptureFixture[str]) -> None:
    jacobi.sample(bernoulli, 1, progress=True)
    assert "20/20" in capsys.readouterr().err


def test_levels_without_probability_pass_the_causality_check(tiny: Callable[..., Any]) -> None:
    """Minus infinity at some levels must not hide a look-ahead, nor make one up."""
    model = Ahead(1)
    forward = model.forward
    model.likelihood, model.levels = Categorical(1, 4), 4  # type: ignore[assignment]
    bottom = torch.full((1, 1, 1, 1, 1), float("-inf"))

    def wider(images: Tensor, condition: Tensor | None = None) -> Tensor:
        params = forward(images, condition)
        return torch.cat([params, bottom.expand(len(images), 1, 1, 4, 4)], dim=1)

    model.forward = wider  # type: ignore[method-assign]
    with pytest.raises(GenfastError, match="not causal"):
        jacobi.sample(model, 3)
