import math

import numpy as np
import pytest

from genfast.errors import GenfastError
from genfast.quality import copies, modes


def normal(seed: int, n: int, dim: int = 8) -> np.ndarray:
    return np.random.RandomState(seed).standard_normal((n, dim))


def test_new_images_are_as_near_as_held_out_ones():
    found = copies(normal(0, 1000), normal(1, 1000), normal(2, 500))
    assert found.closer == pytest.approx(0.5, abs=0.04)
    assert found.generated == pytest.approx(found.held_out, rel=0.05)
    assert found.exact == 0


def test_copies_are_nearer():
    training, held_out = normal(2, 500), normal(1, 300)
    assert copies(training[:100], held_out, training).closer == 1
    assert copies(training[:100], held_out, training).exact == 100
    assert copies(training[:100] + 0.01, held_out, training).closer == 1
    assert copies(held_out + 100, held_out, training).closer == 0
    half = np.concatenate([training[:200], normal(3, 200)])
    assert copies(half, held_out, training).closer == pytest.approx(0.75, abs=0.05)


def test_ties_count_half():
    zero = np.zeros((4, 2))
    found = copies(zero, zero, zero)
    assert found.closer == 0.5
    # Distances 0 and 2 against 1, 2, 3: the pairs 0 < 1, 2, 3; 2 > 1, 2 = 2, 2 < 3.
    training = np.array([[0.0]])
    found = copies(np.array([[0.0], [2.0]]), np.array([[1.0], [-2.0], [3.0]]), training)
    assert found.closer == pytest.approx((3 + 1.5) / 6)
    assert (found.generated, found.held_out, found.exact) == (1, 2, 1)


def test_modes():
    real = np.repeat(np.arange(4), 25)
    found = modes(real, real, 4)
    assert (found.covered, found.of, found.histogram) == (4, 4, (25, 25, 25, 25))
    assert found.entropy == pytest.approx(math.log(4))
    found = modes(np.zeros(50, int), real, 4)
    assert (found.covered, found.histogram, found.entropy) == (1, (50, 0, 0, 0), 0)
    assert math.copysign(1, found.entropy) == 1


def test_a_single_image_covers_no_class_of_many():
    real = np.repeat(np.arange(2), 500)
    assert modes(np.array([0] * 999 + [1]), real, 2).covered == 1
    assert modes(np.array([0] * 950 + [1] * 50), real, 2).covered == 2  # a tenth of its share


def test_classes_that_the_real_images_lack():
    found = modes(np.array([0, 1, 2]), np.array([0, 0, 1]), 3)
    assert (found.covered, found.of) == (2, 2)
    with pytest.raises(GenfastError, match="none"):
        modes(np.array([], int), np.array([0]), 3)
