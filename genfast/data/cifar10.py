"""CIFAR-10 (Krizhevsky 2009): 32x32 RGB, 256 levels, ten classes; 50000 training images in five batches, 10000 test.

What is read, from the first folder that has any of it (of several there, the one with the most images):
- data_batch_1.bin to data_batch_5.bin and test_batch.bin, plain or as .bin.xz or .bin.gz: records of a label byte and
  3072 bytes, R, G and B planes in turn;
- cifar-10-binary.tar.gz, the archive of those;
- cifar-10-python.tar.gz and data_batch_1 to 5, test_batch: pickles, see cifar10_pickle.py;
- cifar10_test1000.npz: the first 1000 test images, x uint8 [1000, 32, 32, 3] and y.

The last tenth of every training batch is the validation split: 45000 images to train and 5000 to validate. A batch is
divided the same way when others are missing; then the title says how many images of how many are there.
"""

import tarfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from genfast.data.archive import open_npz, read_bytes, readable
from genfast.data.base import ImageSet
from genfast.data.cifar10_pickle import PICKLE_ARCHIVE, read_pickle_archive, read_pickle_file
from genfast.data.find import Remote, fetch, first_file, folders, missing
from genfast.errors import GenfastError

IMAGES_PER_BATCH = 10000
_TRAIN_BATCHES = tuple(f"data_batch_{k}" for k in range(1, 6))
_TEST_BATCH = "test_batch"
_PLANES = 3 * 32 * 32
_BINARY_ARCHIVE = "cifar-10-binary.tar.gz"
_TEST_NPZ = "cifar10_test1000.npz"
_REMOTE = Remote(
    _BINARY_ARCHIVE,
    (f"https://www.cs.toronto.edu/~kriz/{_BINARY_ARCHIVE}",),
    "md5:c32a1d4ab5d03f1284b67883e8d87530",
)
_SUBFOLDERS = (
    "cifar10",
    "cifar-10-batches-bin",
    "cifar-10-batches-py",
    "cifar10/cifar-10-batches-bin",
    "cifar10/cifar-10-batches-py",
)
Batch = tuple[np.ndarray, np.ndarray]  # images uint8 [N, 3, 32, 32], labels int64 [N]


@dataclass(frozen=True)
class _Source:
    """Batches that one folder offers in one format; nothing is read until `read` is called."""

    batches: int
    read: Callable[[], list[Batch]]


def read_cifar10(split: str, data_dir: str | Path | None = None, download: bool = True) -> ImageSet:
    """One split: images uint8 [N, 3, 32, 32], labels 0 to 9. Raises GenfastError as `genfast.data.load`."""
    names = (_TEST_BATCH,) if split == "test" else _TRAIN_BATCHES
    batches = _source(names, data_dir, download).read()
    parts = []
    for images, labels in batches:
        training = len(images) - len(images) // 10
        part = {"train": slice(0, training), "valid": slice(training, None), "test": slice(None)}[split]
        parts.append((images[part], labels[part]))
    images = np.concatenate([images for images, _ in parts])
    labels = np.concatenate([labels for _, labels in parts])
    tenth = IMAGES_PER_BATCH // 10
    whole = {"train": 5 * (IMAGES_PER_BATCH - tenth), "valid": 5 * tenth, "test": IMAGES_PER_BATCH}[split]
    return ImageSet("cifar10", split, images, 256, labels, total=whole if len(images) < whole else None)


def _source(names: tuple[str, ...], data_dir: str | Path | None, download: bool) -> _Source:
    for folder in folders(_SUBFOLDERS, data_dir):
        sources = _sources(folder, names)
        if sources:
            return max(sources, key=lambda source: source.batches)  # the first of equals
    why = "downloading was not allowed"
    if download:
        try:
            archive = fetch(_REMOTE, "cifar10")
            return _Source(len(names), lambda: _read_archive(archive, names))
        except OSError as error:
            why = str(error)
    raise missing("CIFAR-10", (f"{names[0]}.bin", _BINARY_ARCHIVE), data_dir, why)


def _sources(folder: Path, names: tuple[str, ...]) -> list[_Source]:
    """What `folder` has, the cheapest and safest format first."""
    sources = []
    endings = (".bin", ".bin.xz", ".bin.gz")
    binary = [path for name in names if (path := first_file(folder, [name + ending for ending in endings]))]
    if binary:
        sources.append(_Source(len(binary), lambda: [parse_batch(read_bytes(path), path) for path in binary]))
    if archive := first_file(folder, (_BINARY_ARCHIVE,)):
        sources.append(_Source(len(names), lambda: _read_archive(archive, names)))
    pickles = [path for name in names if (path := first_file(folder, (name,)))]
    if pickles:
        sources.append(_Source(len(pickles), lambda: [_as_batch(*read_pickle_file(path), path) for path in pickles]))
    if pickled := first_file(folder, (PICKLE_ARCHIVE,)):
        sources.append(
            _Source(len(names), lambda: [_as_batch(*arrays, pickled) for arrays in read_pickle_archive(pickled, names)])
        )
    if names == (_TEST_BATCH,) and (npz := first_file(folder, (_TEST_NPZ,))):
        sources.append(_Source(0, lambda: [_read_test_npz(npz)]))  # 0: anything else there is more complete
    return sources


def parse_batch(data: bytes, path: Path) -> Batch:
    """Images and labels of one batch in the official binary format; `path` is for the error message."""
    expected = IMAGES_PER_BATCH * (1 + _PLANES)
    if len(data) != expected:
        problem = "is truncated" if len(data) < expected else "has bytes left over"
        raise GenfastError(f"{path} {problem}: {len(data)} bytes where a CIFAR-10 batch has {expected}; get it again.")
    records = np.frombuffer(data, dtype=np.uint8).reshape(-1, 1 + _PLANES)
    return _as_batch(records[:, 1:], records[:, 0], path)


def _as_batch(pixels: np.ndarray, labels: np.ndarray, path: Path) -> Batch:
    """Check what a file of any format held, and give it its shape; pixels: uint8 [N, 3072], planes in turn."""
    if pixels.ndim != 2 or pixels.shape[1] != _PLANES:
        raise GenfastError(f"{path} holds an array of shape {pixels.shape}, but CIFAR-10's is [N, {_PLANES}].")
    if len(pixels) != len(labels):
        raise GenfastError(f"{path} has {len(labels)} labels for {len(pixels)} images.")
    if labels.size and not 0 <= labels.min() <= labels.max() <= 9:
        raise GenfastError(f"{path} is not CIFAR-10: its labels go from {labels.min()} to {labels.max()}, not 0 to 9.")
    return pixels.reshape(-1, 3, 32, 32), labels.astype(np.int64)


def _read_archive(path: Path, names: tuple[str, ...]) -> list[Batch]:
    wanted = {f"{name}.bin": name for name in names}
    found: dict[str, Batch] = {}
    try:
        with readable(path), tarfile.open(path, "r|gz") as archive:  # a stream: decompressed once, nothing unpacked
            for member in archive:
                name = wanted.get(Path(member.name).name)
                file = archive.extractfile(member) if name and member.isfile() else None
                if name and file:
                    found[name] = parse_batch(file.read(), path / member.name)
                if len(found) == len(wanted):
                    break
    except tarfile.TarError as error:
        raise GenfastError(f"{path} is truncated or corrupted ({error}); get it again.") from None
    if len(found) < len(wanted):
        lacking = ", ".join(name for name in names if name not in found)
        raise GenfastError(f"{path} lacks {lacking}; get it again.")
    return [found[name] for name in names]


def _read_test_npz(path: Path) -> Batch:
    with open_npz(path) as file:
        images, labels = file.get("x"), file.get("y")
    if images is None or labels is None:
        raise GenfastError(f"{path} should hold the arrays x and y.")
    if images.dtype != np.uint8 or images.shape[1:] != (32, 32, 3):
        raise GenfastError(f"{path}: x should be uint8 [N, 32, 32, 3], not {images.dtype} of shape {images.shape}.")
    if labels.dtype.kind not in "iu" or labels.ndim != 1:
        raise GenfastError(f"{path}: y should be integers [N], not {labels.dtype} of shape {labels.shape}.")
    return _as_batch(np.ascontiguousarray(images.transpose(0, 3, 1, 2)).reshape(-1, _PLANES), labels, path)
