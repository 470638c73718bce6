"""CIFAR-10's python pickles. A pickle can run any program, so two locks stand before it.

First, nothing is unpickled whose MD5 is not the published one. Second, it is unpickled by a reader that knows the three
NumPy names that the official files use, and refuses every other.
"""

import io
import pickle
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pooch

from genfast.data.archive import readable
from genfast.errors import GenfastError

PICKLE_ARCHIVE = "cifar-10-python.tar.gz"
MD5 = {
    PICKLE_ARCHIVE: "c58f30108f718f92721af3b95e74349a",
    "data_batch_1": "c99cafc152244af753f735de768cd75f",
    "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
    "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
    "data_batch_4": "634d18415352ddfa80567beed471001a",
    "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
    "test_batch": "40351d587109b95175f43aff81a1287e",
}
Arrays = tuple[np.ndarray, np.ndarray]  # pixels uint8 [N, 3072], labels int64 [N]


def read_pickle_file(path: Path) -> Arrays:
    """One batch, such as data_batch_1. Raises GenfastError, and unpickles nothing, if its MD5 is not the published."""
    _check(path)
    with readable(path):
        return unpickle(path.read_bytes(), path)


def read_pickle_archive(path: Path, names: tuple[str, ...]) -> list[Arrays]:
    """The batches `names` of cifar-10-python.tar.gz, whose MD5 is checked before it is opened."""
    _check(path)
    found: dict[str, Arrays] = {}
    with readable(path), tarfile.open(path, "r|gz") as archive:
        for member in archive:
            name = Path(member.name).name
            file = archive.extractfile(member) if name in names and member.isfile() else None
            if file:
                found[name] = unpickle(file.read(), path / member.name)
    return [found[name] for name in names]


def unpickle(data: bytes, path: Path) -> Arrays:
    """Pixels and labels of one pickled batch. Raises GenfastError if it names anything but NumPy's array and dtype."""
    try:
        batch = _Reader(io.BytesIO(data), encoding="bytes").load()
        return np.asarray(batch[b"data"], dtype=np.uint8), np.asarray(batch[b"labels"], dtype=np.int64)
    except GenfastError as error:
        raise GenfastError(f"{path} was refused: {error}") from None
    except Exception as error:  # a broken pickle raises nearly anything
        raise GenfastError(f"{path} is not a CIFAR-10 batch ({type(error).__name__}); get it again.") from None


def _check(path: Path) -> None:
    with readable(path):
        found = pooch.file_hash(str(path), alg="md5")
    if found != MD5[path.name]:
        raise GenfastError(
            f"{path} was not opened: a pickle can run any program, and its MD5 is {found}, not the published "
            f"{MD5[path.name]}; use the binary version, cifar-10-binary.tar.gz."
        )


class _Reader(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in {("numpy.core.multiarray", "_reconstruct"), ("numpy._core.multiarray", "_reconstruct")}:
            return _reconstruct
        if (module, name) == ("numpy", "ndarray"):
            return np.ndarray
        if (module, name) == ("numpy", "dtype"):
            return _dtype
        raise GenfastError(f"it asks for {module}.{name}, which no CIFAR-10 batch needs.")


def _reconstruct(kind: type, shape: tuple[int, ...], code: bytes) -> np.ndarray:
    """What NumPy's own function of this name does for an array: an empty one, filled by the pickle's next step."""
    return np.empty((0,), dtype=np.int8)


def _dtype(code: bytes, *_: int) -> np.dtype:
    """Bytes only; NumPy itself would warn of the old pickles' integers in place of booleans."""
    if code not in (b"u1", "u1"):
        raise GenfastError(f"it holds an array of type {code!r}, but pixels are u1.")
    return np.dtype("u1", align=False, copy=True)
