"""What the cpu engine refuses, in one sentence each: plans and requests by which it would read or write elsewhere."""

import copy
import re
from typing import Any

import numpy as np
import pytest

from genfast.compiler.schedule import schedule
from tests.sampling.cpu_engine import CASES

_C = pytest.importorskip("genfast._C")
from genfast.sampling.cpu import specification  # noqa: E402


def edit(spec: dict[str, Any], path: tuple[Any, ...], value: Any) -> dict[str, Any]:
    spec = copy.deepcopy(spec)
    place: Any = spec
    for key in path[:-1]:
        place = place[key]
    if value is KeyError:
        del place[path[-1]]
    else:
        place[path[-1]] = value
    return spec


def kernel_of(spec: dict[str, Any], kind: str) -> int:
    return next(i for i, k in enumerate(spec["kernels"]) if k["head"]["kind"] == kind)


def bad_specifications() -> list[tuple[str, dict[str, Any]]]:
    spec = specification(schedule(CASES[2]))
    linear, copying = kernel_of(spec, "linear"), kernel_of(spec, "copy")
    lookup, reduce, attend = kernel_of(spec, "lookup"), kernel_of(spec, "reduce"), kernel_of(spec, "attend")
    lists = spec["kernels"][attend]["head"]
    gated = next(i for i, k in enumerate(spec["kernels"]) if len(k["body"]) > 2)
    integers = lambda *numbers: np.array(numbers, np.int32)  # noqa: E731
    edits: list[tuple[tuple[Any, ...], Any]] = [
        (("levels",), 257),
        (("levels",), 0),
        (("levels",), "two"),
        (("levels",), KeyError),
        (("likelihood",), "categorical"),
        (("likelihood", "name"), "poisson"),
        (("likelihood", "name"), "bernoulli"),
        (("likelihood", "name"), "logistic_mixture"),
        (("likelihood", "name"), "function"),
        (("likelihood",), {"name": "function", "whole_pixels": True, "uniforms": 3, "sample": None}),
        (("likelihood",), {"name": "function", "whole_pixels": True, "uniforms": 0, "sample": len}),
        (("likelihood",), {"name": "logistic_mixture", "components": 0, "min_log_scale": -7.0}),
        (("image_shape",), integers(3, 4)),
        (("image_shape",), integers(3, 4, 6)),
        (("image_shape",), integers(3, 0, 5)),
        (("image_shape",), np.array([3, 4, 5])),
        (("ticks",), -1),
        (("ticks",), 3),
        (("inputs",), integers(0, 1)),
        (("inputs",), integers(0, 1, 99)),
        (("inputs",), integers(0, 1, -1)),
        (("conditions",), integers(1000)),
        (("draws",), spec["draws"][:2]),
        (("draws", 0, "width"), 6),
        (("draws", 0, "value"), 0),
        (("draws", 0, "at"), spec["draws"][0]["at"] - 1),
        (("draw_tick",), spec["draw_tick"] - 1),
        (("draw_tick",), spec["draw_tick"] + 1),
        (("draw_tick",), spec["draw_tick"][:, 1:].copy()),
        (("launches",), spec["launches"][::-1].copy()),
        (("launches",), spec["launches"][:, :3].copy()),
        (("launches",), spec["launches"] + integers(0, 100, 0, 0)),
        (("launches",), spec["launches"] + integers(0, 0, 0, 1)),
        (("launches",), spec["launches"] - integers(0, 0, 1, 0)),
        (("launches",), spec["launches"].astype(np.int64)),
        (("values", 0, "channels"), 0),
        (("values", 0, "channels"), 2),
        (("values", 3, "channels"), -4),
        (("values", 0, "slots"), 0),
        (("values", 0, "slots"), 2**40),
        (("values", 0, "slot"), integers(0)),
        (("values", 0, "slot"), spec["values"][0]["slot"] - 2),
        (("values", 0), 7),
        (("kernels", linear, "order"), spec["kernels"][linear]["order"] + 9999),
        (("kernels", linear, "positions"), -1),
        (("kernels", linear, "positions"), 3),
        (("kernels", linear, "reads", 0, "at"), integers(0)),
        (("kernels", linear, "reads", 0, "at"), spec["kernels"][linear]["reads"][0]["at"] + 1000),
        (("kernels", linear, "reads", 0, "at"), spec["kernels"][linear]["reads"][0]["at"] - 5),
        (("kernels", linear, "reads", 0, "value"), -1),
        (("kernels", linear, "reads", 0, "start"), 2**31 - 1),
        (("kernels", linear, "reads", 0, "start"), -1),
        (("kernels", linear, "reads", 0, "width"), 2**31 - 1),
        (("kernels", linear, "reads", 0, "width"), 0),
        (("kernels", linear, "head", "bias"), 50),
        (("kernels", linear, "head", "bias"), -1),
        (("kernels", linear, "head", "width"), 0),
        (("kernels", linear, "head", "width"), 2**40),
        (("kernels", linear, "head", "kind"), "conv"),
        (("kernels", linear, "head", "weight"), np.zeros((3, 3), np.float32)),
        (("kernels", linear, "head"), None),
        (("kernels", linear, "head", "weight"), spec["kernels"][linear]["head"]["weight"].astype(np.float64)),
        (("kernels", linear, "head", "reads", 0, "from"), "slice"),
        (("kernels", linear, "head", "reads", 0, "from"), "constant"),
        (("kernels", linear, "head", "reads", 0, "index"), 99),
        (("kernels", linear, "stores"), integers(0)),
        (("kernels", linear, "stores"), np.array([[0, 3]], np.int32)),
        (("kernels", linear, "stores"), np.array([[99, 3, 0]], np.int32)),
        (("kernels", linear, "stores"), np.array([[0, 0, 0]], np.int32)),
        (("kernels", linear, "stores"), np.array([[0, -1, 0]], np.int32)),
        (("kernels", linear, "stores"), spec["kernels"][linear]["stores"] + np.array([0, 0, 1], np.int32)),
        (("kernels", linear, "stores"), spec["kernels"][linear]["stores"] - np.array([0, 0, 1], np.int32)),
        (("kernels", linear, "part"), integers(0)),
        (("kernels", linear, "part"), spec["kernels"][linear]["part"] - 1),
        (("kernels", linear, "part"), spec["kernels"][linear]["part"] + 2**30),
        (("kernels", linear, "early"), "no"),
        (("kernels", linear, "constants", 0, "which"), integers(0)),
        (("kernels", linear, "constants", 0, "which"), np.full(20, 9, np.int32)),
        (("kernels", linear, "constants", 0, "which"), np.full(20, -1, np.int32)),
        (("kernels", linear, "constants", 0, "rows"), np.zeros((1, 0), np.float32)),
        (("kernels", copying, "head", "starts"), integers(0)),
        (("kernels", copying, "head", "starts"), np.full(6, -1, np.int32)),
        (("kernels", copying, "head", "starts"), np.full(6, 2**31 - 1, np.int32)),
        (("kernels", lookup, "head", "weight"), np.zeros((0, 5), np.float32)),
        (("kernels", lookup, "head", "reads"), []),
        (("kernels", reduce, "head", "reduce"), "mean"),
        (("kernels", reduce, "head", "width"), 3),
        (("kernels", reduce, "head", "reads"), []),
        (("kernels", attend, "head", "reads"), []),
        (("kernels", attend, "head", "width"), 7),
        (("kernels", attend, "head", "heads"), 0),
        (("kernels", attend, "head", "heads"), 3),
        (("kernels", attend, "head", "heads"), 2**40),
        (("kernels", attend, "head", "scale"), "one"),
        (("kernels", attend, "head", "key"), KeyError),
        (("kernels", attend, "head", "key", "value"), 1000),
        (("kernels", attend, "head", "key", "start"), 2**31 - 1),
        (("kernels", attend, "head", "key", "width"), 2**31 - 1),
        (("kernels", attend, "head", "key", "at"), lists["key"]["at"] - 1),
        (("kernels", attend, "head", "key", "at"), lists["key"]["at"][1:].copy()),
        (("kernels", attend, "head", "key", "at"), lists["key"]["at"] + 1000),
        (("kernels", attend, "head", "value", "at"), lists["value"]["at"] - 1),
        (("kernels", attend, "head", "value", "at"), lists["value"]["at"] + 1000),
        (("kernels", attend, "head", "first"), lists["first"][1:].copy()),
        (("kernels", attend, "head", "first"), lists["first"][::-1].copy()),
        (("kernels", attend, "head", "first"), lists["first"] + 1),
        (("kernels", attend, "head", "first"), lists["first"] * 2**40),
        (("kernels", attend, "head", "bias"), lists["bias"][1:].copy()),
        (("kernels", gated, "body", 0, "op"), "system"),
        (("kernels", gated, "body", 0, "args"), []),
        (("kernels", gated, "body", 0, "width"), 0),
        (("kernels", gated, "body", 0, "width"), 2**31 - 1),
        (("kernels", gated, "body", 0, "args", 0, "index"), 1),
        (("kernels", gated, "body", 0, "args", 0, "index"), -1),
        (("kernels", gated, "body", 0, "args", 0, "start"), 2**31 - 1),
        (("kernels", gated, "body", 0, "args", 0, "width"), 2),
        (("kernels", gated, "body", 1), {}),
        (("kernels",), {}),
        (("values",), None),
    ]
    return [(f"{'.'.join(map(str, path))}={str(value)[:20]!r}", edit(spec, path, value)) for path, value in edits]


def refusal(spec: dict[str, Any]) -> str:
    try:
        _C.Engine(spec)
    except ValueError as error:
        return str(error)
    return "It was accepted"  # without a full stop


def test_bad_specifications_are_refused_in_one_sentence() -> None:
    for name, spec in bad_specifications():
        assert re.fullmatch(r"[^\n]+\.", refusal(spec)), name


def test_random_damage_to_the_tables_never_crashes() -> None:
    """Either it is refused, or it runs to some end: nothing is read or written outside the engine's memory."""
    rng = np.random.default_rng(0)
    spec = specification(schedule(CASES[0]))
    accepted = 0
    for _ in range(300):
        broken = copy.deepcopy(spec)
        tables: list[np.ndarray] = [broken["launches"], broken["draw_tick"], *(v["slot"] for v in broken["values"])]
        for k in broken["kernels"]:
            tables += [k["order"], k["part"], k["stores"]]
            tables += [*(r["at"] for r in k["reads"]), *(c["which"] for c in k["constants"])]
            if k["head"]["kind"] == "attend":
                tables += [k["head"]["key"]["at"], k["head"]["value"]["at"], k["head"]["first"]]
        table = tables[rng.integers(len(tables))].reshape(-1)
        if len(table):
            table[rng.integers(len(table))] += rng.choice([-1, 1, 7, -1000, 2**30])
        try:
            engine = _C.Engine(broken)
            run_raw(engine, int(rng.integers(1, 4)), threads=int(rng.integers(1, 4)))
            accepted += 1
        except ValueError:
            pass
    assert 0 < accepted < 300


def run_raw(engine: Any, n: int = 3, **changes: Any) -> Any:
    shape = (n, 1, 5, 6)
    arguments: dict[str, Any] = {
        "images": np.zeros(shape, np.int32),
        "known": np.zeros((n, 30), np.uint8),
        "uniforms": np.full((n, 1, 30), 0.5),
        "conditions": [np.zeros((n, 1, 3), np.float32)],
    }
    run = engine.start(**{**arguments, **changes})
    run.until_row(4)
    return run


@pytest.mark.parametrize(
    "changes",
    [
        {"images": np.zeros((3, 1, 5, 7), np.int32)},
        {"images": np.zeros((3, 1, 5, 6))},
        {"images": None},
        {"images": np.zeros((3, 1, 6, 5), np.int32).transpose(0, 1, 3, 2)},
        {"images": np.zeros((2, 1, 5, 6), np.int32)},
        {"known": np.zeros((3, 29), np.uint8)},
        {"known": np.zeros((3, 30), bool)},
        {"uniforms": np.full((3, 1, 30), 1.0)},
        {"uniforms": np.full((3, 1, 30), np.nan)},
        {"uniforms": np.full((3, 1, 30), -0.1)},
        {"uniforms": np.zeros((3, 30))},
        {"uniforms": np.zeros((3, 1, 30), np.float32)},
        {"conditions": []},
        {"conditions": [np.zeros((3, 1, 4), np.float32)]},
        {"conditions": [np.zeros((3, 1, 3))]},
        {"conditions": [None]},
        {"temperature": -1.0},
        {"temperature": np.nan},
        {"temperature": np.inf},
        {"top_k": -1},
        {"top_p": 0.0},
        {"top_p": 1.5},
        {"top_p": np.nan},
        {"threads": 0},
        {"threads": 10**6},
        {"log_probs": np.zeros((3, 1, 29))},
        {"params": np.zeros((3, 1, 30, 2), np.float32)},
        {"known": np.ones((3, 30), np.uint8), "images": np.full((3, 1, 5, 6), 2, np.int32)},
    ],
    ids=lambda changes: "-".join(changes),
)
def test_bad_requests_are_refused_in_one_sentence(changes: dict[str, Any]) -> None:
    engine = _C.Engine(specification(schedule(CASES[0])))
    with pytest.raises(ValueError, match=r"^[^\n]+\.$"):
        run_raw(engine, **changes)


def test_results_must_be_writable() -> None:
    engine = _C.Engine(specification(schedule(CASES[0])))
    images = np.zeros((3, 1, 5, 6), np.int32)
    images.flags.writeable = False
    with pytest.raises(ValueError, match="written"):
        run_raw(engine, images=images)
