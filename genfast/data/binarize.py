"""Turn gray images into binary ones, in a way that the title of the set then states."""

from dataclasses import replace

import numpy as np

from genfast.data.base import ImageSet
from genfast.data.draws import bernoulli
from genfast.errors import GenfastError

METHODS = ("none", "threshold", "dynamic")
_DRAWN_ONCE_SEED = 0  # evaluation splits are drawn with this seed, so that two evaluations see the same images


def binarize(image_set: ImageSet, method: str) -> ImageSet:
    """Apply "none", "threshold" or "dynamic" to a set of gray (or colour) levels.

    threshold: 1 where a level lies in the upper half of the range (from 128 of 0 to 255).
    dynamic: 1 with probability level / (levels - 1) (Salakhutdinov & Murray 2008). The training split is drawn anew in
        every epoch by `ImageSet.batch`; validation and test splits are drawn once, with a fixed seed.
    Raises GenfastError for an unknown method, and for a set that is already binary.
    """
    check_method(method)
    if method == "none":
        return image_set
    if image_set.levels == 2:
        raise GenfastError(f"{image_set.name} is already binary: load it without binarize={method!r}.")
    images, levels = image_set.images, image_set.levels
    if method == "threshold":
        binary = (images >= np.uint8((levels + 1) // 2)).view(np.uint8)
        return replace(image_set, images=binary, levels=2, binarization="threshold")
    if image_set.split == "train":
        return replace(image_set, levels=2, binarization="dynamic", gray_levels=levels)
    numbers = np.arange(len(image_set)) if image_set.numbers is None else image_set.numbers
    drawn = bernoulli(images, levels, seed=_DRAWN_ONCE_SEED, epoch=0, numbers=numbers)
    return replace(image_set, images=drawn, levels=2, binarization="dynamic")


def check_method(method: str) -> None:
    """Raise GenfastError unless method is one of METHODS."""
    if method not in METHODS:
        raise GenfastError(
            f"There is no binarization {method!r}: choose one of {', '.join(METHODS)} "
            "(the static binarization of MNIST is a data set of its own, binarized-mnist)."
        )
