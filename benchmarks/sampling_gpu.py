"""Sampling on a GPU: the triton engine against one forward pass, and against the loop with its passes in a CUDA graph.

    python benchmarks/sampling_gpu.py [--quick] [--batch 64]

"One forward" is the model's own pass over the same batch. The loop captures that pass once and replays it for every
sub-pixel, so that only the GPU's time counts; some of its passes are timed and multiplied. The engine is timed after a
first run has recorded its launches, which is shown too. Before anything is timed the engine's logits must agree with
the model's.
"""

import argparse
import math
import time
from collections.abc import Callable

import torch
from torch import Tensor

import genfast
from genfast.models import MODELS, ImageModel, build_model

CASES = {
    "PixelCNN, 32x32x3": ("pixelcnn", "cifar10"),
    "Gated PixelCNN, 28x28": ("gated-pixelcnn", "mnist"),
    "PixelRNN, Row LSTM, 28x28": ("pixelrnn", "mnist-row"),
    "PixelCNN++, 32x32x3": ("pixelcnn-pp", "cifar10"),
}
QUICK = {"Gated PixelCNN, digits": ("gated-pixelcnn", "digits"), "PixelCNN, digits": ("pixelcnn", "digits")}
PRECISIONS = {"float32": 1e-3, "tf32": 5e-2, "bfloat16": 2e-1}  # how far logits may be off, of their largest


def seconds(call: Callable[[], object], turns: int = 3) -> float:
    """The least of some turns, each with a wait for the GPU."""
    best = math.inf
    for _ in range(turns):
        torch.cuda.synchronize()
        began = time.perf_counter()
        call()
        torch.cuda.synchronize()
        best = min(best, time.perf_counter() - began)
    return best


def graph_of(model: ImageModel, images: Tensor) -> torch.cuda.CUDAGraph:
    """A forward pass over a buffer of images."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side), torch.no_grad(), genfast.likelihoods.trusted():
        for _ in range(2):
            model(images)
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, stream=side):
            model(images)
    return graph


def case(name: str, model: ImageModel, batch: int) -> None:
    channels, height, width = model.image_shape
    images = torch.randint(0, model.levels, (batch, channels, height, width), dtype=torch.uint8, device="cuda")
    with torch.inference_mode():
        forward = seconds(lambda: model(images))
        expected = model(images[:2]).float()
    replay = graph_of(model, images).replay
    passes = channels * height * width
    loop = seconds(lambda: [replay() for _ in range(20)]) / 20 * passes
    print(f"{name}, {batch} images: forward {1e3 * forward:.2f} ms, loop of {passes} replays {loop:.3f} s")
    for precision, tolerance in PRECISIONS.items():
        began = time.perf_counter()
        sampler = genfast.compile_sampler(model, "triton", precision=precision)
        off = float((sampler.logits(images[:2]).float() - expected).abs().max() / expected.abs().max())
        if not off <= tolerance:
            raise SystemExit(f"{name}, {precision}: logits are off by {off:.1e} of the largest; nothing was timed.")
        sampler.sample(batch, batch_size=batch)
        first = time.perf_counter() - began
        took = seconds(lambda sampler=sampler: sampler.sample(batch, batch_size=batch))  # type: ignore[misc]
        print(
            f"  triton {precision:8}  {1e3 * took:8.1f} ms: {took / forward:.2f} of a forward pass, {loop / took:.0f} "
            f"times as fast as the loop; off by {off:.0e}; compiled and recorded in {first:.1f} s"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="small models")
    parser.add_argument("--batch", type=int, default=64, help="images (64)")
    flags = parser.parse_args()
    if not torch.cuda.is_available():
        raise SystemExit("This benchmark needs a GPU: torch.cuda.is_available() is false here.")
    print(torch.cuda.get_device_name())
    for name, (family, preset) in (QUICK if flags.quick else CASES).items():
        torch.manual_seed(0)
        model = build_model(family, MODELS[family].presets[preset])
        model.initialize(torch.randint(0, model.levels, (4, *model.image_shape)))
        case(name, model.eval().cuda(), flags.batch)


if __name__ == "__main__":
    main()
