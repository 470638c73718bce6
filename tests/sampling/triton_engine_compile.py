"""Compiles the launches of the triton engine, at the sizes that models have, for GPUs that need not be there.

``python triton_engine_compile.py`` in a process without TRITON_INTERPRET prints a line of JSON: launch -> resources.
With the argument jit: how many compilations Triton's just-in-time compiler makes for batches of two sizes.
The plans are of small images: what is compiled does not depend on the image's size.
"""

import json
import sys
from collections.abc import Iterator
from typing import Any

import torch
import triton
from torch import nn
from triton.backends.compiler import GPUTarget

from genfast.compiler import compile_module, model_target, schedule
from genfast.kernels.common.triton_launch import Launch
from genfast.likelihoods import make_likelihood
from genfast.models import (
    GatedPixelCNN,
    GatedPixelCNNConfig,
    PixelCNN,
    PixelCNNConfig,
    PixelCNNPP,
    PixelCNNPPConfig,
    PixelRNN,
    PixelRNNConfig,
    PixelSNAIL,
    PixelSNAILConfig,
)
from genfast.sampling.sampler import example_conditions
from genfast.sampling.task import evaluation_mode
from genfast.sampling.triton_engine import Session, TritonEngine
from tests.kernels.triton_compile import TYPES, report_on
from tests.sampling.programs import every_kind

TYPES[torch.int32] = "i32"
CPU = torch.device("cpu")
COMPILED = ("HEAD_KIND", "KIND", "GATHERS", "BLOCK_N", "BIASED")


def engine_of(model: nn.Module, precision: str) -> TritonEngine:
    with evaluation_mode(model):
        plan = schedule(compile_module(model_target(model, *example_conditions(model))))
    return TritonEngine(plan, model.likelihood, CPU, precision)  # type: ignore[arg-type]


def engines() -> Iterator[tuple[str, int, TritonEngine]]:
    """(name, capability, engine): each precision, both GPUs, every kind of head, but not every combination."""
    gated = GatedPixelCNN(GatedPixelCNNConfig((1, 5, 5), levels=2, hidden=128, layers=2)).eval()
    yield "gated", 80, engine_of(gated, "float32")
    yield "gated", 90, engine_of(gated, "tf32")
    yield "gated", 90, engine_of(gated, "bfloat16")
    row = PixelRNN(PixelRNNConfig((1, 4, 4), levels=2, variant="row", hidden=128, layers=1)).eval()
    yield "row", 90, engine_of(row, "float32")
    colours = PixelCNN(PixelCNNConfig((3, 4, 4), levels=256, hidden=126, blocks=1)).eval()
    yield "pixelcnn", 80, engine_of(colours, "bfloat16")
    mixture = PixelCNNPP(PixelCNNPPConfig((3, 2, 2), filters=160, resnets=1, scales=1)).eval()
    yield "pixelcnn++", 90, engine_of(mixture, "tf32")
    snail = PixelSNAIL(PixelSNAILConfig((1, 5, 5), levels=2, filters=64, blocks=1, resnets=1)).eval()
    yield "pixelsnail", 90, engine_of(snail, "float32")
    plan = schedule(every_kind(0, (1, 3, 3), 256))
    yield "every-kind", 80, TritonEngine(plan, make_likelihood("categorical", 1, 256), CPU)


def distinct(engine: TritonEngine) -> list[Launch]:
    """One launch of each kind: of those that differ in sizes and elementwise steps only, the longest."""
    found: dict[tuple, Launch] = {}
    for launch in all_launches(engine, 64):
        kind: tuple[Any, ...] = (launch.kernel, *(launch.args.get(name) for name in COMPILED))
        kind += len(launch.args.get("OFFSETS", ())), bool(launch.args.get("REGULAR"))
        if kind not in found or size(launch) > size(found[kind]):
            found[kind] = launch
    return list(found.values())


def size(launch: Launch) -> tuple[int, int]:
    return launch.args.get("STEPS", 0), len(launch.args.get("BODY", ()))


def all_launches(engine: TritonEngine, n: int) -> list[Launch]:
    session = Session(engine, n, True)
    return [launch for row in range(engine.plan.program.image_shape[1]) for launch in engine.launches(session, row)]


class NoGPU:
    """In the place of Triton's driver, for the way to a launch up to the launch."""

    def get_current_device(self) -> int:
        return 0

    def get_current_stream(self, device: int) -> int:
        return 0

    def get_current_target(self) -> GPUTarget:
        return GPUTarget("cuda", 90, 32)


def compilations() -> dict[str, int]:
    """How many kernels Triton has compiled after it was called as a run over 64 images calls it, and then over 1."""
    triton.runtime.driver.set_active(NoGPU())
    model = GatedPixelCNN(GatedPixelCNNConfig((1, 2, 2), levels=2, hidden=32, layers=1)).eval()
    engine, found = engine_of(model, "tf32"), {}
    for n in (64, 1):
        launches = all_launches(engine, n)
        for launch in launches:
            launch.kernel.warmup(**launch.args, **launch.options, grid=launch.grid)
        found[str(n)] = sum(len(kernel.device_caches[0][0]) for kernel in {launch.kernel for launch in launches})
    return found


def compiled() -> dict[str, dict[str, int]]:
    report: dict[str, dict[str, int]] = {}
    for name, capability, engine in engines():
        for i, launch in enumerate(distinct(engine)):
            kernel = launch.kernel.__name__.removesuffix("_kernel")
            report[f"sm_{capability}-{name}-{engine.precision}-{kernel}-{i}"] = report_on(launch, capability)
    return report


if __name__ == "__main__":
    print(json.dumps(compilations() if "jit" in sys.argv else compiled()))
