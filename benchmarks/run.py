"""What `genfast bench` does: runs the cases through pytest, prints a line for each, writes JSON and a report."""

import json
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import page
import pytest
import torch
from cases import Options, all_cases

from genfast.errors import GenfastError
from genfast.profiling.machine import busy, machine
from genfast.profiling.units import seconds

HERE = Path(__file__).parent


@dataclass
class Found:
    """entries: extra_info of what was timed, in order; wrong: (case and part, what its check said).
    settings: how it was run; interrupted: not to its end."""

    machine: dict[str, Any] = field(default_factory=dict)
    entries: list[dict[str, Any]] = field(default_factory=list)
    wrong: list[tuple[str, str]] = field(default_factory=list)
    settings: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0
    notes: list[str] = field(default_factory=list)
    interrupted: bool = False


class Collector:
    """A pytest plugin: takes what bench.py left in extra_info, and says it at once."""

    def __init__(self) -> None:
        self.found = Found()

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self, item: Any) -> Iterator[Any]:
        report = yield
        name = item.name.removeprefix("bench[").removesuffix("]")
        if report.failed:
            said = str(getattr(report.longrepr, "reprcrash", None) and report.longrepr.reprcrash.message)
            self.found.wrong.append((name, " ".join(said.split())[:400]))
            print(f"{name}: FAILED, so it is not timed: {self.found.wrong[-1][1]}", flush=True)
        elif report.when == "call":
            self.found.entries.append(dict(item.funcargs["benchmark"].extra_info))
            print(line(self.found.entries[-1]), flush=True)
        return report


def line(entry: dict[str, Any]) -> str:
    """One timing in words."""
    ratio = entry["rivals"][entry["fastest"]]
    floors = f", {entry['of_floor']:.1f} floors" if entry["of_floor"] else ""
    others = "".join(
        f"; {each['median']:.2f} of {name}" for name, each in entry["rivals"].items() if name != entry["fastest"]
    )
    left_out = "".join(f"; {name} left out ({why})" for name, why in entry["left_out"].items())
    targets = "".join(f"; {said}" for said in entry["more"].get("targets", []))
    return (
        f"{entry['suite']}: {entry['title']}, {page.PARTS.get(entry['part'], entry['part'])}: "
        f"{ratio['median']:.2f} times as fast ({ratio['low']:.2f} - {ratio['high']:.2f}) as {entry['fastest']}"
        f"{others}{left_out}; {seconds(entry['ours'])}{floors}{targets}"
    )


def names(options: Options, only: str) -> list[str]:
    found = all_cases(options, only)
    if not found:
        raise GenfastError(f"No case has {only!r} in its name: genfast bench --list shows them all.")
    return [f"{case.name} ({', '.join(page.PARTS.get(part, part) for part in case.parts)})" for case in found]


def measure(options: Options, only: str, threads: int, cpu_time: bool, json_out: Path | None) -> Found:
    """Runs the cases in this process. json_out: for the JSON of pytest-benchmark, ratios in extra_info."""
    names(options, only)
    collector = Collector()
    arguments = [str(HERE), "-c", str(HERE / "pytest.ini")]
    # With "=": what stands by itself, even nothing, would be one more path, whose conftest.py pytest would obey.
    arguments += [f"--device={options.device}", f"--only={only}"]
    arguments += [f"--threads={threads}", f"--compile-limit={options.compile_limit}"]
    arguments += ["--quick"] * options.quick + ["--cpu-time"] * cpu_time + ["--no-compile"] * (not options.compiled)
    arguments += [f"--benchmark-json={json_out}"] if json_out else []
    # What pytest would print is said by the collector, in words.
    arguments += ["-p", "no:terminal", "-p", "no:cacheprovider", "-W", "ignore", "-s"]
    busy_before, here = busy(), machine()  # the commit may change meanwhile
    start = time.perf_counter()
    code = pytest.main(arguments, plugins=[collector])
    found = collector.found
    found.seconds = time.perf_counter() - start
    found.machine = here | {"threads": torch.get_num_threads()}
    found.interrupted = code == pytest.ExitCode.INTERRUPTED
    if code not in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED, pytest.ExitCode.INTERRUPTED):
        raise GenfastError(f"pytest stopped with exit code {int(code)}: what it printed above says why.")
    found.settings = {**asdict(options), "only": only, "cpu_time": cpu_time}
    found.notes = [note for note in (busy_before,) if note]
    if found.interrupted:
        found.notes.append("It was interrupted: these are the timings until then.")
    if cpu_time:
        found.notes.append("Times are processor time of one thread, which tells little of what several would take.")
    return found


def write_report(found: Found, folder: Path) -> list[Path]:
    """report.html and bench.json."""
    folder.mkdir(parents=True, exist_ok=True)
    values = {
        "machine": found.machine,
        "settings": found.settings,
        "seconds": round(found.seconds, 1),
        "wrong": found.wrong,
        "entries": found.entries,
        "notes": found.notes,
    }
    paths = [folder / "report.html", folder / "bench.json"]
    paths[0].write_text(page.report(found), encoding="utf-8")
    paths[1].write_text(json.dumps(values, indent=1) + "\n")
    return paths
