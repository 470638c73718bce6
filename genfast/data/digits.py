"""The 1797 handwritten digits bundled with scikit-learn: 8x8, 17 gray levels. They need no download.

They are the test part of the UCI set "Optical Recognition of Handwritten Digits" (Alpaydin & Kaynak 1998). It has no
split of its own, so a fixed shuffle decides: 1439 images to train, 179 to validate, 179 to test (see `tenths`).
"""

import numpy as np

from genfast.data.base import ImageSet, tenths

LEVELS = 17


def read_digits(split: str) -> ImageSet:
    """The digits of one split: images uint8 [N, 1, 8, 8] with levels 0 to 16, labels 0 to 9."""
    from sklearn.datasets import load_digits  # takes half a second, so only when it is asked for

    bunch = load_digits()
    at = tenths(len(bunch.images), split)
    images = bunch.images[at, None].astype(np.uint8)
    return ImageSet("digits", split, images, LEVELS, bunch.target[at].astype(np.int64))
