"""Whole files and npz members as bytes and arrays, every failure told in one sentence that names the file."""

import gzip
import lzma
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from genfast.errors import GenfastError

_DAMAGE = (EOFError, gzip.BadGzipFile, zlib.error, lzma.LZMAError, zipfile.BadZipFile)


@contextmanager
def readable(path: Path) -> Iterator[None]:
    """Turn the errors of reading and decompressing `path` into GenfastError."""
    try:
        yield
    except EOFError:
        raise GenfastError(f"{path} is truncated: its data stop early; get it again.") from None
    except _DAMAGE as error:
        raise GenfastError(f"{path} is corrupted ({error}); get it again.") from None
    except OSError as error:
        raise GenfastError(f"{path} cannot be read: {error.strerror or error}.") from None


def read_bytes(path: Path) -> bytes:
    """The contents of a file, decompressed if its first bytes say that it is gzip or xz, whatever its name."""
    with readable(path):
        data = path.read_bytes()
        if data.startswith(b"\x1f\x8b"):
            return gzip.decompress(data)
        if data.startswith(b"\xfd7zXZ\0"):
            return lzma.decompress(data)
        return data


class NpzFile:
    """The arrays of an npz, read one at a time and never unpickled."""

    def __init__(self, path: Path, file: np.lib.npyio.NpzFile) -> None:
        self.path, self._file = path, file
        self.keys = list(file.files)

    def get(self, key: str) -> np.ndarray | None:
        """The array called `key`, or None if there is none. Raises GenfastError if it is damaged or holds objects."""
        if key not in self.keys:
            return None
        try:
            with readable(self.path):
                return np.asarray(self._file[key])
        except GenfastError:
            raise
        except ValueError as error:  # an array of objects, or a broken header
            raise GenfastError(f"{self.path}: the array {key!r} cannot be read ({_first_line(error)}).") from None


@contextmanager
def open_npz(path: Path) -> Iterator[NpzFile]:
    """Open an npz without pickles. Raises GenfastError if it cannot be read or is something else."""
    try:
        with readable(path):
            file = np.load(path, allow_pickle=False)
    except GenfastError:
        raise
    except ValueError:
        raise GenfastError(f"{path} is not an npz file: write it with numpy.savez.") from None
    if not isinstance(file, np.lib.npyio.NpzFile):
        raise GenfastError(f"{path} is a single array, not an npz file: write it with numpy.savez.")
    with file:
        yield NpzFile(path, file)


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0].rstrip(".")
