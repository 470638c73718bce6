"""kernels/pointwise, kernels/reduce and kernels/common/math.h in the instruction set in use, against float64.

``tests/sampling/test_instruction_sets.py`` runs this file once more under narrower instruction sets.
"""

import numpy as np
import pytest
import torch

from genfast.compiler.program import OPS
from genfast.kernels.pointwise.reference import pointwise as reference
from genfast.kernels.reduce.reference import reduce as reduce_reference

_C = pytest.importorskip("genfast._C")

SPECIAL = np.array(
    [0.0, -0.0, 1, -1, 0.5, 1.5, 2.5, -2.5, 1e-30, -1e30, np.inf, -np.inf, np.nan, 88.5, -88.5], np.float32
)
WIDTHS = [1, 3, 4, 7, 8, 9, 16, 17, 31, 43]
# Largest error in units in the last place: what math.h and the C library promise, or half a unit of correct rounding.
ULPS = {
    "exp": 1.5,
    "expm1": 2,
    "elu": 1.5,
    "tanh": 3,
    "sigmoid": 3,
    "rsqrt": 1.5,
    "softplus": 3,
    "sub": 0.51,
    "remainder": 0.51,
}
LIBRARY = {"log", "log1p", "sin", "cos", "erf", "pow"}


def numbers(rows: int, width: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return (rng.standard_normal((rows, width)) * 10.0 ** rng.uniform(-3, 1.2, (rows, width))).astype(np.float32)


def ulps_off(got: np.ndarray, exact: np.ndarray) -> float:
    """Largest error in units in the last place of float32; where the exact result is below 2^-125, zero will do."""
    with np.errstate(invalid="ignore", over="ignore"):
        rounded = exact.astype(np.float32)
        same = (got == rounded) | (np.isnan(got) & np.isnan(exact)) | ((got == 0) & (np.abs(exact) < 2.0**-125))
        unit = np.spacing(np.maximum(np.abs(rounded), np.float32(2.0**-126)).astype(np.float32)).astype(np.float64)
        off = np.where(same, 0, np.abs(got.astype(np.float64) - exact) / unit)
    return float(np.nan_to_num(off, nan=np.inf).max())


@pytest.mark.parametrize("op", OPS)
def test_every_operation(op: str) -> None:
    budget = ULPS.get(op, 2.0 if op in LIBRARY else 0.51)
    for width in WIDTHS:
        args = [numbers(5, width, 10 * i + width) for i in range(OPS[op])]
        if op in ("eq", "ne", "where"):
            args[0][::2] = args[-1][::2] = 0  # so that some are equal, or false
        exact = reference(op, *(torch.from_numpy(a).double() for a in args)).numpy()
        assert ulps_off(_C.pointwise(op, args), exact) <= budget


@pytest.mark.parametrize("op", OPS)
def test_special_numbers(op: str) -> None:
    count = OPS[op]
    grid = np.meshgrid(*[SPECIAL] * min(count, 2))
    args = [np.ascontiguousarray(g.reshape(1, -1)) for g in grid]
    if count == 3:
        args = [args[0], args[1], np.full_like(args[0], 7)]
    if op == "remainder":  # PyTorch gives NaN where the quotient overflows
        args = [
            np.ascontiguousarray(a[:, ~((args[0] == np.float32(-1e30)) & (args[1] == np.float32(1e-30)))[0]])
            for a in args
        ]
    exact = reference(op, *(torch.from_numpy(a) for a in args)).numpy()
    got = _C.pointwise(op, args)
    assert np.array_equal(np.isnan(got), np.isnan(exact))
    infinite = np.isinf(exact)
    assert np.array_equal(np.isinf(got), infinite)
    assert np.array_equal(got[infinite], exact[infinite])
    finite = np.isfinite(exact)
    np.testing.assert_allclose(got[finite], exact[finite], rtol=1e-6, atol=2.0**-125)


@pytest.mark.parametrize("op", OPS)
def test_a_number_means_the_same_in_every_lane_and_row(op: str) -> None:
    """Bits, for arguments of one row, of one column, and of one number too."""
    args = [numbers(4, 37, i) for i in range(OPS[op])]
    whole = _C.pointwise(op, args)
    for start, stop in ((0, 1), (3, 20), (5, 37), (36, 37)):
        part = _C.pointwise(op, [np.ascontiguousarray(a[1:3, start:stop]) for a in args])
        assert part.tobytes() == np.ascontiguousarray(whole[1:3, start:stop]).tobytes()
    if len(args) > 1:
        shapes = [(4, 1), (1, 37), (1, 1)]
        small = [np.ascontiguousarray(a[: s[0], : s[1]]) for a, s in zip(args, shapes, strict=False)]
        wide = [np.ascontiguousarray(np.broadcast_to(a, (4, 37))) for a in small]
        rows = _C.pointwise(op, small)
        assert rows.tobytes() == np.ascontiguousarray(_C.pointwise(op, wide)[: len(rows), : rows.shape[1]]).tobytes()


@pytest.mark.parametrize("op", ["exp", "tanh", "sigmoid"])
def test_stated_error_over_the_whole_range(op: str) -> None:
    around = np.concatenate(
        [np.linspace(-104, 90, 400_003), np.logspace(-30, 1.9, 100_001), -np.logspace(-30, 2, 100_001)]
    )
    x = around.astype(np.float32)[None]
    exact = reference(op, torch.from_numpy(x).double()).numpy()
    got = _C.pointwise(op, [x])
    assert ulps_off(got, exact) <= ULPS[op]
    assert not ((got != 0) & (np.abs(got) < 2.0**-126) & (np.abs(x) > 1e-30)).any(), "a subnormal number came out."


def test_stated_error_of_exp_in_float64() -> None:
    x = np.concatenate([np.linspace(-706, 709, 100_003), np.linspace(-1, 1, 50_001), -np.logspace(-300, -1, 1001)])
    exact = np.exp(x.astype(np.longdouble))
    off = np.abs(_C.exp_doubles(x).astype(np.longdouble) - exact) / np.spacing(exact.astype(np.float64))
    assert float(off.max()) <= 1.5
    limits = _C.exp_doubles(np.array([-np.inf, -1e308, -709.0, 0.0, 711.0, np.inf, np.nan]))
    assert limits[:3].tolist() == [0, 0, 0]
    assert limits[3] == 1
    assert np.isinf(limits[4:6]).all()
    assert np.isnan(limits[6])


@pytest.mark.parametrize("kind", ["sum", "max", "min", "standardize", "softmax", "log_softmax"])
@pytest.mark.parametrize("width", [1, 2, 7, 8, 16, 17, 43, 256])
def test_reductions(kind: str, width: int) -> None:
    x = numbers(6, width, width)
    exact = reduce_reference(kind, torch.from_numpy(x).double(), 1e-5).numpy()
    plain = reduce_reference(kind, torch.from_numpy(x), 1e-5).numpy()
    got = _C.reduce(kind, x, 1e-5)
    budget = 4 * np.abs(plain - exact).max() + 4e-7 * np.abs(exact).max() + 1e-6 * (kind == "standardize")
    assert np.abs(got - exact).max() <= budget
    assert _C.reduce(kind, x[3:4].copy(), 1e-5).tobytes() == got[3:4].tobytes()


@pytest.mark.parametrize("kind", ["sum", "max", "min", "standardize", "softmax", "log_softmax"])
def test_nan_is_never_reduced_away(kind: str) -> None:
    for place in (0, 7, 18):
        x = numbers(1, 19, 0)
        x[0, place] = np.nan
        assert np.isnan(_C.reduce(kind, x, 0.0)).all()
    assert np.isinf(_C.reduce("max", np.full((1, 3), -np.inf, np.float32))).all()


def test_wrong_calls_are_refused() -> None:
    x = np.zeros((2, 3), np.float32)
    for call in (
        lambda: _C.pointwise("nothing", [x]),
        lambda: _C.pointwise("add", [x]),
        lambda: _C.pointwise("add", [x, np.zeros((3, 3), np.float32)]),
        lambda: _C.pointwise("neg", [x.astype(np.float64)]),
        lambda: _C.pointwise("neg", [x.T]),
        lambda: _C.reduce("sum", np.zeros((2, 0), np.float32)),
        lambda: _C.reduce("mean", x),
    ):
        with pytest.raises(ValueError, match=r"\.$"):
            call()
