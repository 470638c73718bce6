"""The other side of `genfast bench --compare`: one version of genfast, which prepares cases and takes a turn when told.

    PYTHONPATH=CHECKOUT python benchmarks/worker.py OPTIONS_AS_JSON

Reads one JSON object a line and answers with one: {"prepare": NAME} -> {"parts": [...]}; {"part": PART, "calls": N} ->
{"seconds": of so many calls}; {"error": SENTENCE} where that cannot be done.
"""

import json
import os
import sys
import time
from typing import Any

import cases
import rates
import torch
from bench import finishing
from harness import Clock, repeated, timed


def main() -> None:
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what anything prints must not look like an answer
    settings = json.loads(sys.argv[1])
    threads, cpu_time = settings.pop("threads"), settings.pop("cpu_time")
    torch.set_num_threads(1 if cpu_time else threads or torch.get_num_threads())
    torch.set_flush_denormal(True)
    options = cases.Options(**settings)
    rates.best_of_all = lambda *_: 1.0  # floors are not asked for
    worker = Worker(options, time.process_time if cpu_time else time.perf_counter)
    for line in sys.stdin:
        asked = json.loads(line)
        try:
            answer = worker.prepare(asked["prepare"]) if "prepare" in asked else worker.turn(**asked)
        except Exception as error:  # an older version may lack anything
            answer = {"error": f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"}
        print(json.dumps(answer), file=answers, flush=True)


class Worker:
    def __init__(self, options: cases.Options, clock: Clock) -> None:
        self.options, self.clock = options, clock
        self.parts: dict[str, Any] = {}

    def prepare(self, name: str) -> dict[str, Any]:
        """Inputs, and the check of the answer."""
        self.parts = {}
        found = [case for case in cases.cases_of(name.partition(":")[0], self.options) if case.name == name]
        if not found:
            return {"error": "it has no such case"}
        torch.manual_seed(0)
        made = found[0].prepare()
        made.check()
        self.parts = {part: timing.ours for part, timing in made.parts.items()}
        return {"parts": list(self.parts)}

    def turn(self, part: str, calls: int) -> dict[str, Any]:
        return {"seconds": timed(finishing(repeated(self.parts[part], calls), self.options.device), self.clock)}


if __name__ == "__main__":
    main()
