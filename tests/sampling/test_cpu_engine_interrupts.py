"""The cpu engine while it works: Ctrl-C ends it, other Python threads run, and cannot interfere."""

import dataclasses
import os
import signal
import threading
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from genfast.compiler.plan import Plan
from genfast.compiler.program import Program
from genfast.compiler.schedule import schedule
from genfast.errors import GenfastError
from tests.sampling.cpu_engine import CASES, request

pytest.importorskip("genfast._C")
from genfast.sampling.cpu import CpuEngine


def endless(program: Program) -> Plan:
    """A plan that computes the last launch of tick 0 so often that it takes minutes."""
    plan = schedule(program)
    i = int(np.flatnonzero(plan.launch_tick == 0)[-1])
    counts = np.ones(len(plan.launch_tick), np.int64)
    counts[i] = 20_000_000
    names = ("launch_tick", "launch_kernel", "launch_begin", "launch_end")
    columns: dict[str, Any] = {name: np.repeat(getattr(plan, name), counts) for name in names}
    return dataclasses.replace(plan, **columns)


@pytest.fixture
def _ctrl_c() -> Iterator[None]:
    """Ctrl-C works, also where the tests run in the background: there a shell has it ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("_ctrl_c")
@pytest.mark.parametrize(("n", "threads"), [(4, 1), (4, 2), (1, 2)])
def test_ctrl_c_ends_it_within_a_second(n: int, threads: int) -> None:
    program = CASES[0]
    run = CpuEngine(endless(program), threads).start(request(program, n))
    sent: list[float] = []

    def interrupt() -> None:
        sent.append(time.monotonic())
        os.kill(os.getpid(), signal.SIGINT)

    timer = threading.Timer(0.3, interrupt)
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        run.until_row(4)
    assert time.monotonic() - sent[0] < 1
    timer.join()
    with pytest.raises(GenfastError, match="was stopped"):
        run.until_row(4)


@pytest.mark.usefixtures("_ctrl_c")
def test_other_python_threads_run_meanwhile_and_cannot_interfere() -> None:
    program = CASES[0]
    run = CpuEngine(endless(program), 1).start(request(program, 2))
    refused: list[str] = []

    def interfere() -> None:
        time.sleep(0.3)
        try:
            run.until_row(4)
        except GenfastError as error:
            refused.append(str(error))
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interfere)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        run.until_row(4)
    thread.join()
    assert refused == ["This run is under way in another thread."]
