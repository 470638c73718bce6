"""genfast bench: what it runs, what it says, what it refuses. No time is compared with a clock."""

import json
import os
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import pytest

import genfast
from genfast.cli.main import main

ROOT = Path(__file__).parents[2]


def test_every_suite_has_cases_in_a_quick_run_and_every_operator_is_there(capsys) -> None:
    from cases import SUITES

    assert main(["bench", "--list", "--quick"]) == 0
    quick = capsys.readouterr().out
    assert {line.partition(":")[0] for line in quick.splitlines()} == set(SUITES)
    assert main(["bench", "--list"]) == 0
    every = capsys.readouterr().out.splitlines()
    assert len(every) == len(set(every)) > len(quick.splitlines())
    assert set(quick.splitlines()) < set(every)
    from genfast.ops.backends import OPERATORS

    assert all(any(operator in line for line in every) for operator in OPERATORS)


def test_what_is_refused_in_one_sentence(capsys, monkeypatch, tmp_path) -> None:
    for argv, said in (
        (["--only", "nothing is called so", "-o", str(tmp_path)], "genfast bench --list"),
        (["--threads", "-1"], "must be 0 or more"),
        (["--compare", "HEAD", "--scaling"], "give one of them"),
        (["--device", "cuda", "--cpu-time"], "says nothing of a GPU"),
        (["--compare", "no-such-revision", "-o", str(tmp_path)], "git rev-parse"),
    ):
        assert main(["bench", *argv]) == 2
        error = capsys.readouterr().err
        assert said in error
        assert error.count("\n") == 1
    monkeypatch.setattr(genfast, "__file__", str(tmp_path / "site-packages" / "genfast" / "__init__.py"))
    assert main(["bench", "--quick"]) == 2
    assert "clone the repository" in capsys.readouterr().err


RUN = """
import sys
sys.path[:0] = sys.argv[1:3]
import fake_suite
fake_suite.install()
from pathlib import Path
import cases, run
found = run.measure(cases.Options(), "", 1, False, Path("pytest.json"))
run.write_report(found, Path("bench"))
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A run of the suite of fake_suite.py, in a process of its own, where tests lie whose fixtures would slow it."""
    folder = tmp_path_factory.mktemp("run")
    (folder / "tests").mkdir()
    (folder / "tests" / "conftest.py").write_text("raise RuntimeError('the tests have no say in benchmarks')\n")
    argv = [sys.executable, "-c", RUN, str(ROOT / "benchmarks"), str(Path(__file__).parent)]
    # Told that it is a worker of pytest-xdist, pytest-benchmark measures nothing.
    alone = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_XDIST")}
    done = subprocess.run(argv, cwd=folder, env=alone, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (folder / "said").write_text(done.stdout)
    return folder


def test_ratios_are_those_of_the_fastest_rival_and_in_all_files(folder: Path) -> None:
    values = json.loads((folder / "bench" / "bench.json").read_text())
    (entry,) = values["entries"]
    assert (entry["suite"], entry["title"], entry["part"]) == ("fake", "right one", "forward")
    ratios = {name: ratio["median"] for name, ratio in entry["rivals"].items()}
    assert entry["fastest"] == min(ratios, key=ratios.__getitem__)
    assert all(r["low"] <= r["median"] <= r["high"] for r in entry["rivals"].values())
    assert entry["of_floor"] == pytest.approx(entry["ours"] / 1e-9)
    assert {"cpu", "threads", "torch", "commit", "date"} <= set(values["machine"])
    (theirs,) = json.loads((folder / "pytest.json").read_text())["benchmarks"]
    assert theirs["extra_info"]["rivals"] == entry["rivals"]
    assert theirs["stats"]["rounds"] == entry["turns"]
    assert theirs["stats"]["min"] == pytest.approx(entry["ours"] * entry["calls"])


def test_a_wrong_answer_has_no_time(folder: Path) -> None:
    values = json.loads((folder / "bench" / "bench.json").read_text())
    ((name, why),) = values["wrong"]
    assert "wrong one" in name
    assert "1 is not 2" in why
    assert "wrong one, forward: FAILED" in (folder / "said").read_text()
    page = (folder / "bench" / "report.html").read_text()
    assert "1 is not 2" in page
    assert "What is compared with what" in page
    assert "nan" not in page


def test_results_are_taken_over_whole_or_not_at_all(folder: Path, tmp_path: Path, monkeypatch) -> None:
    import cases
    import fake_suite
    import results

    monkeypatch.setattr(cases, "SUITES", cases.SUITES)
    fake_suite.install()
    monkeypatch.setattr(results, "SUITES", cases.SUITES)
    monkeypatch.setattr(results, "RESULTS", tmp_path)
    values = json.loads((folder / "bench" / "bench.json").read_text())
    parts = [tmp_path / "first", tmp_path / "second"]
    (right,) = values["entries"]
    assert right["table"] == "fake"
    for part, title in zip(parts, ("right one", "wrong one"), strict=True):
        part.mkdir()
        entry = right | {"title": title, "facts": {"size": len(title)}}
        (part / "bench.json").write_text(json.dumps(values | {"wrong": [], "entries": [entry]}))
    assert results.take_over(parts[:1]) == []  # one case is missing
    assert results.take_over(parts) == [tmp_path / "fake.json"]
    rows = json.loads((tmp_path / "fake.json").read_text())["rows"]
    assert [row["size"] for row in rows] == [9, 9]
    assert rows[0]["forward_rival"] == right["fastest"]
    assert rows[0]["more"] == "forward"
    for settings in ({"quick": True}, {"cpu_time": True}, {"device": "cuda"}):
        (parts[0] / "bench.json").write_text(
            json.dumps(values | {"wrong": [], "settings": values["settings"] | settings})
        )
        with pytest.raises(SystemExit, match="full run"):
            results.take_over(parts)
    other = values | {"wrong": [], "machine": values["machine"] | {"commit": "other"}}
    (parts[0] / "bench.json").write_text(json.dumps(other))
    with pytest.raises(SystemExit, match="differ in commit"):
        results.take_over(parts)


def test_turns_are_reversed_and_ratios_taken_turn_by_turn() -> None:
    from harness import ratio_of, take_turns

    order: list[str] = []
    ticks = iter(range(100))
    times = take_turns({"a": lambda: order.append("a"), "b": lambda: order.append("b")}, 3, lambda: float(next(ticks)))
    assert "".join(order) == "ab" + "ab" + "ba" + "ab"
    assert times == {"a": [1.0] * 3, "b": [1.0] * 3}
    ratio = ratio_of([1.0, 2.0, 4.0], [3.0, 6.0, 12.0])  # the machine became busier and busier
    assert asdict(ratio) == {"median": 3.0, "low": 3.0, "high": 3.0, "ours": 1.0, "theirs": 3.0}


class Clocked:
    """pytest-benchmark's fixture, as far as bench.py uses it, on a clock that stands still between calls."""

    def __init__(self) -> None:
        self.now, self.log = 0.0, ""
        self.stats = self
        self.data: list[float] = []

    def clock(self) -> float:
        return self.now

    def taking(self, seconds: float, letter: str):
        def run() -> None:
            self.now += seconds
            self.log += letter

        return run

    def pedantic(self, function, setup, teardown, rounds: int) -> None:
        for _ in range(rounds):
            setup()
            start = self.now
            function()
            self.data.append(self.now - start)
            teardown()


def test_a_share_of_a_rival_counts_as_the_whole() -> None:
    from bench import in_turns
    from cases import Options, Timing

    fake = Clocked()
    timing = Timing(fake.taking(1, "o"), {"loop": fake.taking(2, "s"), "pass": fake.taking(3, "p")}, 0.5,
                    multiples={"loop": 100})  # fmt: skip
    found = in_turns(fake, timing, Options(quick=True), fake.clock)
    assert {name: each["median"] for name, each in found["rivals"].items()} == {"loop": 200, "pass": 3}
    assert (found["fastest"], found["ours"], found["of_floor"]) == ("pass", 1.0, 2.0)


def test_a_gpu_is_waited_for_once_a_turn(monkeypatch) -> None:
    import torch
    from bench import in_turns
    from cases import Options, Timing

    fake = Clocked()
    monkeypatch.setattr(torch.cuda, "synchronize", fake.taking(1e-4, "|"))
    timing = Timing(fake.taking(4e-4, "o"), {"rival": fake.taking(1e-3, "r")})
    found = in_turns(fake, timing, Options(quick=True, device="cuda"), fake.clock)
    calls = found["calls"]
    assert calls == 4  # 0.4 + 0.1 ms are the first call, and 2 ms are a turn
    assert fake.log.startswith("o|o|" + "oooo|" + "rrrr|")
    assert set(fake.log.split("|")[2:]) == {"oooo", "rrrr", ""}
    assert found["ours"] == pytest.approx(4e-4 + 1e-4 / calls)


def test_an_interrupted_run_keeps_what_it_has(monkeypatch, tmp_path, capsys) -> None:
    import run
    from cases import Options

    monkeypatch.setattr(run.pytest, "main", lambda *args, **kwargs: pytest.ExitCode.INTERRUPTED)
    found = run.measure(Options(quick=True), "", 1, False, None)
    assert found.interrupted
    assert found.notes[-1] == "It was interrupted: these are the timings until then."
    monkeypatch.setattr(run, "measure", lambda *args: found)
    assert main(["bench", "--quick", "-o", str(tmp_path / "out")]) == 130
    assert "interrupted" in (tmp_path / "out" / "report.html").read_text()


def test_a_run_of_sampling_becomes_the_table_in_the_readme() -> None:
    """What bench.py finds, through results.py, in the words of report.py."""
    import report
    import results
    import sampling

    def entry(model: str, part: str, median: float, **more: object) -> dict:
        ratio = {"median": median, "low": median / 2, "high": 2 * median, "ours": 1.0, "theirs": median}
        facts = {"model": model, "batch": 4, "target": 0.7}
        found = {"part": part, "facts": facts, "rivals": {"rival": ratio}, "fastest": "rival", "of_floor": 2.0}
        return found | {"left_out": {}, "more": more}

    drawn = {"sampling_over_forward": 0.5, "share_of_peak": 0.6, "loop_over_sampling": 99, "cache_bytes": 2e6}
    narrow = {"bfloat16_over_float32": 0.8}
    model = [entry("a model", "ratio", 2.0, **drawn, compile_seconds=1.5), entry("a model", "bfloat16", 1.25, **narrow)]
    rows = [results.row_of(model), results.row_of([entry(sampling.WHOLE, "ratio", 36.04)])]
    machine = {name: "x" for name in ("cpu", "threads", "cores", "instruction_set", "torch", "commit", "date")}
    text = report.sampling({"machine": machine, "peak_gflops": 300, **sampling.arrange(rows)})
    assert "| a model | 4 | **0.50** (0.25 - 1.00) | 0.7 | 60% | 99 | 0.80 | 2.0 MB |" in text
    assert "36 times faster than the loop" in text
    assert sampling.WHOLE not in text
