"""What the machine can do, for the floors: measured again for each case, of which the best counts."""

import time
from collections.abc import Callable
from typing import Any

import torch
from passes import products_in

from genfast.profiling.ceilings import copy_rate, exponential_rate, product_rate

BEST: dict[tuple[str, str], float] = {}


def best_of_all(name: str, device: str, measure: Callable[[], float]) -> float:
    """The best rate of this name in this run; other work on the machine only ever takes away."""
    turns = 1 if (name, device) in BEST else 4
    BEST[name, device] = max(BEST.get((name, device), 0.0), *(measure() for _ in range(turns)))
    return BEST[name, device]


def peak(device: str = "cpu", precision: str = "float32") -> float:
    """FLOP/s of a large matrix product; precision: "float32", "tf32" (on a GPU) or "bfloat16"."""
    n = 8192
    dtype = torch.bfloat16 if precision == "bfloat16" else torch.float32

    def measured() -> float:
        if device == "cpu":
            return product_rate(precision=precision)
        with products_in(precision):
            return 2 * n**3 / on_gpu(torch.matmul, n, dtype)

    return best_of_all(peak_name(precision), device, measured)


def peak_name(precision: str) -> str:
    """As ``known`` takes it."""
    return "peak" if precision == "float32" else f"peak, {precision}"


def bandwidth(device: str = "cpu") -> float:
    """Bytes a second, read and written, of a large copy."""
    n = 8192
    return best_of_all(
        "copy", device, lambda: copy_rate() if device == "cpu" else 8 * n**2 / on_gpu(lambda a, b: a.copy_(b), n)
    )


def exponentials(device: str = "cpu") -> float:
    """A second, in cache."""
    n, times = 512, 64

    def many(a: torch.Tensor, b: torch.Tensor) -> None:
        for _ in range(times):
            torch.exp(a, out=b)

    return best_of_all("exp", device, lambda: exponential_rate() if device == "cpu" else times * n**2 / on_gpu(many, n))


def known(device: str, **names: tuple[str, float, int]) -> dict[str, float]:
    """Rates of this run as they are reported: name=(what, unit, digits)."""
    return {
        name: round(BEST[what, device] / unit, digits)
        for name, (what, unit, digits) in names.items()
        if (what, device) in BEST
    }


def on_gpu(function: Callable[[torch.Tensor, torch.Tensor], Any], n: int, dtype: torch.dtype = torch.float32) -> float:
    """Seconds of the quickest of some calls on two n x n matrices."""
    a, b = (torch.ones(n, n, dtype=dtype, device="cuda") for _ in range(2))
    best = float("inf")
    for _ in range(10):
        torch.cuda.synchronize()
        start = time.perf_counter()
        function(a, b)
        torch.cuda.synchronize()
        best = min(best, time.perf_counter() - start)
    return best
