"""attend in Triton against float64: ``python attend_triton_checks.py`` in a process where it is interpreted prints a
line of JSON, check -> what failed or ""; ``run_table`` runs the same checks on a GPU."""

import json
import math
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from genfast.kernels.attend import triton_launch as attention
from tests.kernels.apart import attempt, hasten_interpreter, prepare
from tests.kernels.attend_cases import SIZES, assert_only_what_is_seen_is_read, case, exact_and_budget, expected

PLACES = (3, 2, 5)  # columns before query, key and value in their rows: neither begins where its row does


def attend(c: dict[str, Any], device: str, longest: int = 0) -> np.ndarray:
    """The case as the second of two positions, all that is not asked for filled with NaN; the first sees nothing.
    longest: keys that the launch goes through, if more than there are."""
    n = c["query"].shape[0]
    q, k, v = (c[name].shape[-1] + place for name, place in zip(("query", "key", "value"), PLACES, strict=True))
    slots, count = c["key"].shape[0], len(c["key_at"])
    regions = [0, 2 * q, 2 * q + slots * k, 2 * q + slots * (k + v)]  # of queries, keys, values and results
    arena = torch.full((n * (regions[3] + 2 * v),), math.nan)
    arena[: 2 * n * q].view(2, n, q)[1, :, PLACES[0] :] = torch.from_numpy(c["query"])
    for name, at, place, stride in (("key", 1, PLACES[1], k), ("value", 2, PLACES[2], v)):
        rows = arena[n * regions[at] :][: slots * n * stride].view(slots, n, stride)
        rows[:, :, place:] = torch.from_numpy(c[name])
    biases = [np.zeros(1), *([] if c["bias"] is None else [c["bias"].reshape(-1)])]
    table = np.array([[-1, q], [0, 0], [0, count], [regions[3], regions[3] + v]])  # query, first, keys, result
    lists = [table.reshape(-1), c["key_at"], c["value_at"]]
    tables = torch.from_numpy(np.concatenate(lists).astype(np.int32))
    constants = attention.Constants(
        c["heads"], (k - PLACES[1]) // c["heads"], (v - PLACES[2]) // c["heads"], c["scale"], (0, q, PLACES[0]), 1, 2,
        (k, PLACES[1]), (v, PLACES[2]), c["bias"] is not None, ((3, v, PLACES[2]),), count,
    )  # fmt: skip
    numbers = attention.Numbers(
        0, 2, 0, 2, table.size, table.size + count, regions[1], regions[2], 1 if c["bias"] is not None else 0
    )
    floats = torch.from_numpy(np.concatenate(biases)).float()
    there: list[Tensor] = [t.to(device) for t in (arena, floats, tables)]
    launch = attention.launch(there[0], there[1], there[2], constants, numbers, max(count, longest), n)
    launch.run(there[0].device)
    result = there[0].cpu()[n * regions[3] :].view(2, n, v)
    assert torch.isnan(result[:, :, : PLACES[2]]).all(), "it wrote outside of its columns."
    assert (result[0, :, PLACES[2] :] == 0).all(), "a query without a key gives zeros."
    return result[1, :, PLACES[2] :].numpy()


def check_size(device: str, *size: int) -> None:
    """Also that a block of keys past the last changes nothing, and that an image is the same alone, to the bit."""
    c = case(*size)
    exact, budget = exact_and_budget(c)
    got = attend(c, device)
    off = np.abs(got - exact).max()
    assert off <= budget, f"off by {off}, of which {budget} are allowed."
    m = size[0] - 1
    one = {name: np.ascontiguousarray(c[name][:, m:]) for name in ("key", "value")}
    alone = attend({**c, **one, "query": c["query"][m:]}, device, 2 * size[2])
    assert alone[0].tobytes() == got[m].tobytes()


def check_not_a_number(device: str) -> None:
    assert_only_what_is_seen_is_read(lambda c: attend(c, device))


def check_large_scores(device: str) -> None:
    """The largest is subtracted first, also where it comes in a later block of keys; minus infinity weighs nothing."""
    c = case(2, 301, 300, 1, 4, 5) | {"scale": 1e4}
    np.testing.assert_allclose(attend(c, device), expected(c, torch.float64), rtol=1e-5, atol=1e-6)
    c["scale"] = 1.0
    c["bias"][:, :200] = -np.inf
    np.testing.assert_allclose(attend(c, device), expected(c, torch.float64), rtol=1e-5, atol=1e-6)


def checks(device: str) -> list[tuple[Any, ...]]:
    found: list[tuple[Any, ...]] = [(str(size), check_size, device, *size) for size in SIZES]
    found += [("several blocks and tiles", check_size, device, 2, 290, 280, 2, 70, 140)]
    return [*found, ("nan", check_not_a_number, device), ("large scores", check_large_scores, device)]


def names() -> list[str]:
    return [name for name, *_ in checks("cpu")]


def run_table(device: str) -> dict[str, str]:
    results: dict[str, str] = {}
    for name, check, *values in checks(device):
        function: Callable[..., None] = check
        attempt(results, name, function, *values)
    return results


if __name__ == "__main__":
    prepare()
    hasten_interpreter()
    print(json.dumps(run_table("cpu")), file=sys.stdout)
