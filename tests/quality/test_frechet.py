import numpy as np
import pytest
import torch
from scipy import linalg

from genfast.errors import GenfastError
from genfast.quality import frechet_distance, gaussian_frechet


def t(values) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


def covariance(seed: int, dim: int, rank: int | None = None) -> torch.Tensor:
    root = torch.from_numpy(np.random.RandomState(seed).standard_normal((dim, rank or dim)))
    return root @ root.T


def test_one_dimension():
    """(m1 - m2)^2 + (s1 - s2)^2."""
    assert gaussian_frechet(t([1.0]), t([[4.0]]), t([-1.0]), t([[9.0]])) == pytest.approx(4 + 1)


def test_axes():
    a, b = t([1.0, 4.0, 0.25]), t([9.0, 1.0, 0.25])
    expected = float((a.sqrt() - b.sqrt()).square().sum())
    assert gaussian_frechet(t([0.0] * 3), a.diag(), t([0.0] * 3), b.diag()) == pytest.approx(expected)


def test_covariances_that_do_not_commute():
    a, b, zero = covariance(0, 6), covariance(1, 6), torch.zeros(6, dtype=torch.float64)
    root = linalg.sqrtm((a @ b).numpy())
    expected = float(a.trace() + b.trace()) - 2 * np.trace(root).real
    assert gaussian_frechet(zero, a, zero, b) == pytest.approx(expected, rel=1e-9)
    assert gaussian_frechet(zero, b, zero, a) == pytest.approx(expected, rel=1e-9)


def test_singular_covariances():
    """Gaussians on orthogonal planes share nothing; on the same plane it is the distance within the plane."""
    a = t([4.0, 1.0, 0.0, 0.0]).diag()
    b = t([0.0, 0.0, 1.0, 1.0]).diag()
    zero = torch.zeros(4, dtype=torch.float64)
    assert gaussian_frechet(zero, a, zero, b) == pytest.approx(7)
    assert gaussian_frechet(zero, a, zero, a) == pytest.approx(0, abs=1e-12)
    low = covariance(0, 20, 3)
    assert gaussian_frechet(torch.zeros(20).double(), low, torch.zeros(20).double(), 4 * low) == pytest.approx(
        float(low.trace()), rel=1e-6
    )
    assert gaussian_frechet(zero, 0 * a, zero, 0 * a) == 0


def test_samples_of_known_gaussians():
    draw = np.random.RandomState(0)
    x, y = draw.standard_normal((40000, 3)), draw.standard_normal((40000, 3)) * 2 + 1
    assert frechet_distance(x, y) == pytest.approx(3 + 3, rel=0.03)
    assert frechet_distance(x, x) == pytest.approx(0, abs=1e-9)
    flat = x.copy()
    flat[:, 2] = 0
    assert frechet_distance(flat, x) == pytest.approx(1, rel=0.03)


def test_few_vectors_in_many_dimensions():
    draw = np.random.RandomState(0)
    assert np.isfinite(frechet_distance(draw.standard_normal((5, 50)), draw.standard_normal((2, 50))))
    with pytest.raises(GenfastError, match="at least 2"):
        frechet_distance(np.zeros((1, 3)), np.zeros((5, 3)))
