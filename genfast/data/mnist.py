"""MNIST (LeCun, Cortes & Burges): 28x28, 256 gray levels, from the original idx files, plain or gzipped.

The first 50000 images of the training file are the training split and its last 10000 the validation split, the
division that published MNIST likelihoods use; the 10000 images of the test file are the test split.
"""

from pathlib import Path

import numpy as np

from genfast.data.base import ImageSet
from genfast.data.find import Remote, fetch, first_file, folders, missing
from genfast.data.idx import read_idx
from genfast.errors import GenfastError

_SUBFOLDERS = ("mnist", "MNIST", "mnist/raw", "MNIST/raw")
_MIRRORS = ("https://ossci-datasets.s3.amazonaws.com/mnist/", "https://storage.googleapis.com/cvdf-datasets/mnist/")
_MD5 = {
    "train-images-idx3-ubyte": "f68b3c2dcbeaaa9fbdd348bbdeb94873",
    "train-labels-idx1-ubyte": "d53e105ee54ea40749a09fcbcd1e9432",
    "t10k-images-idx3-ubyte": "9fb629c4189551a2d022fa330f9573f3",
    "t10k-labels-idx1-ubyte": "ec29112dd5afa0611ce80d1b7f02629c",
}
IMAGES_IN_FILE = {"train": 60000, "t10k": 10000}
VALIDATION_IMAGES = 10000


def read_mnist(split: str, data_dir: str | Path | None = None, download: bool = True) -> ImageSet:
    """One split of MNIST: images uint8 [N, 1, 28, 28], labels 0 to 9. Raises GenfastError as `genfast.data.load`."""
    prefix = "t10k" if split == "test" else "train"
    images_path, labels_path = _paths(prefix, data_dir, download)
    images, labels = read_idx(images_path, 3), read_idx(labels_path, 1)
    expected = (IMAGES_IN_FILE[prefix], 28, 28)
    if images.shape != expected:
        raise GenfastError(f"{images_path} holds an array of shape {images.shape}, but MNIST's is {expected}.")
    if len(labels) != len(images):
        raise GenfastError(f"{labels_path} has {len(labels)} labels for the {len(images)} images of {images_path}.")
    if labels.max() > 9:
        raise GenfastError(f"{labels_path} holds the label {labels.max()}, but MNIST's classes are 0 to 9.")
    training = len(images) - VALIDATION_IMAGES
    part = {"train": slice(0, training), "valid": slice(training, None), "test": slice(None)}[split]
    return ImageSet("mnist", split, images[part, None], 256, labels[part].astype(np.int64))


def _paths(prefix: str, data_dir: str | Path | None, download: bool) -> tuple[Path, Path]:
    """The image and label files, both from the first folder that has the images."""
    stems = (f"{prefix}-images-idx3-ubyte", f"{prefix}-labels-idx1-ubyte")
    for folder in folders(_SUBFOLDERS, data_dir):
        images, labels = (first_file(folder, _spellings(stem)) for stem in stems)
        if images and labels:
            return images, labels
        if images:
            raise GenfastError(f"{images} has no labels beside it: put {stems[1]}.gz in the same folder.")
    why = "downloading was not allowed"
    if download:
        try:
            remotes = [Remote(f"{s}.gz", tuple(f"{m}{s}.gz" for m in _MIRRORS), f"md5:{_MD5[s]}") for s in stems]
            images, labels = (fetch(remote, "mnist") for remote in remotes)
            return images, labels
        except OSError as error:
            why = str(error)
    raise missing("MNIST", [f"{stems[0]}.gz"], data_dir, why)


def _spellings(stem: str) -> list[str]:
    """The names a file goes by: gzipped or not, and with the dot that some archives put in place of the last dash."""
    dotted = stem.replace("-idx", ".idx")
    return [f"{stem}.gz", stem, f"{dotted}.gz", dotted]
