"""``genfast bench``: ours against what a user would otherwise run, and this version against another."""

import importlib
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from genfast.cli.flags import parse
from genfast.errors import GenfastError

INTERRUPTED = 130  # the exit code, as of any command
DESCRIPTION = """\
Times every operator, training steps and sampling against what a user would otherwise run (eager PyTorch, torch.compile,
nn.LSTM, the loop over pixels), after checking that both give the same answer. They take turns in one process, so the
ratios hold on a machine that is busy with other work. The folder gets report.html, which explains the words, and
bench.json, from which `python benchmarks/report.py FOLDER` makes the tables in README.md and docs/numbers.md; Ctrl-C
ends it with what has been timed. Needs the checkout that genfast was installed from.

Example: genfast bench --quick
         genfast bench --only logistic_mixture --json logistic.json
         genfast bench --compare main~5 --only "3x3, 64 channels"
         genfast bench --scaling --quick"""


@dataclass(frozen=True)
class BenchFlags:
    """What to time."""

    quick: bool = False
    """The cases that say most, with few turns: some minutes."""
    only: str = ""
    """Cases with this in their names, such as lstm or "batch 4"."""
    list: bool = False
    """Name the cases and stop."""
    compare: str | None = None
    """A revision of git: builds it, and times its genfast and this one in turns, case by case."""
    scaling: bool = False
    """Instead: time and memory against batch, image side, depth, channels and threads, with plots and exponents."""
    out: Annotated[Path, tyro.conf.arg(name="out", aliases=["-o"], metavar="FOLDER")] = Path("bench")
    """Folder for the report."""
    json: Path | None = None
    """Also the JSON of pytest-benchmark, for its own tools."""
    threads: int = 0
    """CPU threads (0: PyTorch's choice)."""
    cpu_time: bool = False
    """One thread and its processor time: for a machine that is busy with other work."""
    device: Literal["cpu", "cuda"] = "cpu"
    """Where operators, training steps and samplers run."""
    no_compile: bool = False
    """Leave torch.compile out, which takes half a minute for some cases."""


def main(argv: Sequence[str]) -> int:
    """Returns 1 where an answer was wrong, or this version is slower than the one that it is compared with."""
    flags = parse(BenchFlags, argv, "genfast bench", DESCRIPTION)
    check(flags)
    sys.path.insert(0, str(folder()))
    try:
        return scaled(flags) if flags.scaling else compared(flags) if flags.compare else measured(flags)
    finally:
        sys.path.remove(str(folder()))


def folder() -> Path:
    """benchmarks/ of the checkout."""
    import genfast

    found = Path(genfast.__file__).parents[1] / "benchmarks"
    if not (found / "bench.py").exists():
        raise GenfastError(
            "There are no benchmarks beside this installation: clone the repository and run genfast bench from there, "
            "after make setup."
        )
    try:
        importlib.import_module("pytest_benchmark")
    except ImportError:
        raise GenfastError("The benchmarks need pytest-benchmark: pip install 'genfast[dev]'.") from None
    return found


def check(flags: BenchFlags) -> None:
    from genfast.profiling.files import check_folder

    check_folder(flags.out)
    if flags.threads < 0:
        raise GenfastError(f"--threads is {flags.threads}, it must be 0 or more.")
    if flags.compare and flags.scaling:
        raise GenfastError("--compare and --scaling are two things: give one of them.")
    if flags.device == "cuda":
        import torch

        if flags.cpu_time:
            raise GenfastError("--cpu-time is processor time, which says nothing of a GPU: leave it out.")
        if not torch.cuda.is_available():
            raise GenfastError("--device cuda: no CUDA device is usable here.")


def options(flags: BenchFlags) -> Any:
    cases = importlib.import_module("cases")
    return cases.Options(flags.quick, flags.device, not flags.no_compile)


def measured(flags: BenchFlags) -> int:
    run = importlib.import_module("run")
    if flags.list:
        print("\n".join(run.names(options(flags), flags.only)))
        return 0
    found = run.measure(options(flags), flags.only, flags.threads, flags.cpu_time, flags.json)
    paths = run.write_report(found, flags.out)
    paths += [flags.json] if flags.json else []
    print(f"\n{importlib.import_module('page').summary(found.entries)}")
    for note in found.notes:
        print(note)
    print(f"wrote {', '.join(map(str, paths))}")
    return INTERRUPTED if found.interrupted else 1 if found.wrong else 0


def compared(flags: BenchFlags) -> int:
    against = importlib.import_module("against")
    return int(against.compare(flags, options(flags)))


def scaled(flags: BenchFlags) -> int:
    scaling = importlib.import_module("scaling")
    return int(scaling.run(flags.out, flags.quick, flags.threads, flags.cpu_time))
