"""Which classes are among the images, as a classifier sees them."""

import math
from dataclasses import dataclass

import numpy as np

from genfast.errors import GenfastError

SHARE = 0.1  # of a class's share among real images, which it must have to count as covered


@dataclass(frozen=True)
class Modes:
    """histogram: images in each class; covered: classes that are there; of: classes that could be.

    entropy: of the histogram, in nats; ln(classes) where all are as frequent.
    """

    histogram: tuple[int, ...]
    covered: int
    of: int
    entropy: float


def modes(predicted: np.ndarray, real: np.ndarray, classes: int) -> Modes:
    """Classes that real images have, and how many of them the generated ones cover.  # int [N], int [M]: classes

    A class is covered if its share is at least a tenth of its share among the real: a single image that the classifier
    mistakes for it is not enough. Raises GenfastError where there are no images.
    """
    if len(predicted) == 0 or len(real) == 0:
        raise GenfastError("Classes can only be counted among images, and there are none.")
    mine, theirs = (np.bincount(values, minlength=classes) for values in (predicted, real))
    there = theirs > 0
    covered = there & (mine / len(predicted) >= SHARE * theirs / len(real))
    shares = mine[mine > 0] / len(predicted)
    entropy = -float((shares * np.log(shares)).sum()) + 0.0  # no -0.0
    return Modes(tuple(int(n) for n in mine), int(covered.sum()), int(there.sum()), min(entropy, math.log(classes)))
