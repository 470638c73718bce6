"""The Frechet distance between the Gaussians that fit two sets of features."""

import torch
from torch import Tensor

from genfast.quality.distances import Features, as_features


def gaussian_frechet(mean: Tensor, covariance: Tensor, other_mean: Tensor, other_covariance: Tensor) -> float:
    """|m1 - m2|^2 + trace(S1 + S2 - 2 (S1 S2)^(1/2)), the squared Wasserstein-2 distance of two Gaussians.

    Means [D], covariances [D, D], float64 (Dowson & Landau 1982, equation 4).
    """
    return _distance(mean - other_mean, _root(covariance), _root(other_covariance))


def frechet_distance(generated: Features, real: Features) -> float:
    """The (squared) Frechet distance of two sets of features [N, D], from their means and covariances (over N - 1).

    Only in the feature space of the Inception network of Heusel et al. 2017 is it the FID. It falls with N: compare
    values of equal N only. Raises GenfastError for fewer than 2 vectors.
    """
    x, y = as_features(generated, real, least=2)
    return _distance(x.mean(0) - y.mean(0), _factor(x), _factor(y))


def _distance(shift: Tensor, a: Tensor, b: Tensor) -> float:
    """For covariances a'a and b'b: the trace of the root of their product is the sum of the singular values of a b'.

    The product of covariances itself is not symmetric, and its root by other ways fails, or loses half of its digits,
    where a covariance is singular.
    """
    root = torch.linalg.svdvals(a @ b.T).sum()
    distance = shift.square().sum() + a.square().sum() + b.square().sum() - 2 * root
    return max(0.0, float(distance))  # rounding may leave a little less than nothing


def _factor(x: Tensor) -> Tensor:
    """A matrix whose a'a is the covariance of x: centred x itself, or if that is smaller, R of its QR."""
    centred = (x - x.mean(0)) / (len(x) - 1) ** 0.5
    return centred if len(x) <= x.shape[1] else torch.linalg.qr(centred, mode="r").R


def _root(covariance: Tensor) -> Tensor:
    """The symmetric square root of a symmetric matrix whose eigenvalues are not negative, but for rounding."""
    values, vectors = torch.linalg.eigh(covariance)
    return vectors * values.clamp(min=0).sqrt() @ vectors.T
