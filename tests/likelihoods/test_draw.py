"""Drawing: frequencies, edges, truncation, and what is refused."""

import math

import pytest
import torch

from genfast.errors import GenfastError
from genfast.likelihoods import Bernoulli, Categorical, draw, draw_levels


def grid_uniforms(n: int) -> torch.Tensor:
    """n evenly spread uniforms: frequencies then equal probabilities up to 1/n, with no luck involved."""
    return (torch.arange(n, dtype=torch.float64) + 0.5) / n


def frequencies(logits: torch.Tensor, n: int = 20000, **options: object) -> torch.Tensor:
    levels = draw_levels(logits.expand(n, -1), grid_uniforms(n), **options)  # type: ignore[arg-type]
    return torch.bincount(levels, minlength=logits.numel()).double() / n


@pytest.mark.parametrize("levels", [2, 3, 7, 256])
@pytest.mark.parametrize("temperature", [1.0, 0.3, 5.0])
def test_frequencies_equal_probabilities(levels: int, temperature: float) -> None:
    logits = torch.randn(levels, generator=torch.Generator().manual_seed(levels)) * 2
    expected = (logits.double() / temperature).softmax(0)
    assert (frequencies(logits, temperature=temperature) - expected).abs().max() < 1.01 / 20000


def test_frequencies_with_random_uniforms() -> None:
    n, levels = 100_000, 10
    generator = torch.Generator().manual_seed(3)
    logits = torch.randn(levels, generator=generator)
    counts = torch.bincount(
        draw_levels(logits.expand(n, -1), torch.rand(n, dtype=torch.float64, generator=generator)), minlength=levels
    )
    expected = n * logits.double().softmax(0)
    assert float(((counts - expected) ** 2 / expected).sum()) < 27.9  # chi-square, 9 degrees of freedom, p = 0.001


def test_inverse_distribution_function_is_exact_at_its_edges() -> None:
    logits = torch.zeros(4)  # quarters: F = 1/4, 1/2, 3/4, 1, all exact
    below, almost_one = math.nextafter(0.25, 0.0), math.nextafter(1.0, 0.0)
    u = torch.tensor([0.0, 2.0**-33, below, 0.25, 0.5, 0.75, 1 - 2.0**-33, almost_one], dtype=torch.float64)
    assert draw_levels(logits.expand(8, -1), u).tolist() == [0, 0, 0, 1, 2, 3, 3, 3]


def test_levels_without_probability_are_never_drawn() -> None:
    inf = math.inf
    logits = torch.tensor([[-inf, 0.0, -inf, 0.0, -inf], [-2000.0, 0.0, -2000.0, 0.0, -2000.0]])
    u = torch.tensor([0.0, 0.49, 0.5, math.nextafter(1.0, 0.0)], dtype=torch.float64)
    for row in logits:
        assert draw_levels(row.expand(4, -1), u).tolist() == [1, 1, 3, 3]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_greedy_choices_agree(dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(50, 9, 3, generator=generator).to(dtype)
    logits[:10] = 0  # every level ties
    logits[10:20, 4:7] = 30  # three tie for the first place
    logits[20:30] *= 1e-25  # differ, but their weights all round to 1
    u = torch.rand(50, 3, dtype=torch.float64, generator=generator)
    greedy = draw_levels(logits, u, temperature=0)
    assert torch.equal(greedy, logits.argmax(1))
    assert (greedy[:10] == 0).all()
    assert (greedy[10:20] == 4).all()
    assert torch.equal(draw_levels(logits, u, top_k=1), greedy)
    assert torch.equal(draw_levels(logits, u, top_p=1e-12), greedy)
    assert torch.equal(draw_levels(logits[30:], u[30:], temperature=1e-300), greedy[30:])


def test_truncation_keeps_and_renormalises() -> None:
    p = torch.tensor([0.1, 0.4, 0.2, 0.25, 0.05], dtype=torch.float64)

    def close(expected: list[float], **options: object) -> bool:
        e = torch.tensor(expected, dtype=torch.float64)
        return bool((frequencies(p.log(), **options) - e / e.sum()).abs().max() < 1e-4)

    assert close([0, 0.4, 0, 0.25, 0], top_k=2)
    assert close([0, 0.4, 0.2, 0.25, 0], top_k=3)
    assert close([0.1, 0.4, 0.2, 0.25, 0.05], top_k=5)
    assert close([0.1, 0.4, 0.2, 0.25, 0.05], top_k=500, top_p=1.0)
    assert close([0, 0.4, 0, 0, 0], top_p=0.39)
    assert close([0, 0.4, 0, 0.25, 0], top_p=0.41)  # the level that crosses top_p is kept
    assert close([0, 0.4, 0.2, 0.25, 0], top_p=0.8)
    assert close([0, 0.4, 0, 0.25, 0], top_k=2, top_p=0.8)
    assert close([0, 0.4, 0, 0, 0], top_k=2, top_p=0.3)
    assert close([0, 0.4, 0, 0, 0], temperature=0.1, top_p=0.9)  # measured after tempering
    assert close([0, 0.4**0.5, 0.2**0.5, 0.25**0.5, 0], temperature=2.0, top_k=3)


def test_truncation_breaks_ties_towards_lower_levels() -> None:
    logits = torch.tensor([0.0, 1.0, 1.0, 1.0, 0.0])
    assert torch.equal(frequencies(logits, top_k=2) > 0, torch.tensor([False, True, True, False, False]))
    assert torch.equal(frequencies(torch.zeros(4), top_p=0.5) > 0, torch.tensor([True, True, False, False]))


@pytest.mark.parametrize(
    "options", [{}, {"temperature": 0}, {"top_k": 3}, {"top_p": 0.7}, {"temperature": 2.0, "top_k": 5}]
)
def test_elementwise_in_any_shape_and_any_slice(options: dict[str, float], monkeypatch: pytest.MonkeyPatch) -> None:
    generator = torch.Generator().manual_seed(1)
    logits = torch.randn(5, 6, 3, 2, 7, generator=generator)
    u = torch.rand(5, 3, 2, 7, dtype=torch.float64, generator=generator)
    whole = draw_levels(logits, u, **options)  # type: ignore[arg-type]
    assert whole.shape == u.shape
    assert whole.dtype == torch.int64
    for c, y, x in [(0, 0, 0), (2, 1, 6), (1, 0, 3)]:
        one = draw_levels(logits[..., c, y, x], u[..., c, y, x], **options)  # type: ignore[arg-type]
        assert torch.equal(one, whole[..., c, y, x])
    monkeypatch.setattr(draw, "SLICE", 1)
    assert torch.equal(draw_levels(logits, u, **options), whole)  # type: ignore[arg-type]


def test_nothing_to_draw() -> None:
    assert draw_levels(torch.zeros(0, 4, 2), torch.zeros(0, 2, dtype=torch.float64)).shape == (0, 2)


def test_bernoulli_is_the_categorical_of_two_levels() -> None:
    generator = torch.Generator().manual_seed(2)
    logits = torch.randn(4, 1, 5, 3, generator=generator) * 3
    pair = torch.stack([torch.zeros_like(logits), logits], dim=1)
    u = torch.rand(4, 1, 5, 3, dtype=torch.float64, generator=generator)
    u[0] = torch.sigmoid(-logits[0].double())  # exactly at the step
    for options in ({}, {"temperature": 0}, {"temperature": 0.5}, {"top_k": 1}, {"top_p": 0.6}):
        ours = Bernoulli(1).draw(logits, u, **options)  # type: ignore[arg-type]
        assert torch.equal(ours, Categorical(1, 2).draw(pair, u, **options))  # type: ignore[arg-type]
    images = torch.randint(0, 2, (4, 1, 5, 3), generator=generator)
    torch.testing.assert_close(Bernoulli(1).log_prob(logits, images), Categorical(1, 2).log_prob(pair, images))


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"temperature": -0.1}, "temperature must be"),
        ({"temperature": math.nan}, "temperature must be"),
        ({"temperature": math.inf}, "temperature must be"),
        ({"top_k": 0}, "top_k must be"),
        ({"top_k": 2.5}, "top_k must be"),
        ({"top_p": 0.0}, "top_p must be"),
        ({"top_p": 1.5}, "top_p must be"),
        ({"top_p": math.nan}, "top_p must be"),
    ],
)
def test_options_without_meaning(options: dict[str, float], sentence: str) -> None:
    with pytest.raises(GenfastError, match=sentence):
        draw_levels(torch.zeros(1, 3), torch.full((1,), 0.5, dtype=torch.float64), **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("bad", [[0.0, math.nan, 1.0], [0.0, math.inf, 1.0], [-math.inf] * 3])
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_logits_that_are_no_distribution(bad: list[float], temperature: float) -> None:
    logits = torch.tensor([[0.0, 1.0, 2.0], bad])
    with pytest.raises(GenfastError, match="not a distribution"):
        draw_levels(logits, torch.full((2,), 0.5, dtype=torch.float64), temperature)


@pytest.mark.parametrize("u", [-0.1, 1.0, math.nan])
def test_uniforms_outside(u: float) -> None:
    with pytest.raises(GenfastError, match="Uniforms must lie"):
        draw_levels(torch.zeros(1, 3), torch.tensor([u], dtype=torch.float64))


def test_uniforms_of_another_shape() -> None:
    with pytest.raises(GenfastError, match=r"want uniforms \[2, 5\], not \[2\]"):
        draw_levels(torch.zeros(2, 3, 5), torch.zeros(2, dtype=torch.float64))
