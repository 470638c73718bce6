"""Random draws that depend on their names alone, never on the batch, the process or NumPy's version.

Everything comes from raw Philox 4x64-10 words (`numpy.random.Philox`), whose stream NumPy keeps fixed; the streams of
`Generator` methods may change between versions and would move images from one split to another.
"""

import numpy as np

_WORD = 2**64
_BERNOULLI, _PERMUTATION = 0, 1  # third counter word: keeps the two kinds of draw on different streams


def permutation(n: int, seed: int = 0) -> np.ndarray:
    """A fixed shuffle of range(n): int64 [n], a function of (n, seed)."""
    words = np.random.Philox(key=_words(seed, n), counter=_words(0, 0, _PERMUTATION, 0)).random_raw(n)
    return np.argsort(words, kind="stable")


def bernoulli(gray: np.ndarray, levels: int, seed: int, epoch: int, numbers: np.ndarray) -> np.ndarray:
    """Draw each pixel as 1 with probability gray / (levels - 1), else 0.

    gray: uint8 [B, C, H, W], values below `levels`; numbers: the B images' numbers in their split. Returns uint8 of
    gray's shape. Image k of (seed, epoch) is the same alone or in any batch.
    """
    drawn = np.empty_like(gray)
    for image, number, out in zip(gray, numbers, drawn, strict=True):
        # In [0, 1), so that gray 0 is never drawn as 1 and the highest level always is.
        words = np.random.Philox(key=_words(seed, epoch), counter=_words(0, 0, _BERNOULLI, int(number)))
        uniforms = (words.random_raw(image.size) >> np.uint64(11)) * 2.0**-53
        out[...] = uniforms.reshape(image.shape) * (levels - 1) < image
    return drawn


def _words(*values: int) -> np.ndarray:
    return np.array([value % _WORD for value in values], dtype=np.uint64)
