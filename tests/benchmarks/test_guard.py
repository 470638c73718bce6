"""No kernel takes more instructions than benchmarks/guard/counts.json says; and one that does would be noticed."""

import json
import shutil
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "build" / "guard"  # compiled kernels stay there, by their contents


@pytest.fixture
def guard(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks" / "guard"))
    import guard as module

    yield module
    del sys.modules["guard"]


def stored() -> dict[str, int]:
    return json.loads((ROOT / "benchmarks" / "guard" / "counts.json").read_text())["instructions"]


def test_no_kernel_got_slower(guard) -> None:
    reason = guard.why_not() or guard.other_compiler()
    if reason:
        pytest.skip(reason)
    worse, _ = guard.changes(stored(), guard.count(guard.build(FOLDER), FOLDER))
    assert not worse, "\n".join([*worse, guard.WHAT_TO_DO])


def test_a_slower_kernel_is_noticed(guard, tmp_path) -> None:
    """One file optimised less than the others: its kernels take more instructions, the others do not."""
    if guard.why_not():
        pytest.skip(guard.why_not())
    shutil.copytree(ROOT / "kernels", tmp_path / "kernels", ignore=shutil.ignore_patterns("*.py", "*.cu*"))
    before = guard.count(guard.build(FOLDER), FOLDER)
    slowed = tmp_path / "kernels" / "reduce" / "cpu.cpp"
    slowed.write_text('#pragma GCC optimize("O1")\n' + slowed.read_text())
    program = guard.build(FOLDER, tmp_path / "kernels")
    after = guard.count(program, FOLDER)
    worse, _ = guard.changes(before, after)
    assert worse
    assert all(said.startswith("reduce") for said in worse)
    name = worse[0].partition(":")[0]
    assert f"{before[name]} -> {after[name]} instructions" in worse[0]


def test_what_counts_as_a_change(guard) -> None:
    old = {"a": 1000, "b": 1000, "c": 1000, "gone": 1}
    worse, better = guard.changes(old, {"a": 1019, "b": 1021, "c": 500, "new": 1})
    assert worse == [
        "b: 1000 -> 1021 instructions, +2.1%.",
        "gone: only in counts.json.",
        "new: only in kernels.cpp.",
    ]
    assert better == ["c: 1000 -> 500 instructions, -50.0%."]


def test_where_nothing_can_be_counted_a_sentence_says_so(guard, monkeypatch) -> None:
    monkeypatch.setattr(guard.shutil, "which", lambda name: None if name == "valgrind" else f"/usr/bin/{name}")
    assert guard.why_not() == "valgrind is not installed, so no instructions can be counted."
    monkeypatch.setattr(guard, "compiler", lambda: "g++ 99")
    assert "this is g++ 99" in guard.other_compiler()
