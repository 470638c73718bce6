"""What a benchmark is: something of ours, what a user would otherwise run, and a check that both give one answer.

A suite is a module that makes a list of Case: masked_conv2d.py is the shortest. A case costs nothing until it is
prepared, and bench.py times its parts ("forward", say, and "forward + backward") one after the other.
"""

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

import torch

from genfast.ops.backends import OPERATORS

SUITES = ("sampling", "masked_conv2d", "gated_activation", "lstm", "logistic_mixture", "training")  # in this order
FORMATS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}
Function = Callable[[], Any]


@dataclass(frozen=True)
class Options:
    """quick: the cases that say most, and what they need little time for. compiled: time torch.compile as well, which
    itself takes many seconds. compile_limit: seconds that it may take where it is known to take very long."""

    quick: bool = False
    device: str = "cpu"
    compiled: bool = True
    compile_limit: float = 45


def options_of(get: Callable[[str], Any]) -> Options:
    """get: of pytest's configuration."""
    return Options(get("--quick"), get("--device"), not get("--no-compile"), get("--compile-limit"))


@dataclass(frozen=True)
class Timing:
    """One part of a case. rivals: by a name that tells the reader what it is. floor: what nothing could be faster than:
    a function that does only that, timed in the same turns, or seconds. left_out: rivals that should be here, and why
    they are not. multiples: for rivals that would take too long, of which the function does only a share: the time of
    the whole is so many times that of the share."""

    ours: Function
    rivals: Mapping[str, Function]
    floor: Function | float = 0.0
    left_out: Mapping[str, str] = field(default_factory=dict)
    multiples: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Prepared:
    """Inputs exist, what needs compiling is compiled. check: raises AssertionError unless all give the same answer.
    more: what else to write into the results, from a part's name and what bench.in_turns found."""

    parts: Mapping[str, Timing]
    check: Callable[[], None]
    more: Callable[[str, dict[str, Any]], dict[str, Any]] = lambda part, found: {}


@dataclass(frozen=True, eq=False)
class Case:
    """facts: what the row in the results begins with, sizes above all. quick: belongs to a quick run. results: the file
    of results and the table in README.md that it belongs to, where that is not named as the suite."""

    suite: str
    title: str
    facts: dict[str, Any]
    parts: tuple[str, ...]
    prepare: Callable[[], Prepared]
    quick: bool = False
    results: str = ""

    @property
    def table(self) -> str:
        return self.results or self.suite

    @property
    def name(self) -> str:
        return f"{self.suite}: {self.title}"


def backends(options: Options, operator: str) -> tuple[str, ...]:
    """Whose kernels are timed: on a CPU ours are what "auto" takes, on a GPU there may be two kinds."""
    if options.device == "cpu":
        return ("auto",)
    return tuple(name for name in ("cuda", "triton") if name in OPERATORS[operator])


def suffix(backend: str) -> str:
    """Of a title."""
    return "" if backend == "auto" else f", {backend}"


def suite_module(suite: str) -> ModuleType:
    return importlib.import_module(suite)


def cases_of(suite: str, options: Options) -> list[Case]:
    found: list[Case] = suite_module(suite).cases(options)
    return [case for case in found if case.quick or not options.quick]


def all_cases(options: Options, only: str = "") -> list[Case]:
    """only: a part of "suite: title", in small or capital letters."""
    found = [case for suite in SUITES for case in cases_of(suite, options)]
    return [case for case in found if only.lower() in case.name.lower()]


def compiled(function: Callable[..., Any], *example: Any) -> tuple[Callable[..., Any] | None, str]:
    """torch.compile of a function, once it has run on the example; or None, and why it does not."""
    torch.compiler.reset()  # PyTorch gives up on a function after some sizes
    fast = torch.compile(function, dynamic=False)
    try:
        fast(*example)
    except Exception as error:  # inductor wants a C++ compiler, and knows many ways to say so
        return None, f"{type(error).__name__}: {' '.join(str(error).split())[:120]}"
    return fast, ""
