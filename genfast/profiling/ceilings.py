"""What this machine can do, measured: matrix products, copies and reads at several sizes, exponentials.

What lives in a core's own caches is measured on one thread and multiplied by the threads; what shares a cache or the
memory, on all threads at once, each with its own clock, their best rates added up. So no turn waits for a thread that
other work on the machine has put aside. A ceiling is never below what was measured: for a working set of some size it
is the best rate seen at the measured size below it or at any larger one, so that more than 100 percent is noise.
"""

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from genfast.profiling.units import KIB, MIB, size_name

PRODUCTS = (256, 512, 1536)  # n of n x n @ n x n: within an L2 cache, about its size, far beyond it
WORKING_SETS = (16 * KIB, 512 * KIB, 8 * MIB, 128 * MIB)  # bytes a thread: in L1, in L2, in L3, in memory
LARGE = max(WORKING_SETS)
BUDGET = 20.0  # seconds for all turns of what is profiled
OWN = 1 * MIB  # a core has this much cache to itself
A_CALL = 16 * MIB  # bytes that one call reads, so that the call itself does not count
Rates = tuple[tuple[int, float], ...]  # (size, rate), sizes rising


@dataclass(frozen=True)
class Ceilings:
    """threads: how many worked. products: FLOP/s of a matrix product by its n; copies, reads: bytes a second (a copy
    counts what it reads and what it writes) by the bytes that a thread goes over again and again. exponentials: a
    second, in cache. precision: of the products, "float32" or "bfloat16"."""

    threads: int
    precision: str
    products: Rates
    copies: Rates
    reads: Rates
    exponentials: float

    @property
    def peak(self) -> float:
        """FLOP/s."""
        return max(rate for _, rate in self.products)

    def bandwidth(self, total: int) -> float:
        """Bytes a second of work that goes over so many bytes, shared out among the threads."""
        size = total // self.threads
        return max(at_least(self.copies, size), at_least(self.reads, size))

    def read_bandwidth(self, size: int) -> float:
        """Bytes a second, added up over the threads, of which each reads all of these bytes."""
        return at_least(self.reads, size)

    def best_of(self, other: "Ceilings") -> "Ceilings":
        """The better of two measurements of the same things: other work on the machine only ever takes away."""

        def best(a: Rates, b: Rates) -> Rates:
            return tuple((size, max(x, y)) for (size, x), (_, y) in zip(a, b, strict=True))

        return Ceilings(
            self.threads,
            self.precision,
            best(self.products, other.products),
            best(self.copies, other.copies),
            best(self.reads, other.reads),
            max(self.exponentials, other.exponentials),
        )

    def lines(self) -> list[tuple[str, str]]:
        """What was measured and what came out, for people."""
        products = [(f"{self.precision} product, {n} x {n}", f"{rate / 1e9:.0f} GFLOP/s") for n, rate in self.products]
        moves = [
            (f"{what}, {size_name(size)} a thread", f"{rate / 1e9:.1f} GB/s")
            for what, rates in (("copy", self.copies), ("read", self.reads))
            for size, rate in rates
        ]
        return [*products, *moves, ("exponentials, in cache", f"{self.exponentials / 1e9:.2f} G/s")]


def at_least(rates: Rates, size: int) -> float:
    """The best rate among the largest measured size that is not above this one, and all sizes above that."""
    first = max((i for i, (measured, _) in enumerate(rates) if measured <= size), default=0)
    return max(rate for _, rate in rates[first:])


def best_seconds(function: Callable[[], Any], seconds: float = 0.12, turns: int = 3) -> float:
    """The quickest of at least so many turns, and of as many as fit in the time, after one that does not count."""
    function()
    best, begin, done = float("inf"), time.perf_counter(), 0
    while done < turns or time.perf_counter() - begin < seconds:
        start = time.perf_counter()
        function()
        best = min(best, time.perf_counter() - start)
        done += 1
    return best


def affordable(turns: int, first: float) -> int:
    """So many turns, or as few as two where one takes this many seconds and all would take more than BUDGET."""
    return max(1, min(turns, max(2, int(BUDGET / max(first, 1e-9)))))


def together(make: Callable[[], Callable[[], Any]], threads: int, seconds: float) -> float:
    """1 / seconds of the function that ``make`` makes for each thread, on one core each, added up over the threads."""
    found: list[float] = []
    ready = threading.Barrier(threads)

    def work() -> None:
        torch.set_num_threads(1)
        function = make()
        ready.wait()
        found.append(1 / best_seconds(function, seconds))

    workers = [threading.Thread(target=work) for _ in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return sum(found)


def rate(make: Callable[[], Callable[[], Any]], shared: bool, seconds: float) -> float:
    """Calls a second on all of PyTorch's threads. shared: they get in each other's way, so they must run at once."""
    threads = torch.get_num_threads()
    try:
        return together(make, threads, seconds) if shared else threads * together(make, 1, seconds)
    finally:
        torch.set_num_threads(threads)


def product_rate(n: int = max(PRODUCTS), precision: str = "float32", seconds: float = 0.12) -> float:
    """FLOP/s of matrix products of two n x n matrices on the CPU."""
    dtype = torch.bfloat16 if precision == "bfloat16" else torch.float32

    def make() -> Callable[[], Any]:
        a, b, out = (torch.ones(n, n, dtype=dtype) for _ in range(3))
        return lambda: torch.mm(a, b, out=out)

    return 2 * n**3 * rate(make, False, seconds)


def copy_rate(size: int = LARGE, seconds: float = 0.12) -> float:
    """Bytes a second, read and written, of a copy in which each thread has this many bytes to go over."""
    half = size // 8

    def make() -> Callable[[], Any]:
        source, copied = torch.ones(half), torch.ones(half)
        return lambda: copied.copy_(source)

    return 8 * half * rate(make, size > OWN, seconds)


def read_rate(size: int = LARGE, seconds: float = 0.12) -> float:
    """Bytes a second, added up over the threads, of which each reads the same array of this many bytes.

    A sum over rows that are all the same one: a call goes over the array often enough for the call not to count.
    """
    source = torch.ones(max(size // 4, 16))
    rows = max(1, A_CALL // source.nbytes)

    def make() -> Callable[[], Any]:
        out = torch.empty(rows)
        return lambda: torch.sum(source.expand(rows, -1), 1, out=out)

    return rows * source.nbytes * rate(make, size > OWN, seconds)


def exponential_rate(seconds: float = 0.12) -> float:
    """Exponentials a second, in cache."""
    x = torch.linspace(-5, 5, 1 << 13)

    def make() -> Callable[[], Any]:
        out = torch.empty_like(x)
        return lambda: torch.exp(x, out=out)

    return x.numel() * rate(make, False, seconds)


def measure(precision: str = "float32", more_reads: Sequence[int] = (), seconds: float = 0.12) -> Ceilings:
    """All ceilings on the CPU with PyTorch's threads, in a few seconds.

    more_reads: further sizes in bytes for reads, such as that of all weights of a sampler. seconds: for each rate.
    """
    sizes = sorted({*WORKING_SETS, *(size for size in more_reads if size > 0)})
    return Ceilings(
        torch.get_num_threads(),
        precision,
        tuple((n, product_rate(n, precision, seconds)) for n in PRODUCTS),
        tuple((size, copy_rate(size, seconds)) for size in WORKING_SETS),
        tuple((size, read_rate(size, seconds)) for size in sizes),
        exponential_rate(seconds),
    )
