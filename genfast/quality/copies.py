"""Does a model repeat its training images? Distances to the nearest one, against those of images it never saw."""

from dataclasses import dataclass

import numpy as np
from torch import Tensor

from genfast.quality.distances import Features, nearest


@dataclass(frozen=True)
class Copies:
    """closer: the probability that a generated image lies nearer to the training images than a held-out one does.

    One half is what new images of the same distribution have; a model that repeats what it was trained on comes near 1.
    generated, held_out: median distance to the nearest training image; exact: generated images at distance 0.
    """

    closer: float
    generated: float
    held_out: float
    exact: int


def copies(generated: Features, held_out: Features, training: Features) -> Copies:
    """Compare the distances of generated and of held-out vectors to their nearest training vector.  # [N, D] each

    ``closer`` is the Mann-Whitney statistic U / (n m), ties counting half, which Meehan et al. 2020 (section 3) test
    for data copying. Raises GenfastError for empty sets or vectors of different lengths.
    """
    return copies_of(nearest(generated, training)[0], nearest(held_out, training)[0])


def copies_of(generated: Tensor, held_out: Tensor) -> Copies:
    """``copies`` from the distances themselves.  # [N], [M]"""
    ordered, mine = np.sort(held_out.cpu().numpy()), generated.cpu().numpy()
    beyond = len(ordered) - np.searchsorted(ordered, mine, side="right")
    ties = np.searchsorted(ordered, mine, side="right") - np.searchsorted(ordered, mine, side="left")
    closer = float((beyond + ties / 2).mean() / len(ordered))
    return Copies(closer, float(np.median(mine)), float(np.median(ordered)), int((generated == 0).sum()))
