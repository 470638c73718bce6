"""The uniforms behind every draw: Philox 4x32-10, a generator that is a function of a counter.

Because a uniform depends on nothing but (seed, image number, pixel, channel), image k of a seed is the same image drawn
alone, in any batch, on any number of processes, by any engine.

Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3", section 3.3.
"""

import numpy as np
import torch
from torch import Tensor

from genfast.errors import GenfastError

MULTIPLIER_0, MULTIPLIER_1 = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
WEYL_0, WEYL_1 = 0x9E3779B9, 0xBB67AE85  # what the key grows by from round to round
LOW, HIGH = np.uint64(0xFFFFFFFF), np.uint64(32)
MAX_64 = 2**64 - 1

Words = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


def philox4x32(counter: Words, key: tuple[int, int], rounds: int = 10) -> Words:
    """Four random 32-bit words for each counter of four 32-bit words, under a key of two.

    The counter's words are uint64 arrays that hold 32-bit numbers and broadcast against each other; so are the results.
    """
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(rounds):
        p0, p1 = MULTIPLIER_0 * c0, MULTIPLIER_1 * c2
        c0, c1, c2, c3 = (p1 >> HIGH) ^ c1 ^ np.uint64(k0), p1 & LOW, (p0 >> HIGH) ^ c3 ^ np.uint64(k1), p0 & LOW
        k0, k1 = (k0 + WEYL_0) & 0xFFFFFFFF, (k1 + WEYL_1) & 0xFFFFFFFF
    return c0, c1, c2, c3


def check_seed(seed: int, first: int = 0, n: int = 0) -> None:
    """Raises GenfastError unless the seed and the numbers of n images from ``first`` on are 64-bit numbers."""
    if not isinstance(seed, int | np.integer) or not 0 <= seed <= MAX_64:
        raise GenfastError(f"The seed must be a whole number from 0 to 2**64 - 1, not {seed}.")
    if not isinstance(first, int | np.integer) or not 0 <= first <= MAX_64 or first + n > MAX_64 + 1:
        raise GenfastError(f"Images are numbered from 0 to 2**64 - 1: there are no {n} images from number {first} on.")


def uniforms(seed: int, first: int, n: int, image_shape: tuple[int, int, int], word: int = 0) -> Tensor:
    """Uniforms in (0, 1), both ends excluded, for the images first .. first + n - 1.  # float64 [n, C, H, W]

    key = seed (low word, high word); counter = (image number low, high, pixel y * W + x, channel); the result is
    (w + 0.5) * 2**-32 for the output word w. Sampling uses word 0; words 1 to 3 are streams independent of it.

    Raises GenfastError for a seed or image numbers outside 64 bits.
    """
    check_seed(seed, first, n)
    seed, first = int(seed), int(first)
    channels, height, width = image_shape
    image = np.uint64(first) + np.arange(n, dtype=np.uint64)[:, None, None]
    pixel = np.arange(height * width, dtype=np.uint64)[None, None, :]
    channel = np.arange(channels, dtype=np.uint64)[None, :, None]
    words = philox4x32((image & LOW, image >> HIGH, pixel, channel), (seed & 0xFFFFFFFF, seed >> 32))
    values = (words[word].astype(np.float64) + 0.5) * 2.0**-32
    return torch.from_numpy(values.reshape(n, channels, height, width))
