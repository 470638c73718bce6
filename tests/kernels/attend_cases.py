"""Cases of attention over a cache, and what is expected of them, for the kernels of every backend."""

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
