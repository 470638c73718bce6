"""The options of the benchmarks, and one pytest-benchmark test for each part of each case."""

import torch
from cases import Case, Options, all_cases, options_of

from genfast.profiling.machine import machine


def pytest_addoption(parser) -> None:
    group = parser.getgroup("genfast")
    group.addoption("--quick", action="store_true", help="few cases, few turns")
    group.addoption("--only", default="", help="cases with this in their names")
    group.addoption("--threads", type=int, default=0, help="0: PyTorch's choice")
    group.addoption("--device", default="cpu")
    group.addoption("--cpu-time", action="store_true", help="one thread and its processor time: for a busy machine")
    group.addoption("--no-compile", action="store_true", help="leave torch.compile out")
    group.addoption("--compile-limit", type=float, default=Options.compile_limit)


def pytest_configure(config) -> None:
    threads = 1 if config.getoption("--cpu-time") else config.getoption("--threads")
    if threads:
        torch.set_num_threads(threads)
    torch.set_flush_denormal(True)  # as genfast train does: weights fresh from their initialisation have none


def pytest_generate_tests(metafunc) -> None:
    if "case" in metafunc.fixturenames:
        cases = all_cases(options_of(metafunc.config.getoption), metafunc.config.getoption("--only"))
        pairs: list[tuple[Case, str]] = [(case, part) for case in cases for part in case.parts]
        metafunc.parametrize(("case", "part"), pairs, ids=[f"{case.name}, {part}" for case, part in pairs])


def pytest_benchmark_update_machine_info(config, machine_info) -> None:
    machine_info["genfast"] = machine()
