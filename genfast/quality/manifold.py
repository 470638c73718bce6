"""Whether generated images are like real ones, and whether all kinds are there: balls around features as a manifold.

The ball of a vector reaches to its k-th nearest neighbour within its own set; together they stand for the region where
the set's distribution lives.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from genfast.errors import GenfastError
from genfast.quality.distances import Features, as_features, radii, squared_distances


@dataclass(frozen=True)
class PrecisionRecall:
    """precision: share of the generated in a real ball; recall: share of the real in a generated ball."""

    precision: float
    recall: float


@dataclass(frozen=True)
class DensityCoverage:
    """density: real balls around a generated vector, over k; coverage: share of real balls with a generated vector."""

    density: float
    coverage: float


def precision_recall(generated: Features, real: Features, k: int = 3) -> PrecisionRecall:
    """Improved precision and recall (Kynkaanniemi et al. 2019, equations 1 and 2).

    Raises GenfastError unless there are more than k feature vectors of each kind.
    """
    x, y = _checked(generated, real, k)
    around_x, around_y = radii(x, k), radii(y, k)
    inside = 0
    reached = torch.zeros(len(y), dtype=torch.bool, device=y.device)
    for rows, distance in squared_distances(x, y):
        inside += int((distance <= around_y).any(1).sum())
        reached |= (distance <= around_x[rows, None]).any(0)
    return PrecisionRecall(inside / len(x), int(reached.sum()) / len(y))


def density_coverage(generated: Features, real: Features, k: int = 5) -> DensityCoverage:
    """Density and coverage (Naeem et al. 2020, equations 3 and 4): outliers among the real do less harm than above.

    Both are about 1 where the two distributions are the same (coverage: 1 - 2^-k); density may exceed 1.
    Raises GenfastError unless there are more than k feature vectors of each kind.
    """
    x, y = _checked(generated, real, k)
    around = radii(y, k)
    inside = 0
    covered = torch.zeros(len(y), dtype=torch.bool, device=y.device)
    for _, distance in squared_distances(x, y):
        within = distance <= around
        inside += int(within.sum())
        covered |= within.any(0)
    return DensityCoverage(inside / (k * len(x)), int(covered.sum()) / len(y))


def _checked(generated: Features, real: Features, k: int) -> list[Tensor]:
    if k < 1:
        raise GenfastError(f"A ball reaches to the k-th neighbour with k of at least 1, not {k}.")
    return as_features(generated, real, least=k + 1)
