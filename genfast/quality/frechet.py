"""The Frechet distance between the Gaussians that fit two sets of features."""

import torch
from torch import Tensor

from genfast.quality.distances import Features, as_features


def gaussian_frechet(mean: Tensor, covariance: Tensor, other_mean: Tensor, other_covariance: Tensor) -> float:
    """|m1 - m2|^2 + trace(S1 + S2 - 2 (S1 S2)^(1/2)), the squared Wasserstein-2 distance of two Gaussians.

    Means [D], covariances [D, D], float64 (Dowson & Landau 1982, equation 4). The trace of the root is the sum of the
    singular values of S1^(1/2) S2^(1/2): S1 S2 itself is not symmetric, and the root of it that others take fails where
    a covariance is singular, which this one survives.
    """
    root = torch.linalg.svdvals(_root(covariance) @ _root(other_covariance)).sum()
    distance = (mean - other_mean).square().sum() + covariance.trace() + other_covariance.trace() - 2 * root
    return max(0.0, float(distance))  # rounding may leave a little less than nothing


def frechet_distance(generated: Features, real: Features) -> float:
    """The (squared) Frechet distance of two sets of features [N, D], from their means and covariances (over N - 1).

    Only in the feature space of the Inception network of Heusel et al. 2017 is it the FID. It falls with N: compare
    values of equal N only. Raises GenfastError for fewer than 2 vectors.
    """
    x, y = as_features(generated, real, least=2)
    return gaussian_frechet(x.mean(0), _covariance(x), y.mean(0), _covariance(y))


def _covariance(x: Tensor) -> Tensor:
    centred = x - x.mean(0)
    return centred.T @ centred / (len(x) - 1)


def _root(covariance: Tensor) -> Tensor:
    """The symmetric square root of a symmetric matrix whose eigenvalues are not negative, but for rounding."""
    values, vectors = torch.linalg.eigh(covariance)
    return vectors * values.clamp(min=0).sqrt() @ vectors.T
