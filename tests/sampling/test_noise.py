"""Philox against the vectors published with Random123, and the counters that the uniforms are made of."""

import numpy as np
import pytest
import torch

from genfast.errors import GenfastError
from genfast.sampling.noise import philox4x32, uniforms


@pytest.mark.parametrize(
    ("counter", "key", "expected"),
    [
        ("00000000 00000000 00000000 00000000", "00000000 00000000", "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
        ("ffffffff ffffffff ffffffff ffffffff", "ffffffff ffffffff", "408f276d 41c83b0e a20bc7c6 6d5451fd"),
        ("243f6a88 85a308d3 13198a2e 03707344", "a4093822 299f31d0", "d16cfe09 94fdcceb 5001e420 24126ea1"),
    ],
)
def test_known_answers(counter: str, key: str, expected: str) -> None:
    c = [np.array([int(word, 16)], dtype=np.uint64) for word in counter.split()]
    k = [int(word, 16) for word in key.split()]
    words = philox4x32((c[0], c[1], c[2], c[3]), (k[0], k[1]))
    assert " ".join(f"{int(w[0]):08x}" for w in words) == expected


def philox_one(seed: int, image: int, pixel: int, channel: int) -> int:
    """The first output word, written out in Python's integers."""
    c, k = [image & 0xFFFFFFFF, image >> 32, pixel, channel], [seed & 0xFFFFFFFF, seed >> 32]
    for _ in range(10):
        a, b = 0xD2511F53 * c[0], 0xCD9E8D57 * c[2]
        c = [(b >> 32) ^ c[1] ^ k[0], b & 0xFFFFFFFF, (a >> 32) ^ c[3] ^ k[1], a & 0xFFFFFFFF]
        k = [(k[0] + 0x9E3779B9) & 0xFFFFFFFF, (k[1] + 0xBB67AE85) & 0xFFFFFFFF]
    return c[0]


@pytest.mark.parametrize("seed", [0, 1, 2**32, 2**64 - 1, 0x0123456789ABCDEF])
@pytest.mark.parametrize("first", [0, 7, 2**32 - 1, 2**64 - 2])
def test_counter_layout(seed: int, first: int) -> None:
    u = uniforms(seed, first, 2, (3, 2, 5))
    assert u.shape == (2, 3, 2, 5)
    assert u.dtype == torch.float64
    for k, c, y, x in [(0, 0, 0, 0), (0, 2, 1, 3), (1, 1, 0, 4), (1, 0, 1, 0)]:
        assert u[k, c, y, x].item() == (philox_one(seed, first + k, y * 5 + x, c) + 0.5) / 2**32


def test_an_image_does_not_depend_on_its_batch() -> None:
    many = uniforms(3, 10, 20, (1, 3, 3))
    assert torch.equal(uniforms(3, 14, 1, (1, 3, 3))[0], many[4])
    assert torch.equal(uniforms(3, 14, 5, (1, 3, 3)), many[4:9])
    assert len(many.unique()) == many.numel()
    assert uniforms(3, 0, 0, (1, 3, 3)).shape == (0, 1, 3, 3)
    assert uniforms(np.int64(3), np.uint64(10), 20, (1, 3, 3)).equal(many)  # type: ignore[arg-type]


def test_the_distribution_is_uniform_and_open() -> None:
    u = uniforms(0, 0, 64, (3, 32, 32))
    assert 0 < u.min() < 1e-4
    assert 1 - 1e-4 < u.max() < 1
    assert abs(u.mean().item() - 0.5) < 4 * (1 / 12 / u.numel()) ** 0.5
    counts = torch.histc(u.flatten(), 16, 0, 1)
    expected = u.numel() / 16
    assert float(((counts - expected) ** 2 / expected).sum()) < 37.7  # chi-square, 15 degrees of freedom, p = 0.001


def test_words_are_independent_streams() -> None:
    a, b = uniforms(0, 0, 8, (1, 16, 16)), uniforms(0, 0, 8, (1, 16, 16), word=2)
    assert abs(torch.corrcoef(torch.stack([a.flatten(), b.flatten()]))[0, 1].item()) < 0.1


@pytest.mark.parametrize("seed", [-1, 2**64, 1.5, "0"])
def test_bad_seeds(seed: int) -> None:
    with pytest.raises(GenfastError, match=r"seed must be a whole number from 0 to 2\*\*64 - 1"):
        uniforms(seed, 0, 1, (1, 1, 1))


@pytest.mark.parametrize(("first", "n"), [(-1, 1), (2**64, 1), (2**64 - 1, 2), (0.5, 1)])
def test_bad_image_numbers(first: int, n: int) -> None:
    with pytest.raises(GenfastError, match="Images are numbered from 0"):
        uniforms(0, first, n, (1, 1, 1))
