"""Load a data set by name: the one table of what there is."""

from collections.abc import Callable
from pathlib import Path

from genfast.data.base import ImageSet, check_split
from genfast.data.binarize import METHODS as BINARIZATIONS
from genfast.data.binarize import binarize as binarized
from genfast.data.binarize import check_method
from genfast.data.binarized_mnist import read_binarized_mnist
from genfast.data.cifar10 import read_cifar10
from genfast.data.digits import read_digits
from genfast.data.folder import read_folder
from genfast.data.mnist import read_mnist
from genfast.data.npz import read_npz
from genfast.errors import GenfastError

_STANDARD: dict[str, Callable[[str, str | Path | None, bool], ImageSet]] = {
    "digits": lambda split, data_dir, download: read_digits(split),
    "mnist": read_mnist,
    "binarized-mnist": read_binarized_mnist,
    "cifar10": read_cifar10,
}
NAMES = (*_STANDARD, "folder:PATH", "npz:PATH")
__all__ = ["BINARIZATIONS", "NAMES", "load"]


def load(
    name: str,
    split: str,
    data_dir: str | Path | None = None,
    binarize: str = "none",
    image_size: int | None = None,
    download: bool = True,
) -> ImageSet:
    """One split of a data set, in memory.

    name: one of NAMES: "digits", "mnist", "binarized-mnist", "cifar10", "folder:PATH" or "npz:PATH".
    split: "train", "valid" or "test"; they never share an image.
    data_dir: where to look before GENFAST_DATA and the user's cache (see find.py).
    binarize: "none", "threshold" or "dynamic" (see binarize.py).
    image_size: pixels of the square that the images of a folder are cut and scaled to; for folder:PATH only.
    download: whether a data set found nowhere may be downloaded to the cache.

    Raises GenfastError, one sentence, for an unknown name, split or binarization, for files that are missing,
    truncated, corrupted or of the wrong type, shape or range, and for a download that fails.
    """
    check_split(split)
    check_method(binarize)
    kind, colon, path = name.partition(":")
    if image_size is not None and kind != "folder":
        raise GenfastError(f"An image size can be chosen for folder:PATH only; {name} has its own.")
    if colon and kind in ("folder", "npz"):
        if not path:
            raise GenfastError(f"{name} names no path: write {kind}:PATH.")
        found = read_folder(path, split, image_size) if kind == "folder" else read_npz(path, split)
    elif name in _STANDARD:
        found = _STANDARD[name](split, data_dir, download)
    else:
        raise GenfastError(f"There is no data set {name!r}: choose one of {', '.join(NAMES)}.")
    return binarized(found, binarize)
