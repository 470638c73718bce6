"""Cases of attention over a cache, and what is expected of them, for the kernels of every backend."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from genfast.kernels.attend.reference import attend as reference

# images, slots, keys that are seen, heads, depth, width
SIZES = [
    (1, 1, 1, 1, 1, 1), (3, 9, 5, 1, 16, 128), (2, 40, 33, 2, 5, 3), (5, 20, 16, 4, 8, 16), (1, 70, 65, 1, 17, 33),
    (4, 33, 32, 3, 32, 150), (2, 7, 0, 2, 4, 4), (33, 12, 12, 1, 3, 20),
]  # fmt: skip


def case(images: int, slots: int, count: int, heads: int, depth: int, width: int) -> dict[str, Any]:
    """Every other case has biases, and values that are not there."""
    rng = np.random.default_rng(images + slots)

    def normal(*shape: int) -> np.ndarray:
        return rng.standard_normal(shape).astype(np.float32)

    seen = rng.permutation(slots)[:count].astype(np.int32)
    terms = rng.permutation(slots)[:count].astype(np.int32)
    bias = None
    if slots % 2:
        terms[rng.random(count) < 0.3] = -1
        bias = normal(heads, count)
    return {
        "query": normal(images, heads * depth),
        "key": normal(slots, images, heads * depth),
        "value": normal(slots, images, heads * width),
        "key_at": seen,
        "value_at": terms,
        "bias": bias,
        "heads": heads,
        "scale": 1.3,
    }


def expected(c: dict[str, Any], dtype: torch.dtype) -> np.ndarray:
    query, key, value = (torch.from_numpy(c[name]).to(dtype) for name in ("query", "key", "value"))
    terms = torch.from_numpy(c["value_at"]).long()
    rows = value[terms.clamp(min=0)].masked_fill((terms < 0)[:, None, None], 0)
    seen = torch.ones(1, len(terms), dtype=torch.bool)
    bias = None if c["bias"] is None else torch.from_numpy(c["bias"])[None].to(dtype)
    keys = key[torch.from_numpy(c["key_at"]).long()]
    return reference(query[None], keys[None], rows[None], seen, c["heads"], c["scale"], bias)[0].numpy()


def exact_and_budget(c: dict[str, Any]) -> tuple[np.ndarray, float]:
    """The result in float64, and how far from it one in float32 may be."""
    exact, plain = expected(c, torch.float64), expected(c, torch.float32)
    return exact, 4 * np.abs(plain - exact).max() + 1e-6 * max(1.0, np.abs(exact).max())


def assert_only_what_is_seen_is_read(attend: Callable[[dict[str, Any]], np.ndarray]) -> None:
    """Slots that nothing sees may hold anything; one that is seen is never lost."""
    c = case(3, 21, 9, 2, 6, 7)
    whole = attend(c)
    c["key"][np.setdiff1d(np.arange(21), c["key_at"])] = np.nan
    c["value"][np.setdiff1d(np.arange(21), c["value_at"])] = np.nan
    assert attend(c).tobytes() == whole.tobytes()
    for name in ("key", "value"):
        broken = c[name].copy()
        at = c[f"{name}_at"]
        broken[at[at >= 0][4], 1, 0] = np.nan  # of image 1, in head 0
        got = attend({**c, name: broken})
        assert np.isnan(got[1, :7] if name == "key" else got[1, :1]).all()
        assert np.isfinite(got[[0, 2]]).all()
        assert np.isfinite(got[1, 7:]).all()
