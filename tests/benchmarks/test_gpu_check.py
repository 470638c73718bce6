"""make gpu-check without a GPU: stages are bounded, failures are named, files are whole."""

import json
import sys
import time
from pathlib import Path

import pytest


@pytest.fixture
def clock():
    from gpu_check import Clock

    return Clock()


def test_what_is_left_over_goes_to_later_stages(monkeypatch) -> None:
    import gpu_check

    now = [0.0]
    monkeypatch.setattr(gpu_check.time, "monotonic", lambda: now[0])
    clock = gpu_check.Clock(100, {"a": 20, "b": 50, "c": 30})
    spare = 2 * gpu_check.PATIENCE
    assert clock.left_for("a") == 20 - spare
    now[0] = 5  # a took 5 of its 20
    assert clock.left_for("b") == 65 - spare
    now[0] = 99
    assert clock.left_for("c") == 1
    assert sum(gpu_check.LIMITS.values()) <= gpu_check.TOTAL == 540


def test_a_stage_passes_fails_or_is_cut_off_with_all_it_started(clock, monkeypatch, tmp_path, capsys) -> None:
    import gpu_check

    monkeypatch.setattr(gpu_check, "PATIENCE", 0.5)

    def run(code: str, limit: float = 60) -> "gpu_check.Stage":
        monkeypatch.setattr(clock, "left_for", lambda name: limit)
        return gpu_check.stage("build", clock, gpu_check.single("build", [sys.executable, "-c", code], {}, "built."))

    assert run("pass").outcome == gpu_check.PASSED
    failed = run("print('no nvcc'); raise SystemExit(3)")
    assert (failed.outcome, failed.details) == (gpu_check.FAILED, ["no nvcc"])
    assert "exit code 3" in failed.said
    child = tmp_path / "child"
    code = (
        "import os, signal, subprocess, sys, time; signal.signal(signal.SIGINT, signal.SIG_IGN)\n"
        f"p = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)']); open({str(child)!r}, 'w')"
        ".write(str(p.pid)); time.sleep(600)"
    )
    cut = run(code, limit=3.0)
    assert cut.outcome == gpu_check.CUT_OFF
    assert "build: cut off" in capsys.readouterr().out
    if child.exists():  # on a very slow machine it had not begun
        for _ in range(50):
            if not alive(int(child.read_text())):
                break
            time.sleep(0.1)
        assert not alive(int(child.read_text()))


def alive(pid: int) -> bool:
    """Not even as a zombie that nobody waits for."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z"
    except (OSError, IndexError):
        return False


def junit(*cases: str) -> str:
    return f"<testsuites><testsuite>{''.join(cases)}</testsuite></testsuites>"


GOOD = '<testcase classname="a" name="good"/>'
SKIPPED = '<testcase classname="a" name="skipped"><skipped message="no data"/></testcase>'
BAD = '<testcase classname="a" name="bad"><failure message="1 is\n not 2"/></testcase>'
BROKEN = '<testcase classname="a" name="broken"><error message="no fixture"/></testcase>'


def test_tests_are_judged_by_what_they_report() -> None:
    from gpu_check import CUT_OFF, FAILED, PASSED, Finished, judge_tests

    fine = judge_tests([Finished(0, ""), Finished(0, "")], [junit(GOOD, GOOD), junit(GOOD, SKIPPED)], 9)
    assert (fine.outcome, fine.said) == (PASSED, "3 passed, 0 failed, 1 skipped.")
    bad = judge_tests([Finished(1, ""), Finished(0, "")], [junit(GOOD, BAD, BROKEN), junit(GOOD)], 9)
    assert (bad.outcome, bad.said) == (FAILED, "2 passed, 2 failed, 0 skipped.")
    assert bad.details == ["a.bad: 1 is not 2", "a.broken: no fixture"]
    crashed = judge_tests([Finished(-11, "loading\nSegmentation fault")], [""], 9)
    assert crashed.outcome == FAILED
    assert crashed.details == ["a process left no report (exit code -11):", "loading", "Segmentation fault"]
    assert judge_tests([Finished(None, "")], [junit(GOOD)], 9).outcome == CUT_OFF
    assert judge_tests([Finished(2, "bad option")], [junit()], 9).outcome == FAILED
    many = judge_tests([Finished(1, "")], [junit(*[BAD] * 100)], 9)
    assert many.details[-1] == "and 70 more failures"


def test_tests_run_in_several_processes_that_want_a_gpu(clock, tmp_path) -> None:
    import gpu_check

    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    for i in range(3):
        body = f"import os\ndef test_it():\n    assert os.environ['GENFAST_REQUIRE_CUDA'] == '1' and {i} != 2, 'two'\n"
        (tmp_path / f"test_{i}.py").write_text(body)
    files = sorted(tmp_path.glob("test_*.py"))
    parts = gpu_check.shards(files, 2)
    assert sorted(path for part in parts for path in part) == files
    assert [len(part) for part in parts] == [2, 1]
    found = gpu_check.tests(sys.executable, files, 2)(120)
    assert found.said == "2 passed, 1 failed, 0 skipped."
    assert "test_2.test_it" in found.details[0]


def test_the_sanitizer_is_judged_by_its_summary(monkeypatch, tmp_path) -> None:
    import gpu_check

    names = ["memcheck, cuda", "racecheck, triton-engine"]
    good = gpu_check.Finished(0, "========= ERROR SUMMARY: 0 errors")
    assert gpu_check.judge_sanitizers(names, [good, good], 9).outcome == gpu_check.PASSED
    hazard = "========= Race reported\n========= RACECHECK SUMMARY: 2 hazards displayed (2 errors, 0 warnings)"
    found = gpu_check.judge_sanitizers(names, [good, gpu_check.Finished(0, hazard)], 9)
    assert found.outcome == gpu_check.FAILED
    assert found.details[0] == "racecheck, triton-engine: exit code 0, 2 errors"
    assert "Race reported" in found.details[1]
    silent = gpu_check.Finished(1, "row_lstm: not close")  # the kernels were wrong before the tool could say anything
    assert gpu_check.judge_sanitizers(names, [silent, good], 9).details[-1] == "row_lstm: not close"
    cut = gpu_check.judge_sanitizers(names, [gpu_check.Finished(None, ""), good], 9)
    assert cut.outcome == gpu_check.CUT_OFF
    assert cut.said.startswith("memcheck, cuda took longer than 9 s")
    monkeypatch.setattr(gpu_check.shutil, "which", lambda name: None)
    assert gpu_check.sanitizers(sys.executable)(9).outcome == gpu_check.NOT_RUN


def test_both_sanitizers_see_all_kernels_and_engines(monkeypatch, tmp_path) -> None:
    """compute-sanitizer is a script here that says what it was asked for."""
    import gpu_check

    tool = tmp_path / "compute-sanitizer"
    tool.write_text("#!/bin/sh\necho ERROR SUMMARY: 1 errors\necho ========= $2 ${7}\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    details = gpu_check.sanitizers(sys.executable)(60).details
    said = [line.removeprefix("========= ") for line in details if line.startswith("=========")]
    assert said == [f"{tool} {kernels}" for tool in ("memcheck", "racecheck") for kernels in gpu_check.SMALL]


def test_the_files_say_what_failed_and_what_was_measured(tmp_path) -> None:
    from gpu_check import FAILED, PASSED, Stage, slug, write

    ratio = {"median": 2.5, "low": 2.0, "high": 3.0}
    targets = ["41 times as fast as the loop, of at least 40: met"]
    entry = {
        "suite": "lstm",
        "more": {"targets": targets},
        "title": "h = 64 | wide",
        "part": "forward",
        "fastest": "nn.LSTM",
        "ours": 1e-3,
        "of_floor": 2.0,
    }
    folder = tmp_path / slug("NVIDIA H200")
    folder.mkdir()
    rivals = {"nn.LSTM": ratio, "loop": ratio | {"median": 41.0}}
    (folder / "bench.json").write_text(json.dumps({"entries": [entry | {"rivals": rivals}]}))
    stages = [Stage("build", PASSED, 61.2, "built."), Stage("tests", FAILED, 9, "1 failed.", ["a.bad: 1 is not 2"])]
    paths = write(folder, {"gpu": "NVIDIA H200", "commit": "abc"}, stages)
    assert [path.relative_to(tmp_path).as_posix() for path in paths] == [
        "nvidia-h200/gpu_check.json",
        "nvidia-h200/gpu_check.md",
    ]
    text = paths[1].read_text()
    assert "| tests | **failed** | 9 | 1 failed. |" in text
    assert "a.bad: 1 is not 2" in text
    row = "| lstm: h = 64 \\| wide, forward | **2.50** (2.00 - 3.00) | nn.LSTM | 41.00 loop | 1.000 ms | 2.0 |"
    assert row in text
    assert f"- h = 64 | wide, forward: {targets[0]}" in text
    assert json.loads(paths[0].read_text())["stages"][0]["seconds"] == 61.2


def test_without_a_gpu_it_says_so_at_once() -> None:
    import gpu_check
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a GPU here")
    with pytest.raises(SystemExit, match="needs a GPU"):
        gpu_check.describe(sys.executable)
    assert gpu_check.architecture("9.0") == "90a"
    assert gpu_check.architecture("8.6") == "86"


def test_the_small_cases_are_right_and_cover_every_operator(capsys) -> None:
    import gpu_small

    from genfast.ops import backends

    if backends.NO_EXTENSION:
        pytest.skip(backends.NO_EXTENSION)
    gpu_small.check("cpu")
    said = capsys.readouterr().out
    assert all(operator in said for operator in backends.OPERATORS)
    gpu_small.check_engine("cpu", "cpu")
    said = capsys.readouterr().out
    assert all(f"{name}: right by the cpu engine" in said for name in gpu_small.models())


def test_a_gpu_times_both_kinds_of_kernels_and_both_engines() -> None:
    from cases import Options, all_cases

    names = [case.name for case in all_cases(Options(quick=True, device="cuda"))]
    assert len(names) == len(set(names))
    for backend, more in (("cuda", set()), ("triton", {"gated_activation"})):
        suites = {name.partition(":")[0] for name in names if name.endswith(f", {backend}")}
        assert suites == {"masked_conv2d", "lstm", "logistic_mixture"} | more
        assert {name.partition(":")[0] for name in names if name.endswith(f", {backend} engine")} == {"sampling"}
