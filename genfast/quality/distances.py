"""Euclidean distances between many vectors, a block of rows at a time, in float64."""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from genfast.errors import GenfastError

Features = np.ndarray | Tensor
BLOCK = 2**20  # distances held at once: 8 MB; with much more a CPU spends its time on getting pages of memory
ROUNDING = 1e-12  # |x|^2 + |y|^2 - 2 x.y of equal rows, relative to the first two terms, is far below this


def checked(*sets: Features, least: int = 1) -> list[Tensor]:
    """Each set of feature vectors as a tensor, as it is.  # [N, D] each

    Raises GenfastError for another number of dimensions, vectors of different lengths, fewer than ``least`` of them,
    and numbers that are not finite.
    """
    tensors = [torch.as_tensor(values) for values in sets]
    for x in tensors:
        if x.ndim != 2 or x.shape[1] == 0 or x.is_complex():
            raise GenfastError(
                f"Features must be real numbers of shape [N, D], not {x.dtype} of shape {list(x.shape)}."
            )
        if x.shape[1] != tensors[0].shape[1]:
            raise GenfastError(
                f"Features of {tensors[0].shape[1]} and of {x.shape[1]} dimensions cannot be compared: "
                "take both from one feature space."
            )
        if len(x) < least:
            raise GenfastError(f"This measure needs at least {least} feature vectors of each kind, not {len(x)}.")
        if not x.isfinite().all():
            raise GenfastError("Some features are NaN or infinite: check the images, and the weights that encode them.")
    return tensors


def as_features(*sets: Features, least: int = 1) -> list[Tensor]:
    """``checked``, in float64."""
    return [x.to(torch.float64) for x in checked(*sets, least=least)]


def squared_distances(x: Tensor, y: Tensor) -> Iterator[tuple[slice, Tensor]]:
    """(rows of x, their squared distances to all of y) until the rows are through.  # float64 [rows, len(y)]

    |x|^2 + |y|^2 - 2 x.y is one matrix product, but loses digits where x and y are close: differences below a millionth
    of the vectors' length are 0, so that equal vectors are at distance 0 exactly, and the others are right to about six
    digits or better. Vectors of integers have exact distances.
    """
    rows = max(1, BLOCK // max(1, len(y)))
    y_squared = y.square().sum(1)
    for start in range(0, len(x), rows):
        part = x[start : start + rows]
        both = part.square().sum(1)[:, None] + y_squared
        found = torch.addmm(both, part, y.T, alpha=-2)
        found[found <= ROUNDING * both] = 0
        yield slice(start, start + len(part)), found


def nearest(x: Features, y: Features) -> tuple[Tensor, Tensor]:
    """For each vector of x the distance to the nearest one of y, and which that is.  # float64 [N], int64 [N]

    y may be large and of bytes: it is turned into float64 a block at a time. Raises GenfastError as ``checked``.
    """
    x, y = checked(x, y)
    x = x.to(torch.float64)
    least = torch.full((len(x),), torch.inf, dtype=torch.float64, device=x.device)
    which = torch.zeros(len(x), dtype=torch.int64, device=x.device)
    size = max(1, BLOCK // y.shape[1])
    for start in range(0, len(y), size):
        for rows, found in squared_distances(x, y[start : start + size].to(torch.float64)):
            values, indices = found.min(1)
            better = values < least[rows]  # the first of several at the same distance
            least[rows] = torch.where(better, values, least[rows])
            which[rows] = torch.where(better, indices + start, which[rows])
    return least.sqrt(), which


def radii(x: Tensor, k: int) -> Tensor:
    """The squared distance of each vector to the k-th nearest of the others.  # float64 [N]"""
    # One more, because a vector is nearest to itself.
    return torch.cat([part.topk(k + 1, 1, largest=False).values[:, k] for _, part in squared_distances(x, x)])
