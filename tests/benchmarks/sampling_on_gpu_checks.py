"""The cases of benchmarks/sampling_on_gpu.py where there is no GPU: a tiny model on the CPU, Triton interpreted, a CUDA
graph that is no graph, and a matrix rate that nobody measured.

``python sampling_on_gpu_checks.py`` prints a line of JSON, check -> what failed or "" (tests/kernels/apart.py).
"""

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from genfast.models import GatedPixelCNN, GatedPixelCNNConfig
from tests.kernels.apart import attempt, hasten_interpreter, prepare

ROOT = Path(__file__).parents[2]
BATCH = 4


def tiny(*_: str) -> Any:
    torch.manual_seed(0)
    model = GatedPixelCNN(GatedPixelCNNConfig((1, 3, 3), levels=4, hidden=8, layers=2, head=8))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(2)
    return model.eval()


def suite() -> Any:
    import passes
    import rates
    import sampling_on_gpu

    rates.best_of_all = lambda *_: 1e12
    passes.replayed = lambda forward: forward
    sampling_on_gpu.fresh = tiny
    return sampling_on_gpu


def made(parts: tuple[str, ...]) -> tuple[Any, Any]:
    from cases import Options

    module = suite()
    targets = (module.Target(module.GRAPH, 1e9), module.Target("us a pixel", 1e9, False, part="ratio"))
    size = module.Size("tiny", "gated-pixelcnn", "digits", BATCH, targets=targets)
    return module, module.prepare(size, "triton", parts, Options(device="cpu"))


def check_case() -> None:
    """The answers agree in every precision; what is timed runs; a share of the loop counts as the loop."""
    module, prepared = made(tuple(suite().PARTS))
    prepared.check()
    for part, timing in prepared.parts.items():
        assert timing.ours().shape == (BATCH, 1, 3, 3)
        assert set(timing.rivals) == {module.PASS, module.LOOP, module.GRAPH}
        for rival in timing.rivals.values():
            rival()
        assert timing.multiples == {module.LOOP: 9 / 2, module.GRAPH: 9 / 2}
        assert timing.floor > 0
        times = {name: {"median": 8.0} for name in timing.rivals}
        found = {"ours": 1e-3, "rivals": times, "fastest": module.PASS, "of_floor": 4.0}
        more = prepared.more(part, found)
        assert more["images a second"] == BATCH / 1e-3
        assert more["us a pixel"] == round(1e3 / 9, 1)
        assert more["share_of_peak"] == 0.25
        missed = "8 times as fast as naive loop, CUDA graph, of at least 1e+09: MISSED"
        met = "111.1 us a pixel, of at most 1e+09: met"
        assert more["targets"] == ([missed, met] if part == "ratio" else [missed])


def check_wrong_answers() -> None:
    """Other log-probabilities, or those of another network, are no time."""
    module, _ = made(("ratio",))
    sampler = module.sampler_of("gated-pixelcnn", "digits", "triton", "float32", "cpu")
    images = sampler.sample(BATCH)
    drawn, forward = sampler.last_log_prob, module.Forward(sampler.model, images)
    module.check(sampler.model, forward, drawn, "float32")
    with pytest.raises(AssertionError, match="of the engine are off"):
        module.check(sampler.model, forward, drawn.flip(0), "float32")
    with torch.no_grad():
        next(forward.twins[forward.layout].parameters()).mul_(1.1)
    with pytest.raises(AssertionError, match="of the rival are off"):
        module.check(sampler.model, forward, drawn, "float32")


def check_whole_loop() -> None:
    from cases import Options

    prepared = suite().prepare_whole_loop("triton", Options(device="cpu"))
    prepared.check()
    assert set(prepared.parts) == {"ratio"}


CHECKS = {"case": check_case, "wrong": check_wrong_answers, "whole": check_whole_loop}


def main() -> None:
    prepare()
    hasten_interpreter()
    sys.path.insert(0, str(ROOT / "benchmarks"))
    results: dict[str, str] = {}
    for name, check in CHECKS.items():
        attempt(results, name, check)
    print(json.dumps(results))


if __name__ == "__main__":
    main()
