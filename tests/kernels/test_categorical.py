"""kernels/categorical in the instruction set in use, against genfast.likelihoods.draw."""

from typing import Any

import numpy as np
import pytest
import torch

from genfast.kernels.categorical.reference import log_prob
from genfast.likelihoods.draw import draw_levels

_C = pytest.importorskip("genfast._C")


def draw(logits: np.ndarray, uniforms: np.ndarray, **options: Any) -> tuple[np.ndarray, np.ndarray | None]:
    levels = np.full(len(logits), 99, np.int32)
    nats = _C.categorical(logits, levels, np.zeros(len(logits), np.uint8), uniforms, **options)
    return levels, nats


def cases(levels: int, rows: int = 400) -> tuple[np.ndarray, np.ndarray]:
    """Peaked and flat rows, ties, levels of probability zero, and uniforms at both ends."""
    rng = np.random.default_rng(levels)
    logits = (rng.standard_normal((rows, levels)) * 10.0 ** rng.uniform(-2, 2, (rows, 1))).astype(np.float32)
    logits[::7] = np.round(logits[::7])
    logits[1::11, rng.integers(levels)] = -np.inf
    logits[:, -1] = np.where(np.isinf(logits).all(1), 0, logits[:, -1])
    uniforms = rng.random(rows)
    uniforms[:4] = [0, 2.0**-33, 1 - 2.0**-33, np.nextafter(1, 0)]
    return logits, uniforms


@pytest.mark.parametrize("levels", [1, 2, 3, 4, 5, 8, 9, 17, 43, 255, 256])
@pytest.mark.parametrize(
    "options",
    [{}, {"temperature": 0.7}, {"temperature": 3.0}, {"temperature": 0.0}, {"top_k": 1}, {"top_k": 3}, {"top_k": 999},
     {"top_p": 0.5}, {"top_p": 1e-9}, {"top_p": 0.999}, {"top_k": 4, "top_p": 0.8, "temperature": 1.3}],
    ids=str,
)  # fmt: skip
def test_draws_what_draw_levels_draws(levels: int, options: dict[str, Any]) -> None:
    logits, uniforms = cases(levels)
    expected = draw_levels(torch.from_numpy(logits), torch.from_numpy(uniforms), **options).numpy()
    got, nats = draw(logits, uniforms, **options)
    assert np.array_equal(got, expected)
    exact = log_prob(torch.from_numpy(logits), torch.from_numpy(expected)).numpy()
    np.testing.assert_allclose(nats, exact, rtol=1e-13, atol=1e-13)


def test_a_known_level_has_the_log_probability_of_a_drawn_one_to_the_bit() -> None:
    logits, uniforms = cases(43)
    levels, nats = draw(logits, uniforms, temperature=0.8, top_k=5)
    known = np.ones(len(levels), np.uint8)
    again = _C.categorical(logits, levels, known, uniforms)
    assert again.tobytes() == nats.tobytes()
    one = _C.categorical(logits[7:8].copy(), levels[7:8].copy(), known[:1], uniforms[:1])
    assert one[0] == nats[7]


def test_known_levels_are_kept() -> None:
    logits, uniforms = cases(5)
    levels = np.full(len(logits), 4, np.int32)
    known = np.arange(len(logits), dtype=np.uint8) % 2
    _C.categorical(logits, levels, known, uniforms)
    assert (levels[known == 1] == 4).all()
    assert (levels[known == 0] != 4).any()


def test_bernoulli_is_two_levels_of_which_one_has_logit_zero() -> None:
    rng = np.random.default_rng(0)
    logit = (10 * rng.standard_normal((300, 1))).astype(np.float32)
    uniforms = rng.random(300)
    pair = np.concatenate([np.zeros_like(logit), logit], 1)
    for options in ({}, {"temperature": 0.5}, {"temperature": 0.0}, {"top_p": 0.6}):
        levels, nats = draw(logit, uniforms, bernoulli=True, **options)
        expected, exact = draw(pair, uniforms, **options)
        assert np.array_equal(levels, expected)
        assert nats is not None
        assert np.array_equal(nats, exact)


@pytest.mark.parametrize("wrong", [[0, np.nan, 1], [np.inf, 0, 0], [-np.inf] * 3], ids=str)
def test_what_is_no_distribution_is_refused(wrong: list[float]) -> None:
    logits = np.zeros((9, 3), np.float32)
    logits[5] = wrong
    for temperature in (0.0, 1.0):
        assert draw(logits, np.full(9, 0.5), temperature=temperature)[1] is None


def test_logits_far_apart() -> None:
    logits = np.array([[3e38, -3e38, 0], [-3e38, -3e38, -3e38], [0, 800, -800]], np.float32)
    levels, nats = draw(logits, np.full(3, 0.9))
    assert levels.tolist() == [0, 2, 1]
    np.testing.assert_allclose(nats, [0, -np.log(3), 0], atol=1e-15)
