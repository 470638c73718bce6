"""Precision, recall, density, coverage, nearest neighbours: against loops, and where the answer is known."""

import numpy as np
import pytest
import torch

from genfast.errors import GenfastError
from genfast.quality import density_coverage, distances, nearest, precision_recall


def normal(seed: int, n: int, dim: int = 3, shift: float = 0.0) -> np.ndarray:
    return np.random.RandomState(seed).standard_normal((n, dim)) + shift


def brute_force(generated, real, k):
    """Straight from the definitions, one pair at a time."""

    def radius(i, among):
        return sorted(np.linalg.norm(among[i] - other) for j, other in enumerate(among) if j != i)[k - 1]

    around_real = [radius(i, real) for i in range(len(real))]
    around_generated = [radius(i, generated) for i in range(len(generated))]
    inside = np.array([[np.linalg.norm(g - r) <= around_real[i] for i, r in enumerate(real)] for g in generated])
    reached = np.array([[np.linalg.norm(g - r) <= around_generated[j] for r in real] for j, g in enumerate(generated)])
    return inside.any(1).mean(), reached.any(0).mean(), inside.sum() / (k * len(generated)), inside.any(0).mean()


def measures(generated, real, k):
    both, also = precision_recall(generated, real, k), density_coverage(generated, real, k)
    return both.precision, both.recall, also.density, also.coverage


@pytest.mark.parametrize("k", [1, 3, 5])
@pytest.mark.parametrize("block", [1, 100, 2**23])
def test_against_brute_force(k, block, monkeypatch):
    monkeypatch.setattr(distances, "BLOCK", block)  # one row at a time, a few, all
    generated, real = normal(0, 37, shift=0.7), normal(1, 29)
    np.testing.assert_allclose(measures(generated, real, k), brute_force(generated, real, k), rtol=1e-12)


def test_identical_sets():
    x = normal(0, 50)
    precision, recall, density, coverage = measures(x, x.copy(), 5)
    assert (precision, recall, coverage) == (1, 1, 1)
    assert density >= 1


def test_disjoint_sets():
    assert measures(normal(0, 50), normal(1, 50, shift=100.0), 5) == (0, 0, 0, 0)


def test_equal_distributions():
    """Coverage tends to 1 - 2^-k (Naeem et al. 2020, section 3.3), density to 1."""
    found = density_coverage(normal(0, 2000), normal(1, 2000), k=3)
    assert found.coverage == pytest.approx(1 - 2**-3, abs=0.04)
    assert found.density == pytest.approx(1, abs=0.05)


def test_one_mode_of_two():
    """Generated images of one kind: all of them fine, half of the real ones missed."""
    real = np.concatenate([normal(0, 300), normal(1, 300, shift=50.0)])
    precision, recall, density, coverage = measures(normal(2, 300), real, 5)
    assert precision > 0.9
    assert 0.4 < recall <= 0.5
    assert density > 0.8
    assert 0.4 < coverage <= 0.5


def test_copies_are_at_distance_zero():
    """Vectors far from the origin, where |x|^2 + |y|^2 - 2 x.y rounds: copies must lie in balls of radius 0."""
    x = np.repeat(normal(0, 5, 64, 1000.0), 4, axis=0)  # each four times, so that the radius for k = 3 is 0
    assert measures(x, x[::-1].copy(), 3)[:2] == (1, 1)
    assert measures(x, x + 1e-2, 3)[:2] == (0, 0)
    found, which = nearest(x, x[::4])
    assert (found == 0).all()
    assert (which.numpy() == np.arange(20) // 4).all()


@pytest.mark.parametrize("block", [1, 50, 2**23])
def test_nearest_bytes(block, monkeypatch):
    monkeypatch.setattr(distances, "BLOCK", block)
    draw = np.random.RandomState(0)
    x, y = draw.randint(0, 256, (11, 12)).astype(np.uint8), draw.randint(0, 256, (23, 12)).astype(np.uint8)
    y[17] = x[3]
    squared = ((x[:, None].astype(int) - y[None].astype(int)) ** 2).sum(2)
    found, which = nearest(x, torch.from_numpy(y))
    assert (found.square().round().numpy() == squared.min(1)).all()
    assert (which.numpy() == squared.argmin(1)).all()
    assert found[3] == 0


@pytest.mark.parametrize(
    ("generated", "words"),
    [
        (np.zeros((3, 3)), "at least 4"), (np.zeros((9, 4)), "3 and of 4|4 and of 3"), (np.zeros(9), r"\[N, D\]"),
        (np.full((9, 3), np.nan), "NaN"), (np.zeros((9, 3), complex), "real numbers"), (np.zeros((9, 0)), r"\[N, D\]"),
    ],
)  # fmt: skip
def test_what_cannot_be_compared(generated, words):
    with pytest.raises(GenfastError, match=words):
        precision_recall(generated, normal(0, 20))
    with pytest.raises(GenfastError, match="k of at least 1"):
        density_coverage(normal(0, 9), normal(1, 9), k=0)
