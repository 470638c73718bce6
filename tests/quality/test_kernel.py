import math

import numpy as np
import pytest
import torch

from genfast.errors import GenfastError
from genfast.quality import kernel_distance
from genfast.quality.kernel import squared_mmd


def normal(seed: int, n: int, dim: int = 4, shift: float = 0.0) -> np.ndarray:
    return np.random.RandomState(seed).standard_normal((n, dim)) + shift


def test_the_formula_term_by_term():
    x, y = normal(0, 5), normal(1, 7, shift=0.5)

    def k(a, b):
        return (float(a @ b) / 4 + 1) ** 3

    among = [
        sum(k(a, b) for i, a in enumerate(s) for j, b in enumerate(s) if i != j) / (len(s) * (len(s) - 1))
        for s in (x, y)
    ]
    across = sum(k(a, b) for a in x for b in y) / (len(x) * len(y))
    mine = squared_mmd(torch.from_numpy(x), torch.from_numpy(y))
    assert mine == pytest.approx(sum(among) - 2 * across, rel=1e-12)


def test_no_bias():
    """Equal distributions: the estimates scatter around 0. The biased estimate would be off by many standard errors."""
    values = np.array(
        [squared_mmd(torch.from_numpy(normal(2 * i, 30)), torch.from_numpy(normal(2 * i + 1, 30))) for i in range(400)]
    )
    error = values.std() / 20
    assert abs(values.mean()) < 3 * error
    assert (values < 0).mean() > 0.3
    diagonal = 2 * np.mean([(x @ x / 4 + 1) ** 3 for x in normal(0, 1000)]) / 30  # what the bias is made of
    assert diagonal > 10 * error


def test_known_distance():
    """One-dimensional Gaussians of unit variance and means 0 and m: E k(x, y) is a polynomial in their moments."""
    m, n = 1.5, 4000
    found = kernel_distance(normal(0, n, 1, m), normal(1, n, 1), subsets=50)

    def expected(a, b):  # E (x y + 1)^3 with E x = a, E y = b: moments a, 1 + a^2, a^3 + 3 a
        return (a**3 + 3 * a) * (b**3 + 3 * b) + 3 * (1 + a * a) * (1 + b * b) + 3 * a * b + 1

    truth = expected(m, m) + expected(0, 0) - 2 * expected(m, 0)
    assert abs(found.value - truth) < 3 * found.standard_error
    assert found.standard_error < 0.1 * truth


@pytest.mark.parametrize(("shift", "low", "high"), [(0.7, 0.75, 1.4), (0.0, 1.0, 4.0)])
def test_the_standard_error_is_that_of_new_samples(shift, low, high):
    """Against the deviation over independent samples; where the distributions are equal it may only be too large."""
    found = [kernel_distance(normal(2 * i, 120, shift=shift), normal(2 * i + 1, 120), 40) for i in range(120)]
    truth = np.std([one.value for one in found])
    said = math.sqrt(np.mean([one.standard_error**2 for one in found]))
    assert low < said / truth < high


def test_a_subset_of_everything_has_no_standard_error():
    found = kernel_distance(normal(0, 10), normal(1, 10), subsets=3, subset_size=10)
    assert math.isnan(found.standard_error)
    assert found.spread == pytest.approx(0, abs=1e-12)


def test_seeds():
    x, y = normal(0, 50), normal(1, 50)
    assert kernel_distance(x, y, seed=1) == kernel_distance(x, y, seed=1)
    assert kernel_distance(x, y, seed=1) != kernel_distance(x, y, seed=2)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"subset_size": 51}, "subsets"), ({"subset_size": 1}, "subsets"), ({"subsets": 1}, "subsets"),
        ({"seed": -1}, "seed"), ({"seed": 2**32}, "seed"),
    ],
)  # fmt: skip
def test_what_cannot_be_measured(options, words):
    with pytest.raises(GenfastError, match=words):
        kernel_distance(normal(0, 50), normal(1, 60), **options)
    with pytest.raises(GenfastError, match="at least 4"):
        kernel_distance(normal(0, 3), normal(1, 60))
