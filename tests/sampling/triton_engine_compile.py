"""Compiles the launches of the triton engine, at the sizes that models have, for GPUs that need not be there.

``python triton_engine_compile.py`` in a process without TRITON_INTERPRET prints a line of JSON: launch -> resources.
The plans are of small images: what is compiled does not depend on the image's size.
"""

import json
from collections.abc import Iterator

import torch
from torch import nn

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
)
from genfast.sampling.sampler import example_conditions
from genfast.sampling.task import evaluation_mode
from genfast.sampling.triton_engine import Session, TritonEngine
from tests.kernels.triton_compile import TYPES, report_on
from tests.sampling.programs import every_kind

TYPES[torch.int32] = "i32"
CPU = torch.device("cpu")


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
    plan = schedule(every_kind(0, (1, 3, 3), 256))
    yield "every-kind", 80, TritonEngine(plan, make_likelihood("categorical", 1, 256), CPU)


def distinct(engine: TritonEngine) -> list[Launch]:
    """One launch of each kernel that would be compiled."""
    session = Session(engine, 64, True)
    found: dict[tuple, Launch] = {}
    for row in range(engine.plan.program.image_shape[1]):
        for launch in engine.launches(session, row):
            constants = {name: value for name, value in launch.args.items() if name.isupper()}
            found.setdefault((launch.kernel, repr(constants)), launch)
    return list(found.values())


def compiled() -> dict[str, dict[str, int]]:
    report: dict[str, dict[str, int]] = {}
    for name, capability, engine in engines():
        for i, launch in enumerate(distinct(engine)):
            kernel = launch.kernel.__name__.removesuffix("_kernel")
            report[f"sm_{capability}-{name}-{engine.precision}-{kernel}-{i}"] = report_on(launch, capability)
    return report


if __name__ == "__main__":
    print(json.dumps(compiled()))
