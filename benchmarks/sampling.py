"""Sampling against one forward pass: the promise, measured.

    python benchmarks/sampling.py [--quick] [--threads 2] [--bfloat16] [--only PixelCNN++]

Each table has its result file, in which all rows are of one run: results/sampling.json, and for PixelCNN++, which takes
as long as all the others, results/sampling_pp.json. --only measures the models whose title holds a word; a file is
written if the whole of it was measured.

"One forward" is what plain PyTorch needs to look once at the same batch: F.conv2d with weights that are masked already,
evaluation and inference mode, contiguous or channels_last, whichever is faster. The ratio is the time of sampling over
that; below 1, generating costs less than looking. PyTorch has no Row LSTM and no Diagonal BiLSTM: in a PixelRNN's
forward pass these layers are genfast's own (benchmarks/lstm.py has them against the loops that people write).

The floor: sampling computes each activation once and no masked weight, so its FLOPs over the peak of a matrix product
is what it cannot go below ("share of peak" is how near it comes). Attention has another floor: a query uses each key
and value once, so a pixel reads those of all pixels before it from memory ("caches" is what the last one reads). The
naive loop needs one forward pass a sub-pixel; a few of its passes are timed and multiplied, and for the digits preset a
whole image is drawn that way.

precision="bfloat16" is timed against float32 where the machine has instructions for its products (target: 0.6 of the
time), or with --bfloat16.
"""

import argparse
import copy
import time
from typing import Any
from unittest import mock

import torch
from harness import Ratio, as_row, compare, save
from torch import Tensor, nn

import genfast
from genfast.models import MODELS, ImageModel, build_model
from genfast.nn import MaskedConv2d, ShiftedConv2d
from genfast.ops.backends import isa
from genfast.profiling.ceilings import product_rate
from genfast.sampling import naive

CASES = {  # by result file
    "sampling": {
        "PixelCNN, 15 blocks, h = 128, 32x32x3": ("pixelcnn", "cifar10"),
        "Gated PixelCNN, 10 layers x 128, 28x28": ("gated-pixelcnn", "mnist"),
        "PixelRNN, Row LSTM, 7 layers, h = 16, 28x28": ("pixelrnn", "mnist-row"),
        "PixelRNN, Diagonal BiLSTM, 7 layers, h = 16, 28x28": ("pixelrnn", "mnist-diagonal"),
    },
    "sampling_pp": {
        "PixelCNN++, 5 resnets, 160 filters, 32x32x3": ("pixelcnn-pp", "cifar10"),
        "PixelSNAIL, 4 blocks, 64 filters, 28x28": ("pixelsnail", "mnist"),
    },
}
TARGETS = {  # of sampling over one forward pass, by batch
    "pixelcnn": {64: 0.6, 16: 0.6, 4: 0.7, 1: 1.0},
    "gated-pixelcnn": {64: 1.0, 16: 1.0, 4: 1.2, 1: 1.5},
    "pixelcnn-pp": {16: 1.2, 4: 3.0, 1: 10.0},  # its 54 million weights are read anew for every pixel; 64 takes minutes
    "pixelsnail": {64: 1.0, 16: 1.0, 4: 1.5, 1: 3.0},  # for every pixel, all earlier keys and values are read again
    "pixelrnn": {64: 1.0, 16: 1.0, 4: 1.0, 1: 1.0},
}


def make(name: str, preset: str) -> ImageModel:
    """A freshly initialised preset in evaluation mode. Its speed does not depend on what it has learnt."""
    torch.manual_seed(0)
    model = build_model(name, MODELS[name].presets[preset])
    model.initialize(torch.randint(0, model.levels, (4, *model.image_shape)))
    return model.eval()


class Normalized(nn.Module):
    """A ShiftedConv2d whose weight has been computed."""

    def __init__(self, layer: ShiftedConv2d) -> None:
        super().__init__()
        self.layer, self.weight = layer, nn.Parameter(layer.weight().detach())
        layer.weight = lambda: self.weight  # type: ignore[method-assign]

    def forward(self, x: Tensor, size: tuple[int, int] | None = None) -> Tensor:
        out: Tensor = self.layer(x, size)
        return out


def plain(model: nn.Module) -> nn.Module:
    """The same network on nn.Conv2d: its weights are zero where they are masked, and normalised once."""
    twin = copy.deepcopy(model)
    for parent in list(twin.modules()):
        for name, layer in parent.named_children():
            if isinstance(layer, MaskedConv2d):
                conv = nn.Conv2d(layer.in_channels, layer.out_channels, layer.kernel_size, padding=layer.padding)
                conv.load_state_dict(layer.state_dict())
                setattr(parent, name, conv)
            elif isinstance(layer, ShiftedConv2d):
                setattr(parent, name, Normalized(layer))
    return twin.eval()


class Forward:
    """One plain forward pass, in the faster of the two memory layouts."""

    def __init__(self, model: ImageModel, images: Tensor) -> None:
        self.images = images
        self.twins = {"channels_last": plain(model).to(memory_format=torch.channels_last), "contiguous": plain(model)}
        times = {layout: self.seconds(layout) for _ in range(3) for layout in self.twins}  # the first is slow
        for layout in (*self.twins, *self.twins):
            times[layout] = min(times[layout], self.seconds(layout))
        self.layout = min(times, key=times.__getitem__)

    def __call__(self, layout: str | None = None) -> Tensor:
        layout = layout or self.layout
        formats = {"channels_last": torch.channels_last, "contiguous": torch.contiguous_format}

        def laid_out(x: Tensor) -> Tensor:
            return x.contiguous(memory_format=formats[layout])

        with torch.inference_mode(), mock.patch("genfast.models.pixelcnn.channels_last", laid_out), mock.patch(
            "genfast.models.gated_pixelcnn.channels_last", laid_out), mock.patch(
            "genfast.models.pixelrnn.channels_last", laid_out), mock.patch(
            "genfast.models.base.channels_last", laid_out):  # fmt: skip
            out: Tensor = self.twins[layout](self.images)
        return out

    def seconds(self, layout: str) -> float:
        start = time.perf_counter()
        self(layout)
        return time.perf_counter() - start


def check(model: ImageModel, sampler: genfast.sampling.Sampler, forward: Forward) -> float:
    """No number without the right answer: the engine's logits are the plain forward pass's, within rounding."""
    images = forward.images[:2]
    expected, got = forward()[:2], sampler.logits(images)
    error = float((got - expected).abs().max() / expected.abs().max())
    assert error < 1e-4, f"the engine's logits are off by {error:.1e}"
    return error


def loop_seconds(model: ImageModel, images: Tensor, passes: int = 2) -> float:
    """The naive loop over the batch, from a few of its passes (each looks at all images)."""
    with torch.inference_mode():
        model(images)
        start = time.perf_counter()
        for _ in range(passes):
            model(images)
    return (time.perf_counter() - start) / passes * images[0].numel()


def whole_loop() -> dict[str, float]:
    """The digits preset, drawn to the end by the loop and by the engine."""
    model = make("gated-pixelcnn", "digits")
    sampler = genfast.compile_sampler(model)
    assert torch.equal(sampler.sample(16), naive.sample(model, 16))
    ratio = compare(lambda: sampler.sample(16), lambda: naive.sample(model, 16), turns=3)
    return {"loop_over_sampling": round(ratio.median, 1), "images": 16}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="batch 4 only; writes nothing")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--only", default="", help="only models whose title holds this")
    parser.add_argument("--bfloat16", action="store_true", default=isa() in ("avx512_bf16", "amx_bf16"))
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    peak = product_rate()
    print(f"peak of a float32 matrix product: {peak / 1e9:.0f} GFLOP/s on {arguments.threads} threads")
    for file, cases in CASES.items():
        chosen = {title: case for title, case in cases.items() if arguments.only in title}
        rows = [row for title, case in chosen.items() for row in measure_case(title, *case, peak, arguments)]
        if arguments.quick or len(chosen) < len(cases):
            continue
        more: dict[str, Any] = {"peak_gflops": round(peak / 1e9)}
        if file == "sampling":
            more["whole_loop"] = whole_loop()
            print(f"digits preset, whole images: {more['whole_loop']['loop_over_sampling']} times faster than the loop")
        print("wrote", save(file, rows, **more))


def measure_case(
    title: str, name: str, preset: str, peak: float, arguments: argparse.Namespace
) -> list[dict[str, Any]]:
    """A row for each batch."""
    model = make(name, preset)
    start = time.perf_counter()
    sampler = genfast.compile_sampler(model, engine="cpu", threads=arguments.threads)
    compiling = time.perf_counter() - start
    print(f"{title}: compiled in {compiling:.1f} s, slope {sampler.plan.slope}, {sampler.plan.ticks} ticks")
    rows = []
    for batch, target in TARGETS[name].items():
        if arguments.quick and batch != 4:
            continue
        rows.append(measure(title, model, sampler, batch, target, compiling, peak, arguments.turns))
        if arguments.bfloat16:
            rows[-1] |= measure_bfloat16(model, sampler, batch, arguments.turns)
    return rows


def measure(
    title: str, model: ImageModel, sampler: genfast.sampling.Sampler, batch: int, target: float, compiling: float,
    peak: float, turns: int,
) -> dict[str, Any]:  # fmt: skip
    """One row: interleaved timings of sampling and of one forward pass."""
    images = sampler.sample(batch, batch_size=batch)
    flops, cache = sampler.stats.flops, sampler.stats.cache_bytes
    forward = Forward(model, images)
    error = check(model, sampler, forward)
    ratio: Ratio = compare(lambda: sampler.sample(batch, batch_size=batch), forward, turns=turns)
    loop = loop_seconds(model, images[: min(batch, 4)], passes=3) * batch / min(batch, 4)
    cost = 1 / ratio.median
    parts = sampler.profile(batch)
    shares = {name: round(seconds / sum(parts.values()), 3) for name, seconds in parts.items()}
    row = {
        "model": title, "batch": batch, "target": target, "sampling_over_forward": round(cost, 3),
        **as_row("ratio", ratio), "forward_layout": forward.layout, "loop_over_sampling": round(loop / ratio.ours),
        "flops": flops, "share_of_peak": round(flops / ratio.ours / peak, 3), "cache_bytes": cache,
        "logit_error": error, "compile_seconds": round(compiling, 2), "time_shares": shares,
    }  # fmt: skip
    print(
        f"  batch {batch:3}: sampling {ratio.ours:7.3f} s, one forward ({forward.layout}) {ratio.theirs:7.3f} s: "
        f"{cost:.2f} x one forward (target {target}), {row['share_of_peak']:.0%} of peak, "
        f"{row['loop_over_sampling']} times the loop, caches {cache / 1e6:.0f} MB; time: "
        + ", ".join(f"{name} {share:.0%}" for name, share in shares.items()),
        flush=True,
    )
    return row


def measure_bfloat16(model: ImageModel, sampler: genfast.sampling.Sampler, batch: int, turns: int) -> dict[str, Any]:
    """The time of bfloat16 over that of float32, and how far its logits are off."""
    narrow = genfast.compile_sampler(model, engine="cpu", threads=sampler.threads, precision="bfloat16")
    images = sampler.sample(batch, batch_size=batch)
    exact = sampler.logits(images[:2])
    error = float((narrow.logits(images[:2]) - exact).abs().max() / exact.abs().max())
    assert error < 0.1, f"bfloat16 logits are off by {error:.1e}"
    ratio = compare(
        lambda: narrow.sample(batch, batch_size=batch), lambda: sampler.sample(batch, batch_size=batch), turns=turns
    )
    print(f"             bfloat16: {1 / ratio.median:.2f} of the time of float32 ({isa()}), logits off by {error:.1e}")
    return {"bfloat16_over_float32": round(1 / ratio.median, 3), "bfloat16_error": error}


if __name__ == "__main__":
    main()
