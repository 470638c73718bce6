"""Read an idx file (the format of MNIST), plain or compressed.

Layout: two zero bytes, a type code (0x08: unsigned byte), the number of dimensions; then each dimension as a big-endian
uint32; then the values, last dimension fastest.
"""

from pathlib import Path

import numpy as np

from genfast.data.archive import read_bytes
from genfast.errors import GenfastError

_UNSIGNED_BYTE = 0x08


def read_idx(path: Path, dimensions: int) -> np.ndarray:
    """The array in an idx file of unsigned bytes: uint8, with `dimensions` dimensions.

    Whether it is compressed is read from its first bytes, not from its name. Raises GenfastError if it cannot be read,
    is not idx, holds another type or number of dimensions, or has more or fewer bytes than its header promises.
    """
    data = read_bytes(path)
    if len(data) < 4 or data[:2] != b"\0\0":
        raise GenfastError(f"{path} is not an idx file: it should begin with two zero bytes.")
    code, found = data[2], data[3]
    if code != _UNSIGNED_BYTE:
        raise GenfastError(f"{path} holds values of idx type 0x{code:02x}, but images and labels are 0x08 (bytes).")
    if found != dimensions:
        raise GenfastError(f"{path} has {found} dimensions where {dimensions} are expected: is it the right file?")
    header = 4 + 4 * dimensions
    if len(data) < header:
        raise GenfastError(f"{path} is truncated: it ends inside its header; get it again.")
    shape = tuple(int.from_bytes(data[4 + 4 * d : 8 + 4 * d], "big") for d in range(dimensions))
    promised = 1
    for size in shape:
        promised *= size
    if len(data) - header != promised:
        problem = "is truncated" if len(data) - header < promised else "has bytes left over"
        raise GenfastError(
            f"{path} {problem}: its header promises {promised} values, {len(data) - header} follow; get it again."
        )
    return np.frombuffer(data, dtype=np.uint8, offset=header).reshape(shape).copy()
