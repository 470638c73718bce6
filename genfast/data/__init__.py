"""Image data sets as bytes in memory, with splits that never share an image: `load("mnist", "train")`."""

from genfast.data.base import SPLITS, ImageSet
from genfast.data.load import BINARIZATIONS, NAMES, load

__all__ = ["BINARIZATIONS", "NAMES", "SPLITS", "ImageSet", "load"]
