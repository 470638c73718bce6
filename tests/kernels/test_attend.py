"""kernels/attend in the instruction set in use, against float64.

``tests/sampling/test_instruction_sets.py`` runs this file once more under narrower instruction sets.
"""

import numpy as np
import pytest
import torch

from tests.kernels.attend_cases import SIZES, assert_only_what_is_seen_is_read, case, exact_and_budget, expected

_C = pytest.importorskip("genfast._C")


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_against_float64(size: tuple[int, ...]) -> None:
    """Also where the scratch memory holds the weights of one image, or of all."""
    c = case(*size)
    exact, budget = exact_and_budget(c)
    for at_a_time in (1, 2, 100):
        got = _C.attend(**c, images_at_a_time=at_a_time)
        assert got.shape == exact.shape
        assert np.abs(got - exact).max() <= budget


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_an_image_is_the_same_alone(size: tuple[int, ...]) -> None:
    """To the bit: whatever other images there are, and wherever its keys and values lie."""
    c = case(*size)
    whole = _C.attend(**c, images_at_a_time=3)
    for m in range(size[0]):
        one = {name: np.ascontiguousarray(c[name][..., m : m + 1, :]) for name in ("query", "key", "value")}
        assert _C.attend(**{**c, **one}).tobytes() == whole[m].tobytes()
    moved = {"key": c["key"][::-1].copy(), "value": c["value"][::-1].copy(), "key_at": size[1] - 1 - c["key_at"]}
    moved["value_at"] = np.where(c["value_at"] < 0, -1, size[1] - 1 - c["value_at"]).astype(np.int32)
    assert _C.attend(**{**c, **moved}).tobytes() == whole.tobytes()


def test_only_what_is_seen_is_read() -> None:
    assert_only_what_is_seen_is_read(lambda c: _C.attend(**c))


def test_large_scores() -> None:
    """The largest is subtracted first: exp of it would be infinite."""
    c = case(2, 12, 12, 1, 4, 5)
    c["scale"] = 1e4
    got = _C.attend(**c)
    assert np.isfinite(got).all()
    np.testing.assert_allclose(got, expected(c, torch.float64), rtol=1e-5, atol=1e-6)


def test_wrong_calls_are_refused() -> None:
    good = case(2, 5, 4, 2, 4, 6)
    for change in (
        {"heads": 3}, {"heads": 0}, {"key_at": good["key_at"] + 9}, {"key_at": good["key_at"] * 0 - 1},
        {"value_at": good["value_at"] + 9}, {"value_at": good["value_at"][1:].copy()}, {"images_at_a_time": 0},
        {"query": good["query"].astype(np.float64)}, {"bias": np.zeros((2, 3), np.float32)},
        {"key": good["key"][:, 1:].copy()},
    ):  # fmt: skip
        with pytest.raises(ValueError, match=r"\.$"):
            _C.attend(**{**good, **change})
