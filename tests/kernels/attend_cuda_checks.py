"""What attend in CUDA C++ must do, on the CPU: tests/emulation/attend.cu calls it as the cuda engine does.

The tests run ``python attend_cuda_checks.py emulated library [barriers ...]`` (apart.py).
"""

import ctypes
import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from genfast.kernels.attend.reference import attend as reference
from tests.kernels.apart import attempt, pointer, prepare
from tests.kernels.needed import needed


class Asked(ctypes.Structure):
    """Asked in tests/emulation/attend.cu."""

    _fields_ = (
        *((name, ctypes.c_void_p) for name in (
            "query", "keys", "values", "bias", "there", "key_at", "value_at", "begin"
        )),
        *((name, ctypes.c_int32) for name in (
            "positions", "images", "heads", "depth", "width", "most", "keys_at_a_time", "slices", "vectors"
        )),
        ("scale", ctypes.c_float),
        *((name, ctypes.c_void_p) for name in ("scores", "states", "sums", "out")),
    )  # fmt: skip


@dataclass
class Case:
    """Queries of several positions, each of all images. seen: for each position the slots of keys and of values."""

    query: Tensor  # [positions, images, heads * depth]
    key: Tensor  # [slots, images, heads * depth]
    value: Tensor  # [slots, images, heads * width]
    seen: list[tuple[Tensor, Tensor]]
    bias: list[Tensor] | None  # for each position [heads, keys]
    there: Tensor  # bool [positions]: where not, the query is zeros
    heads: int
    scale: float = 1.3


@dataclass
class Way:
    """How it is computed."""

    keys: int
    slices: int
    threads: int = 16
    vectors: bool = False


def case(images: int, counts: tuple[int, ...], heads: int, depth: int, width: int, bias: bool = False) -> Case:
    """Each position sees so many keys; with biases every third of them has no value, and the last of several positions
    asks nothing."""
    generator = torch.Generator().manual_seed(images + sum(counts))
    slots = max(counts) + 3

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    def some(count: int) -> Tensor:
        return torch.randperm(slots, generator=generator)[:count].int()

    seen = [(some(count), some(count)) for count in counts]
    there = torch.ones(len(counts), dtype=torch.bool)
    if bias:
        for _, terms in seen:
            terms[::3] = -1
        there[-1] = len(counts) == 1
    return Case(
        normal(len(counts), images, heads * depth),
        normal(slots, images, heads * depth),
        normal(slots, images, heads * width),
        seen,
        [normal(heads, count) for count in counts] if bias else None,
        there,
        heads,
    )


def expected(c: Case, dtype: torch.dtype) -> Tensor:
    """[positions, images, heads * width]"""
    rows = []
    for p, (keys, terms) in enumerate(c.seen):
        query = c.query[p : p + 1].to(dtype) * c.there[p]
        value = c.value.to(dtype)[terms.long().clamp(min=0)].masked_fill((terms < 0)[:, None, None], 0)
        seen = torch.ones(1, len(keys), dtype=torch.bool)
        bias = None if c.bias is None else c.bias[p][None].to(dtype)
        rows.append(reference(query, c.key.to(dtype)[keys.long()][None], value[None], seen, c.heads, c.scale, bias))
    return torch.cat(rows)


def emulated(library: ctypes.CDLL, c: Case, way: Way) -> Tensor:
    (positions, images, wide), heads = c.query.shape, c.heads
    depth, width = wide // heads, c.value.shape[2] // heads
    counts = [len(keys) for keys, _ in c.seen]
    rows, fours = positions * images, (width + 3) // 4 * 4
    tensors: dict[str, Tensor | None] = {
        "query": c.query,
        "keys": c.key,
        "values": c.value,
        "bias": None if c.bias is None else torch.cat([b.flatten() for b in c.bias]),
        "there": c.there,
        "key_at": torch.cat([keys for keys, _ in c.seen]),
        "value_at": torch.cat([terms for _, terms in c.seen]),
        "begin": torch.tensor([0, *counts]).cumsum(0).int(),
        "scores": torch.empty(rows, heads * way.keys),
        "states": torch.empty(rows, 2, way.slices, heads, 2),
        "sums": torch.empty(rows, way.slices, heads, fours),
        "out": torch.empty(positions, images, heads * width),
    }
    tensors = {name: None if t is None else t.contiguous() for name, t in tensors.items()}
    sizes = (positions, images, heads, depth, width, max(counts), way.keys, way.slices, way.vectors)
    numbers = dict(zip((name for name, kind in Asked._fields_ if kind is ctypes.c_int32), sizes, strict=True))
    asked = Asked(**{name: pointer(t) for name, t in tensors.items()}, **numbers, scale=c.scale)
    assert library.genfast_attend(ctypes.byref(asked), way.threads) == 0
    out = tensors["out"]
    assert out is not None
    return out


# ---- checks ----

# images, keys that each position sees, heads, depth, width
SIZES = [
    (1, (1,), 1, 1, 1), (3, (5, 9), 1, 16, 32), (2, (33,), 2, 5, 3), (5, (16, 0, 3), 4, 8, 4), (1, (65, 70), 1, 17, 33),
    (2, (0,), 2, 4, 4), (7, (12,), 1, 3, 20), (1, (150,), 2, 4, 8), (1, (20,), 12, 1, 1),
]  # fmt: skip
WAYS = [Way(200, 4), Way(200, 1), Way(8, 3), Way(5, 5, threads=33), Way(1, 1), Way(64, 32, threads=7)]


def ways(c: Case) -> Iterator[Way]:
    """Also by vectors where the sizes are multiples of four."""
    fours = all(t.shape[2] // c.heads % 4 == 0 for t in (c.key, c.value))
    for way in WAYS:
        yield from (replace(way, vectors=v) for v in ((False, True) if fours else (False,)))


def check_numbers(library: ctypes.CDLL, size: tuple[Any, ...], bias: bool) -> None:
    """Against float64, however many keys are scored at a time, and in however many slices."""
    c = case(*size, bias=bias)
    exact, plain = expected(c, torch.float64), expected(c, torch.float32)
    budget = 4 * (plain - exact).abs().max() + 1e-6 * exact.abs().max().clamp(min=1)
    for way in ways(c):
        got = emulated(library, c, way)
        assert (got - exact).abs().max() <= budget, way


def check_bits(library: ctypes.CDLL, size: tuple[Any, ...]) -> None:
    """A query is the same alone, and with any number of threads, wherever its keys and values lie."""
    c = case(*size, bias=True)
    assert c.bias is not None
    for way in (Way(8, 3), Way(200, 4)):
        whole = emulated(library, c, way)
        assert torch.equal(emulated(library, c, replace(way, threads=5)), whole)
        last = len(c.key) - 1
        moved = [(last - keys, torch.where(terms < 0, -1, last - terms)) for keys, terms in c.seen]
        elsewhere = replace(c, key=c.key.flip(0), value=c.value.flip(0), seen=moved)
        assert torch.equal(emulated(library, elsewhere, way), whole)
        for p, seen in enumerate(c.seen):
            for m in range(c.query.shape[1]):
                own, caches = (slice(p, p + 1), slice(m, m + 1)), (slice(None), slice(m, m + 1))
                alone = replace(
                    c, query=c.query[own], key=c.key[caches], value=c.value[caches], seen=[seen], bias=[c.bias[p]],
                    there=c.there[own[0]],
                )  # fmt: skip
                assert torch.equal(emulated(library, alone, way), whole[own])


def check_nan(library: ctypes.CDLL) -> None:
    """Slots that nothing sees may hold anything; NaN that is seen is never lost, and reaches no other image or head."""
    c = case(3, (9,), 2, 6, 7, bias=True)
    keys, terms = c.seen[0]
    for way in (Way(200, 4), Way(4, 2)):
        whole = emulated(library, c, way)
        key, value = torch.full_like(c.key, torch.nan), torch.full_like(c.value, torch.nan)
        key[keys.long()] = c.key[keys.long()]
        there = terms[terms >= 0].long()
        value[there] = c.value[there]
        assert torch.equal(emulated(library, replace(c, key=key, value=value), way), whole)
        key[keys[5], 1, 0] = torch.nan
        got = emulated(library, replace(c, key=key), way)[0]
        assert got[1, :7].isnan().all()
        assert torch.equal(got[1, 7:], whole[0, 1, 7:])
        assert torch.equal(got[[0, 2]], whole[0, [0, 2]])
        value[there[3], 1, 0] = torch.nan
        got = emulated(library, replace(c, value=value), way)[0]
        assert got[1, 0].isnan()
        assert torch.equal(got[1, 1:], whole[0, 1, 1:])
        assert torch.equal(got[[0, 2]], whole[0, [0, 2]])


def check_extremes(library: ctypes.CDLL) -> None:
    """The largest score is subtracted first; a bias of minus infinity hides a key, and of all keys gives NaN, as a
    softmax does."""
    large = replace(case(2, (12, 30), 1, 4, 5), scale=1e4)
    hidden, nothing = (case(2, (12, 30), 2, 4, 5, bias=True) for _ in range(2))
    assert hidden.bias is not None
    assert nothing.bias is not None
    hidden.bias[1][0, :20] = hidden.bias[0][1, 1::2] = -torch.inf
    nothing.bias[1][1] = -torch.inf
    for c in (large, hidden, nothing):
        exact = expected(c, torch.float64)
        for way in ways(c):
            torch.testing.assert_close(
                emulated(library, c, way).double(), exact, rtol=2e-5, atol=2e-6, equal_nan=c is nothing
            )
    assert expected(nothing, torch.float64).isnan().sum() == 2 * 5


Check = Callable[..., None]


def checks(quick: bool = False) -> list[tuple[str, Check, Any]]:
    """Quick: each barrier is needed by one of these."""
    found: list[tuple[str, Check, Any]] = []
    for size in SIZES[1:3] if quick else SIZES:
        found += [(f"{size}-{bias}", check_numbers, (size, bias)) for bias in (False, True)]
    if quick:
        return found
    found += [(f"{size}-bits", check_bits, (size,)) for size in (SIZES[1], SIZES[3])]
    return [*found, ("nan", check_nan, ()), ("extremes", check_extremes, ())]


def names() -> list[str]:
    return [name for name, *_ in checks()]


def run_table(library: ctypes.CDLL, quick: bool = False) -> dict[str, str]:
    results: dict[str, str] = {}
    for name, check, rest in checks(quick):
        attempt(results, name, check, library, *rest)
    return results


def main(arguments: list[str]) -> None:
    prepare()
    library = ctypes.CDLL(arguments[1])
    if "barriers" in arguments:
        print(json.dumps(needed(arguments[1], arguments[3:], lambda: run_table(library, quick=True))))
    else:
        print(json.dumps(run_table(library)))


if __name__ == "__main__":
    main(sys.argv[1:])
