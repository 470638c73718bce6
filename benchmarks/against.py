"""`genfast bench --compare REV`: this version of genfast and another, each in a process of its own, in turns.

The benchmarks are those of this checkout in both, so what is compared is genfast alone. A turn of one version is
followed by one of the other, so what else the machine does slows both; the ratio is taken turn by turn. A case that
looks slower or faster is measured again, with three times as many turns, before that is said.
"""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import page
from bench import turns_for
from cases import Options, all_cases
from harness import LONG_ENOUGH, Ratio, ratio_of

from genfast.errors import GenfastError
from genfast.profiling.machine import busy, machine
from genfast.profiling.units import seconds

ROOT = Path(__file__).parents[1]
NOTICEABLE = 0.05  # of the time: less is not said, however sure
COMPILED = ("kernels", "csrc", "CMakeLists.txt", "setup.py")


def git(*arguments: str, root: Path = ROOT) -> str:
    done = subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True)
    if done.returncode:
        raise GenfastError(f"git {arguments[0]}: {' '.join(done.stderr.split())}.")
    return done.stdout.strip()


def checkout(revision: str, device: str = "cpu", root: Path = ROOT) -> Path:
    """A worktree of the revision below .revisions, built; kept for the next time."""
    commit = git("rev-parse", "--verify", "--end-of-options", f"{revision}^{{commit}}", root=root)
    tree = root / ".revisions" / commit[:12]
    if not (tree / "setup.py").exists():
        git("worktree", "prune", root=root)
        git("worktree", "add", "--detach", "--force", str(tree), commit, root=root)
    if not list((tree / "genfast").glob("_C*.so")):
        build(tree, commit, device, root)
    return tree


def build(tree: Path, commit: str, device: str, root: Path) -> None:
    """Compiles the extension, or takes this checkout's where nothing that is compiled differs."""
    ours = list((root / "genfast").glob("_C*.so"))
    if ours and not git("diff", "--name-only", commit, "--", *COMPILED, root=root):
        shutil.copy(ours[0], tree / "genfast")
        return
    print(f"Building {commit[:12]}, which takes some minutes, once ...", flush=True)
    tools = os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", "")))
    environment = os.environ | {"GENFAST_BUILD": "required", "PYTHONPATH": str(tree), "PATH": tools}
    environment |= {"GENFAST_CUDA": "OFF"} if device == "cpu" else {}  # which takes longest
    command = [sys.executable, "setup.py", "build_ext", "--inplace"]
    done = subprocess.run(command, cwd=tree, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise GenfastError(f"{commit[:12]} does not build in {tree}: {' '.join(done.stderr[-400:].split())}")


class Version:
    """A worker process with genfast from one checkout."""

    def __init__(self, root: Path, options: Options, threads: int, cpu_time: bool) -> None:
        environment = os.environ | {"PYTHONPATH": str(root), "OMP_WAIT_POLICY": "passive"}  # it waits, without a core
        command = [sys.executable, str(Path(__file__).parent / "worker.py"), json.dumps(asdict(options) | {
            "threads": threads, "cpu_time": cpu_time})]  # fmt: skip
        self.process = subprocess.Popen(
            command, env=environment, cwd=root, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def ask(self, **question: Any) -> dict[str, Any]:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        try:
            print(json.dumps(question), file=self.process.stdin, flush=True)
            answer = self.process.stdout.readline()
        except BrokenPipeError:
            answer = ""
        return json.loads(answer) if answer else {"error": f"its process ended with {self.process.wait()}"}

    def seconds(self, part: str, calls: int = 1) -> float:
        return float(self.ask(part=part, calls=calls)["seconds"])

    def end(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()


@dataclass(frozen=True)
class Change:
    """ratio: how many times as fast this version is as the other. skipped: why there is none."""

    case: str
    part: str
    ratio: Ratio | None = None
    skipped: str = ""

    @property
    def verdict(self) -> str:
        if self.ratio is None:
            return f"not compared: {self.skipped}"
        if self.ratio.median < 1 - NOTICEABLE and self.ratio.high < 1:
            return "SLOWER"
        if self.ratio.median > 1 + NOTICEABLE and self.ratio.low > 1:
            return "faster"
        if abs(self.ratio.median - 1) > NOTICEABLE:
            return "too noisy to tell"
        return "no change"

    def line(self) -> str:
        start = f"{self.case}, {page.PARTS.get(self.part, self.part)}: " if self.part else f"{self.case}: "
        if self.ratio is None:
            return start + self.verdict
        old, new = seconds(self.ratio.theirs), seconds(self.ratio.ours)
        times = f"{self.ratio.median:.2f} times as fast ({self.ratio.low:.2f} - {self.ratio.high:.2f}), {old} -> {new}"
        return f"{start}{self.verdict}; {times}"


def in_turns(ours: Version, theirs: Version, part: str, calls: int, turns: int) -> Ratio:
    times: dict[Version, list[float]] = {ours: [], theirs: []}
    for turn in range(turns):
        for version in (theirs, ours) if turn % 2 else (ours, theirs):
            times[version].append(version.seconds(part, calls) / calls)
    return ratio_of(times[ours], times[theirs])


def change(ours: Version, theirs: Version, case: str, part: str) -> Change:
    once = [version.seconds(part) for version in (ours, theirs, ours, theirs)][2:]  # the first ones are slow
    calls = max(1, round(2 * LONG_ENOUGH / max(min(once), 1e-7)))
    turns = turns_for(sum(once) * calls, False)
    found = Change(case, part, in_turns(ours, theirs, part, calls, turns))
    if found.verdict in ("SLOWER", "faster"):
        found = Change(case, part, in_turns(ours, theirs, part, calls, 3 * turns))
    return found


def changes(ours: Version, theirs: Version, options: Options, only: str) -> list[Change]:
    found = []
    for case in all_cases(options, only):
        refused = ""
        for name, version in (("here", ours), ("there", theirs)):
            error = version.ask(prepare=case.name).get("error", "")
            refused = refused or (f"{name}, {error}" if error else "")
        if refused:
            found.append(Change(case.name, "", skipped=refused))
            print(found[-1].line(), flush=True)
            continue
        for part in case.parts:
            found.append(change(ours, theirs, case.name, part))
            print(found[-1].line(), flush=True)
    return found


def compare(flags: Any, options: Options) -> int:
    """Returns 1 if this version is slower somewhere."""
    options = replace(options, compiled=False)
    if not all_cases(options, flags.only):
        raise GenfastError(f"No case has {flags.only!r} in its name: genfast bench --list shows them all.")
    commit = git("rev-parse", "--short=12", "--verify", "--end-of-options", f"{flags.compare}^{{commit}}")
    note, here = busy(), machine()  # the commit may change meanwhile
    versions: list[Version] = []
    try:
        versions += [
            Version(root, options, flags.threads, flags.cpu_time)
            for root in (ROOT, checkout(flags.compare, options.device))
        ]
        found = changes(*versions, options, flags.only)
    finally:
        for version in versions:
            version.end()
    slower = sum(each.verdict == "SLOWER" for each in found)
    faster = sum(each.verdict == "faster" for each in found)
    said = [
        f"Against {flags.compare} ({commit}): slower in {slower}, faster in {faster} of {len(found)} timings; less "
        f"than {NOTICEABLE:.0%} counts as no change, and quartiles on both sides of 1 as too noisy to tell.",
        *([note] if note else []),
        *(["--cpu-time tells more on a busy machine."] if note and not flags.cpu_time else []),
    ]
    print("\n" + "\n".join(said))
    flags.out.mkdir(parents=True, exist_ok=True)
    values = {
        "machine": here,
        "against": commit,
        "changes": [asdict(each) | {"verdict": each.verdict} for each in found],
    }
    (flags.out / "compare.json").write_text(json.dumps(values, indent=1) + "\n")
    (flags.out / "compare.html").write_text(page.comparison(said, here, found), encoding="utf-8")
    print(f"wrote {flags.out / 'compare.html'}, {flags.out / 'compare.json'}")
    return 1 if slower else 0
