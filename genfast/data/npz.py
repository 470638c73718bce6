"""Your own images in an npz file: `numpy.savez("mine.npz", images=array)`.

Arrays: `train`, `valid`, `test`, or `images` alone, which a fixed shuffle divides 8:1:1. Where there is `train` but no
`valid`, a fixed tenth of `train` is set aside. Each is uint8 (or bool) of shape [N, H, W], [N, H, W, C] or
[N, C, H, W], C being 1 or 3. Optional: `labels`, or `train_labels`, `valid_labels`, `test_labels`: integers [N];
and `levels`, one integer: pixel values lie below it (256 if absent, 2 for bool).
"""

from pathlib import Path

import numpy as np

from genfast.data.archive import NpzFile, open_npz
from genfast.data.base import ImageSet, tenths, without_tenth
from genfast.errors import GenfastError


def read_npz(path: str | Path, split: str) -> ImageSet:
    """One split of an npz: images uint8 [N, C, H, W].

    Raises GenfastError if the file is damaged, lacks the split, or holds another type, shape or range.
    """
    path = Path(path).expanduser()
    with open_npz(path) as file:
        return _read(file, split)


def _read(file: NpzFile, split: str) -> ImageSet:
    source = next((key for key in ("images", split) if key in file.keys), None)
    if source is None and split == "valid" and "train" in file.keys:
        source = "train"
    if source is None:
        raise GenfastError(
            f"{file.path} has no {split} images: its arrays are {', '.join(file.keys) or 'none'}, "
            "but there should be train, valid and test, or images."
        )
    raw = file.get(source)
    assert raw is not None  # source is one of its keys
    images = _channels_first(raw, f"{file.path}: {source}")
    n = len(images)
    labels = _labels(file, "labels" if source == "images" else f"{source}_labels", n)
    if source == "images":
        at = tenths(n, split)
    elif source == "train" and "valid" not in file.keys:
        at = without_tenth(n, split)
    else:
        at = np.arange(n)
    if len(at) == 0:
        raise GenfastError(f"{file.path}: {n} images in {source} are too few to set some aside for {split}.")
    levels = _levels(file, raw.dtype)
    if images.max() >= levels:
        raise GenfastError(f"{file.path}: {source} has the value {images.max()}, out of range for {levels} levels.")
    return ImageSet(f"npz:{file.path}", split, images[at], levels, None if labels is None else labels[at])


def _channels_first(raw: np.ndarray, what: str) -> np.ndarray:
    """uint8 [N, C, H, W] from any of the layouts."""
    if raw.dtype == np.bool_:
        raw = raw.view(np.uint8)
    if raw.dtype != np.uint8:
        raise GenfastError(
            f"{what} holds {raw.dtype} values, but images are uint8 levels: scale them to 0..255, round, and convert."
        )
    if raw.ndim not in (3, 4) or raw.size == 0:
        raise GenfastError(f"{what} has the shape {raw.shape}; it should be [N, H, W], [N, H, W, C] or [N, C, H, W].")
    if raw.ndim == 3:
        return raw[:, None]
    first, last = raw.shape[1] in (1, 3), raw.shape[3] in (1, 3)
    if first and last:
        raise GenfastError(f"{what} of shape {raw.shape} can be read with channels first or last: pad H or W beyond 3.")
    if not first and not last:
        raise GenfastError(f"{what} has the shape {raw.shape}, in which no side has the 1 or 3 channels of an image.")
    return raw if first else np.ascontiguousarray(raw.transpose(0, 3, 1, 2))


def _labels(file: NpzFile, key: str, n: int) -> np.ndarray | None:
    labels = file.get(key)
    if labels is None:
        return None
    if labels.dtype.kind not in "iu" or labels.shape != (n,):
        raise GenfastError(
            f"{file.path}: {key} should be {n} integers, one an image, not {labels.dtype} of shape {labels.shape}."
        )
    if labels.size and labels.min() < 0:
        raise GenfastError(f"{file.path}: {key} holds {labels.min()}, but classes count from 0.")
    return labels.astype(np.int64)


def _levels(file: NpzFile, dtype: np.dtype) -> int:
    levels = file.get("levels")
    if levels is None:
        return 2 if dtype == np.bool_ else 256
    if levels.size != 1 or levels.dtype.kind not in "iu" or not 2 <= int(levels.item()) <= 256:
        raise GenfastError(f"{file.path}: levels should be one integer from 2 to 256.")
    return int(levels.item())
