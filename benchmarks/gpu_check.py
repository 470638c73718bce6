"""`make gpu-check`: everything that a machine with a GPU can say about genfast, in nine minutes.

    build       the extension with its CUDA kernels, for this GPU
    tests       the whole suite, several processes at once; GENFAST_REQUIRE_CUDA=1: a test that wants a GPU must run
    sanitizers  compute-sanitizer, memcheck and racecheck, over every kernel and both engines at small sizes
                (gpu_small.py), where the tool exists; all side by side, as they spend their time on the CPU
    benchmarks  genfast bench --device cuda --quick: sampling first, whose samplers take a minute to compile and record

Every stage has a limit, and what one leaves over the later ones may use; what is cut off or fails is said, and the
others run all the same, but for a failed build. Writes benchmarks/results/GPU/gpu_check.json and gpu_check.md, to be
committed, and prints the latter. Exits with 1 unless all is well.
"""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
HERE = Path(__file__).parent
TOTAL = 9 * 60.0
LIMITS = {"build": 150.0, "tests": 240.0, "sanitizers": 40.0, "benchmarks": 110.0}
TOOLS = ("memcheck", "racecheck")
SMALL = ("cuda", "triton", "cuda-engine", "triton-engine")  # what gpu_small.py is asked for, each by a process
PATIENCE = 8.0  # seconds to say goodbye after an interrupt: pytest then writes what it has
PASSED, FAILED, CUT_OFF, NOT_RUN = "passed", "failed", "cut off", "not run"
LISTED = 30  # failures with a line each


@dataclass
class Stage:
    """said: one sentence; details: a line each, of what failed."""

    name: str
    outcome: str
    seconds: float
    said: str
    details: list[str] = field(default_factory=list)


class Clock:
    """What is left for a stage: its own limit, and what those before it did not use."""

    def __init__(self, total: float = TOTAL, limits: Mapping[str, float] = LIMITS) -> None:
        self.end, self.limits = time.monotonic() + total, dict(limits)

    def left_for(self, name: str) -> float:
        later = list(self.limits)[list(self.limits).index(name) + 1 :]
        return max(1.0, self.end - time.monotonic() - sum(self.limits[each] for each in later) - 2 * PATIENCE)


@dataclass
class Finished:
    """code: None where it was cut off."""

    code: int | None
    output: str


def run_all(commands: Sequence[Sequence[str]], limit: float, environment: Mapping[str, str]) -> list[Finished]:
    """Runs commands side by side, each in a session of its own, so that what they start ends with them."""
    with tempfile.TemporaryDirectory() as folder:
        logs = [Path(folder) / str(i) for i in range(len(commands))]
        processes = []
        for command, log in zip(commands, logs, strict=True):
            with log.open("w") as out:
                processes.append(
                    subprocess.Popen(
                        command, cwd=ROOT, env=os.environ | dict(environment), stdout=out, stderr=subprocess.STDOUT,
                        start_new_session=True,
                    )
                )  # fmt: skip
        end = time.monotonic() + limit
        codes = [wait(process, end - time.monotonic()) for process in processes]
        for number, wanted in ((signal.SIGINT, PATIENCE), (signal.SIGKILL, PATIENCE)):
            stop = [process for process in processes if process.poll() is None]
            for process in stop:
                os.killpg(process.pid, number)
            until = time.monotonic() + wanted
            for process in stop:
                wait(process, until - time.monotonic())
        return [Finished(code, log.read_text(errors="replace")) for code, log in zip(codes, logs, strict=True)]


def wait(process: "subprocess.Popen[bytes]", seconds: float) -> int | None:
    try:
        return process.wait(max(seconds, 0.01))
    except subprocess.TimeoutExpired:
        return None


def tail(output: str, lines: int = 15) -> list[str]:
    return [line for line in output.splitlines() if line.strip()][-lines:]


def stage(name: str, clock: Clock, work: Callable[[float], Stage]) -> Stage:
    """Does the work with what time is left for it, and says how that went."""
    limit = clock.left_for(name)
    print(f"{name} (at most {limit:.0f} s) ...", flush=True)
    start = time.monotonic()
    found = work(limit)
    found.seconds = round(time.monotonic() - start, 1)
    print(f"{name}: {found.outcome} after {found.seconds:.0f} s: {found.said}", flush=True)
    for detail in found.details:
        print(f"    {detail}")
    return found


def single(name: str, command: Sequence[str], environment: Mapping[str, str], success: str) -> Callable[[float], Stage]:
    """A stage of one command that succeeds by its exit code."""

    def work(limit: float) -> Stage:
        (done,) = run_all([command], limit, environment)
        if done.code is None:
            return Stage(name, CUT_OFF, 0, f"it took longer than {limit:.0f} s.", tail(done.output))
        if done.code:
            return Stage(name, FAILED, 0, f"it ended with exit code {done.code}.", tail(done.output))
        return Stage(name, PASSED, 0, success)

    return work


def shards(files: Sequence[Path], count: int) -> list[list[Path]]:
    """Test files for so many processes, about as much text in each; the largest first."""
    parts: list[list[Path]] = [[] for _ in range(count)]
    for path in sorted(files, key=lambda path: (-path.stat().st_size, path)):
        min(parts, key=lambda part: sum(each.stat().st_size for each in part)).append(path)
    return [part for part in parts if part]


def tests(python: str, files: Sequence[Path], count: int) -> Callable[[float], Stage]:
    def work(limit: float) -> Stage:
        with tempfile.TemporaryDirectory() as folder:
            parts = shards(files, count)
            reports = [Path(folder) / f"{i}.xml" for i in range(len(parts))]
            commands = [
                [python, "-m", "pytest", "-q", f"--junitxml={report}", *map(str, part)]
                for part, report in zip(parts, reports, strict=True)
            ]
            threads = str(max(1, (os.cpu_count() or 1) // len(parts)))
            done = run_all(commands, limit, {"GENFAST_REQUIRE_CUDA": "1", "OMP_NUM_THREADS": threads})
            texts = [report.read_text() if report.exists() else "" for report in reports]
        return judge_tests(done, texts, limit)

    return work


def judge_tests(done: Sequence[Finished], reports: Sequence[str], limit: float) -> Stage:
    """reports: JUnit XML of each process, empty where it wrote none."""
    passed, skipped, bad, broken = 0, 0, [], []
    for each, report in zip(done, reports, strict=True):
        if not report:
            broken += [f"a process left no report (exit code {each.code}):", *tail(each.output, 5)]
            continue
        for case in ElementTree.fromstring(report).iter("testcase"):
            name = f"{case.get('classname', '')}.{case.get('name', '')}"
            failure = next((child for child in case if child.tag in ("failure", "error")), None)
            if failure is not None:
                bad.append(f"{name}: {' '.join((failure.get('message') or '').split())[:200]}")
            elif case.find("skipped") is not None:
                skipped += 1
            else:
                passed += 1
        if each.code not in (0, 1, None) and not bad:
            broken += [f"a process ended with exit code {each.code}:", *tail(each.output, 5)]
    said = f"{passed} passed, {len(bad)} failed, {skipped} skipped"
    more = [f"and {len(bad) - LISTED} more failures"] if len(bad) > LISTED else []
    details = [*bad[:LISTED], *more, *broken]
    if bad or broken:
        return Stage("tests", FAILED, 0, f"{said}.", details)
    if any(each.code is None for each in done):
        return Stage("tests", CUT_OFF, 0, f"{said} in {limit:.0f} s; the rest was cut off.")
    return Stage("tests", PASSED, 0, f"{said}.")


def sanitizers(python: str) -> Callable[[float], Stage]:
    def work(limit: float) -> Stage:
        found = shutil.which("compute-sanitizer")
        if not found:
            said = "compute-sanitizer, which comes with the CUDA toolkit, is not on the PATH."
            return Stage("sanitizers", NOT_RUN, 0, said)
        runs = [(tool, kernels) for tool in TOOLS for kernels in SMALL]
        commands = [
            [found, "--tool", tool, "--target-processes", "all", python, str(HERE / "gpu_small.py"), kernels]
            for tool, kernels in runs
        ]
        return judge_sanitizers([", ".join(run) for run in runs], run_all(commands, limit, {}), limit)

    return work


def judge_sanitizers(names: Sequence[str], done: Sequence[Finished], limit: float) -> Stage:
    details, cut = [], []
    for name, each in zip(names, done, strict=True):
        totals = [int(n) for n in re.findall(r"(?:ERROR|RACECHECK) SUMMARY: (\d+)", each.output)]
        if each.code is None:
            cut.append(name)
        elif each.code or not totals or any(totals):
            lines = [line for line in each.output.splitlines() if line.startswith("=========")][:10]
            details += [f"{name}: exit code {each.code}, {sum(totals)} errors", *(lines or tail(each.output))]
    if details:
        return Stage("sanitizers", FAILED, 0, "they found errors, or the kernels were wrong.", details)
    if cut:
        said = f"{'; '.join(cut)} took longer than {limit:.0f} s; no error until then."
        return Stage("sanitizers", CUT_OFF, 0, said)
    return Stage("sanitizers", PASSED, 0, "every kernel and both engines, without an error.")


def benchmarks(python: str, folder: Path) -> Callable[[float], Stage]:
    command = [python, "-m", "genfast.cli", "bench", "--device", "cuda", "--quick", "--no-compile", "-o", str(folder)]
    return single("benchmarks", command, {}, f"{folder.name}/bench.json and report.html.")


def slug(name: str) -> str:
    """A GPU's name as a folder's: "NVIDIA H200" -> "nvidia-h200"."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def markdown(machine: Mapping[str, Any], stages: Sequence[Stage], entries: Sequence[Mapping[str, Any]]) -> str:
    lines = [f"# genfast on {machine['gpu']}", "", ", ".join(f"{key}: {value}" for key, value in machine.items()), ""]
    lines += ["| stage | outcome | seconds | |", "|---|---|---|---|"]
    lines += [f"| {each.name} | **{each.outcome}** | {each.seconds:.0f} | {cell(each.said)} |" for each in stages]
    for each in stages:
        if each.details:
            lines += ["", f"{each.name}:", "", "```", *each.details, "```"]
    if entries:
        lines += ["", "| case | times as fast | rival | other rivals | time | floors |", "|---|---|---|---|---|---|"]
    for entry in entries:
        ratio = entry["rivals"][entry["fastest"]]
        spread = f"**{ratio['median']:.2f}** ({ratio['low']:.2f} - {ratio['high']:.2f})"
        floors = f"{entry['of_floor']:.1f}" if entry["of_floor"] else ""
        name = cell(f"{entry['suite']}: {entry['title']}, {entry['part']}")
        rivals = {rival: each for rival, each in entry["rivals"].items() if rival != entry["fastest"]}
        others = cell("; ".join(f"{each['median']:.2f} {rival}" for rival, each in rivals.items()))
        time_of_ours = f"{entry['ours'] * 1e3:.3f} ms"
        lines.append(f"| {name} | {spread} | {cell(entry['fastest'])} | {others} | {time_of_ours} | {floors} |")
    targets = [
        f"- {entry['title']}, {entry['part']}: {said}" for entry in entries for said in entry["more"].get("targets", [])
    ]
    lines += ["", "Targets:", "", *targets] if targets else []
    return "\n".join(lines) + "\n"


def cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def write(folder: Path, machine: Mapping[str, Any], stages: Sequence[Stage]) -> list[Path]:
    """gpu_check.json and gpu_check.md, with the benchmarks that are in the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    bench = folder / "bench.json"
    entries = json.loads(bench.read_text())["entries"] if bench.exists() else []
    values = {"machine": dict(machine), "stages": [asdict(each) for each in stages], "benchmarks": entries}
    paths = [folder / "gpu_check.json", folder / "gpu_check.md"]
    paths[0].write_text(json.dumps(values, indent=1) + "\n")
    paths[1].write_text(markdown(machine, stages, entries), encoding="utf-8")
    return paths


DESCRIBE = """
import json, torch
properties = torch.cuda.get_device_properties(0)
print(json.dumps({
    "gpu": properties.name, "capability": f"{properties.major}.{properties.minor}",
    "memory_gb": round(properties.total_memory / 1e9), "torch": torch.__version__, "cuda": torch.version.cuda,
}))
"""


def describe(python: str) -> dict[str, Any]:
    """The GPU, as PyTorch sees it. Exits with a sentence where there is none."""
    done = subprocess.run([python, "-c", DESCRIBE], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"make gpu-check needs a GPU that PyTorch can use: {(tail(done.stderr, 1) or ['none'])[0]}")
    found: dict[str, Any] = json.loads(done.stdout)
    commit = subprocess.run(["git", "describe", "--always", "--dirty"], cwd=ROOT, capture_output=True, text=True)
    return {**found, "commit": commit.stdout.strip() or "unknown", "cores": os.cpu_count(), "date": time.strftime("%F")}


def architecture(capability: str) -> str:
    """As nvcc names it: "9.0" -> "90a", whose kernels use clusters; others plain."""
    plain = capability.replace(".", "")
    return f"{plain}a" if plain == "90" else plain


def main() -> int:
    python = sys.executable
    machine = describe(python)
    clock = Clock()
    folder = HERE / "results" / slug(machine["gpu"])
    for name in ("bench.json", "report.html"):  # of an earlier run
        (folder / name).unlink(missing_ok=True)
    install = [python, "-m", "pip", "install", "--quiet", "--no-build-isolation", "--no-deps", "-e", "."]
    environment = {"GENFAST_BUILD": "required", "GENFAST_CUDA": "ON"}
    environment["GENFAST_CUDA_ARCHITECTURES"] = architecture(machine["capability"])
    stages = [stage("build", clock, single("build", install, environment, "built with CUDA kernels for this GPU."))]
    if stages[0].outcome == PASSED:
        files = sorted((ROOT / "tests").rglob("test_*.py"))
        stages += [
            stage("tests", clock, tests(python, files, max(1, min(4, (os.cpu_count() or 1) // 2)))),
            stage("sanitizers", clock, sanitizers(python)),
            stage("benchmarks", clock, benchmarks(python, folder)),
        ]
    paths = write(folder, machine, stages)
    print(f"\n{paths[1].read_text()}\nwrote {', '.join(map(str, paths))}")
    return 0 if all(each.outcome in (PASSED, NOT_RUN) for each in stages) and len(stages) > 1 else 1


if __name__ == "__main__":
    sys.exit(main())
