"""How far apart two sets of features are, by a kernel: no bias, and a standard error."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from genfast.errors import GenfastError
from genfast.quality.distances import Features, as_features

ROWS = 128  # of the kernel's matrix at a time


@dataclass(frozen=True)
class KernelDistance:
    """value: the mean over subsets; standard_error: of the value; spread: standard deviation over the subsets, which is
    what others print beside a KID."""

    value: float
    standard_error: float
    spread: float


def polynomial_kernel(x: Tensor, y: Tensor) -> Tensor:
    """k(x, y) = (x.y / D + 1)^3.  # [N, D], [M, D] -> [N, M]"""
    k = (x / x.shape[1]) @ y.T + 1
    return k * k * k  # faster than a power


def squared_mmd(x: Tensor, y: Tensor) -> float:
    """The unbiased estimate of the squared maximum mean discrepancy (Gretton et al. 2012, equation 3).

    sum over i != j of [k(x_i, x_j) / (n (n - 1)) + k(y_i, y_j) / (m (m - 1))] - 2 sum of k(x_i, y_j) / (n m). Its mean
    is 0 where both sets come from one distribution, so it may well be negative.
    """

    def total(a: Tensor, b: Tensor) -> float:
        return sum(float(polynomial_kernel(rows, b).sum()) for rows in a.split(ROWS))

    def among(a: Tensor) -> float:
        of_itself = float((a.square().sum(1) / a.shape[1] + 1).pow(3).sum())
        return (total(a, a) - of_itself) / (len(a) * (len(a) - 1))

    return among(x) + among(y) - 2 * total(x, y) / (len(x) * len(y))


def kernel_distance(
    generated: Features, real: Features, subsets: int = 100, subset_size: int | None = None, seed: int = 0
) -> KernelDistance:
    """The squared MMD by the kernel (x.y / D + 1)^3, as the mean over random subsets of both sets.

    generated, real: [N, D]. subset_size: vectors of each set in a subset (default: 1000, at most half of the smaller
    set). In the feature space of an Inception network this is the KID of Binkowski et al. 2018, section 4.

    The standard error is the jackknife's with N - m left out (Shao & Wu 1989): the subsets overlap, so their spread s
    belongs to an error of s sqrt(m / (N - m)), plus s / sqrt(subsets) for the random choice of subsets. Where the two
    distributions are the same it is too large rather than too small. NaN where a subset is all there is.

    Raises GenfastError for fewer than 4 vectors, subsets that cannot be drawn from them, or a bad seed.
    """
    x, y = as_features(generated, real, least=4)
    smaller = min(len(x), len(y))
    size = min(1000, smaller // 2) if subset_size is None else subset_size
    if not 2 <= size <= smaller or subsets < 2:
        raise GenfastError(
            f"The kernel distance needs at least 2 subsets of 2 to {smaller} feature vectors, not {subsets} of {size}."
        )
    if not 0 <= seed < 2**32:
        raise GenfastError(f"The seed of the subsets must be a whole number from 0 to 2**32 - 1, not {seed}.")
    # Not the Generator of today: this stream never changes, and others who measure draw the same subsets from it.
    draw = np.random.RandomState(seed)
    values = np.empty(subsets)
    for i in range(subsets):
        parts = [a[torch.from_numpy(draw.choice(len(a), size, replace=False)).to(a.device)] for a in (x, y)]
        values[i] = squared_mmd(*parts)
    spread = float(values.std())
    left_out = smaller - size
    error = spread * math.sqrt(size / left_out + 1 / subsets) if left_out else math.nan
    return KernelDistance(float(values.mean()), error, spread)
