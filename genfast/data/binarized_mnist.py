"""Static binarized MNIST (Salakhutdinov & Murray 2008, in Larochelle's files), the set of the published NLL tables.

Each pixel was drawn once, with its gray value as the probability. 50000 images to train, 10000 to validate, 10000 to
test: the files' own splits. Two layouts are read:
- binarized_mnist_{train,valid,test}.amat: Larochelle's text, one image a line, 784 times 0 or 1. No labels.
- binarized_mnist.npz: keys train, valid, test with the bits of an image packed into 98 bytes (`numpy.packbits`), and
  their labels train_y, valid_y, test_y (optional).
"""

from pathlib import Path

import numpy as np

from genfast.data.archive import open_npz, read_bytes
from genfast.data.base import ImageSet
from genfast.data.find import Remote, fetch, first_file, folders, missing
from genfast.errors import GenfastError

IMAGES = {"train": 50000, "valid": 10000, "test": 10000}
_PIXELS = 28 * 28
_SUBFOLDERS = ("binarized_mnist", "binarized-mnist", "BinarizedMNIST", "MNIST_static")
_NPZ = "binarized_mnist.npz"
_URL = "http://www.cs.toronto.edu/~larocheh/public/datasets/binarized_mnist/"
_SHA256 = {
    "train": "ad693b29f94c14277b095f5238ddefbbdaaae0939789dd2f4f0205278cee3e4d",
    "valid": "1de3d397c40fe8eeb33dafd4099a1f665ec01e96d9be234aaeeac8a34930e2e2",
    "test": "e6687bfea3f820c174f33b7865140b2a2dd2930ef786f35d45795fc193b5ab2c",
}


def read_binarized_mnist(split: str, data_dir: str | Path | None = None, download: bool = True) -> ImageSet:
    """One split: images uint8 [N, 1, 28, 28] of 0 and 1. Raises GenfastError as `genfast.data.load`."""
    path = _path(split, data_dir, download)
    images, labels = _read_npz(path, split) if path.suffix == ".npz" else (_read_amat(path), None)
    if len(images) != IMAGES[split]:
        raise GenfastError(
            f"{path} holds {len(images)} {split} images, but binarized MNIST has {IMAGES[split]}: get it again."
        )
    return ImageSet("binarized-mnist", split, images.reshape(-1, 1, 28, 28), 2, labels, "static")


def _path(split: str, data_dir: str | Path | None, download: bool) -> Path:
    text = f"binarized_mnist_{split}.amat"
    for folder in folders(_SUBFOLDERS, data_dir):
        if path := first_file(folder, (_NPZ, text)):
            return path
    why = "downloading was not allowed"
    if download:
        try:
            return fetch(Remote(text, (_URL + text,), f"sha256:{_SHA256[split]}"), "binarized_mnist")
        except OSError as error:
            why = str(error)
    raise missing("Binarized MNIST", (text, _NPZ), data_dir, why)


def _read_amat(path: Path) -> np.ndarray:
    """uint8 [N, 784]. Digits are picked out of the bytes: a hundred times faster than parsing 39 million numbers."""
    characters = np.frombuffer(read_bytes(path), dtype=np.uint8)
    bits = characters[(characters == ord("0")) | (characters == ord("1"))]
    blanks = np.count_nonzero(np.isin(characters, np.frombuffer(b" \t\r\n", dtype=np.uint8)))
    if len(bits) + blanks != len(characters):
        raise GenfastError(f"{path} holds something other than 0, 1 and blanks: it is not a binarized MNIST text file.")
    if len(bits) == 0 or len(bits) % _PIXELS:
        raise GenfastError(f"{path} is truncated: {len(bits)} pixels are not a multiple of {_PIXELS}; get it again.")
    return (bits - ord("0")).reshape(-1, _PIXELS)


def _read_npz(path: Path, split: str) -> tuple[np.ndarray, np.ndarray | None]:
    with open_npz(path) as file:
        packed, labels = file.get(split), file.get(f"{split}_y")
    if packed is None:
        raise GenfastError(f"{path} has no array {split!r}: it should hold train, valid and test.")
    if packed.dtype != np.uint8 or packed.ndim != 2 or packed.shape[1] != _PIXELS // 8:
        raise GenfastError(
            f"{path}: {split} should be uint8 [N, {_PIXELS // 8}], eight pixels to a byte, "
            f"not {packed.dtype} of shape {packed.shape}."
        )
    if labels is not None and (labels.ndim != 1 or labels.dtype.kind not in "iu" or len(labels) != len(packed)):
        raise GenfastError(
            f"{path}: {split}_y should be {len(packed)} integers, not {labels.dtype} of shape {labels.shape}."
        )
    return np.unpackbits(packed, axis=1), None if labels is None else labels.astype(np.int64)
