"""How PyTorch rounds the factors of products of float32 numbers on a GPU."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch


@contextmanager
def float32_products(precision: str = "ieee") -> Iterator[None]:
    """Within, convolutions and matrix products of float32 round their factors to this: "ieee", not at all, or "tf32".

    PyTorch rounds those of convolutions to TF32 unless it is told otherwise, by a thousandth of what comes out: far
    more than what tells a right program from a wrong one. On a CPU it changes nothing.
    """
    cudnn: Any = torch.backends.cudnn
    settings = cudnn.conv, torch.backends.cuda.matmul
    before = [each.fp32_precision for each in settings]
    for each in settings:
        each.fp32_precision = precision
    try:
        yield
    finally:
        for each, value in zip(settings, before, strict=True):
            each.fp32_precision = value


def products_in(precision: str) -> AbstractContextManager[None]:
    """Within, float32 products are those of an engine's precision: TF32 in all of them, or in none."""
    return float32_products("tf32" if precision == "tf32" else "ieee")
