"""Sampling against one forward pass: the promise, measured.

"One forward pass" is what plain PyTorch needs to look once at the same batch (passes.py). The ratio is the time of that
over the time of sampling; above 1, generating costs less than looking. benchmarks/lstm.py has a PixelRNN's layers
against the loops that people write.

The floor: sampling computes each activation once and no masked weight, so its FLOPs over the peak of a matrix product
is what it cannot go below ("share of peak" is how near it comes). Attention has another floor: a query uses each key
and value once, so a pixel reads those of all pixels before it from memory ("caches" is what the last one reads). The
naive loop needs one forward pass a sub-pixel; a few of its passes are timed and multiplied, and for the digits preset a
whole image is drawn that way.

precision="bfloat16" is timed against float32 where the machine has instructions for its products (target: 0.6 of the
time). On a GPU there are other rivals and other targets: sampling_on_gpu.py.
"""

import time
from functools import lru_cache, partial
from typing import Any

import sampling_on_gpu
import torch
from cases import Case, Options, Prepared, Timing
from passes import Forward, fresh, loop_passes
from rates import known, peak
from sampling_on_gpu import GATED, PIXELCNN, WHOLE
from torch import Tensor

import genfast
from genfast.models import ImageModel
from genfast.ops.backends import isa
from genfast.sampling import naive

CASES = {  # by file of results, all of which is measured in one run
    "sampling": {
        PIXELCNN: ("pixelcnn", "cifar10"),
        GATED: ("gated-pixelcnn", "mnist"),
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


def cases(options: Options) -> list[Case]:
    if options.device != "cpu":
        return sampling_on_gpu.cases(options)
    found = []
    parts = ("ratio", "bfloat16") if has_bfloat16() else ("ratio",)
    for file, models in CASES.items():
        for title, (name, preset) in models.items():
            for batch, target in TARGETS[name].items():
                facts = {"model": title, "batch": batch, "target": target}
                make = partial(prepare, name, preset, batch)
                quick = batch == 4 and name in ("pixelcnn", "pixelrnn")
                found.append(Case("sampling", f"{title}, batch {batch}", facts, parts, make, quick, file))
    whole = Case("sampling", WHOLE, {"model": WHOLE, "batch": 16}, ("ratio",), prepare_whole_loop, quick=True)
    return [*found, whole]


def ceilings(options: Options) -> dict[str, float]:
    if options.device != "cpu":
        return sampling_on_gpu.ceilings(options)
    return known("cpu", peak_gflops=("peak", 1e9, 0))


def arrange(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """The results: the whole images are no row of the table."""
    found: dict[str, Any] = {"rows": [row for row in rows if row["model"] != WHOLE]}
    for row in rows:
        if row["model"] == WHOLE:
            loop = {"loop_over_sampling": round(row["ratio_median"], 1), "images": row["batch"]}
            found = {"whole_loop": loop, **found}
    return found


@lru_cache(maxsize=1)
def samplers(name: str, preset: str) -> tuple[genfast.sampling.Sampler, genfast.sampling.Sampler | None, float]:
    """Kept for the other batches: of float32, of bfloat16 where the machine has it, and the seconds to compile one."""
    model = fresh(name, preset)
    start = time.perf_counter()
    sampler = genfast.compile_sampler(model, engine="cpu")
    seconds = time.perf_counter() - start
    narrow = genfast.compile_sampler(model, engine="cpu", precision="bfloat16") if has_bfloat16() else None
    return sampler, narrow, seconds


def has_bfloat16() -> bool:
    return isa() in ("avx512_bf16", "amx_bf16")


def prepare(name: str, preset: str, batch: int) -> Prepared:
    sampler, narrow, compiling = samplers(name, preset)
    model: Any = sampler.model
    images = sampler.sample(batch, batch_size=batch)
    flops, cache = sampler.stats.flops, sampler.stats.cache_bytes
    forward = Forward(model, images)
    floor = flops / peak()

    def draw() -> Any:
        return sampler.sample(batch, batch_size=batch)

    def more(part: str, found: dict[str, Any]) -> dict[str, Any]:
        cost = round(1 / found["rivals"][found["fastest"]]["median"], 3)
        if part == "bfloat16" and narrow is not None:
            error = logit_error(narrow, images, sampler.logits(images[:2]))
            return {"bfloat16_over_float32": cost, "bfloat16_error": error}
        loop = loop_seconds(model, images[: min(batch, 4)], passes=3) * batch / min(batch, 4)
        spent = sampler.profile(batch)
        return {
            "sampling_over_forward": cost,
            "share_of_peak": round(1 / found["of_floor"], 3),
            "forward_layout": forward.layout,
            "loop_over_sampling": round(loop / found["ours"]),
            "flops": flops,
            "cache_bytes": cache,
            "logit_error": logit_error(sampler, images, forward()[:2]),
            "compile_seconds": round(compiling, 2),
            "time_shares": {name: round(each / sum(spent.values()), 3) for name, each in spent.items()},
        }

    parts = {"ratio": Timing(draw, {"one forward pass": forward}, floor)}
    if narrow is not None:
        parts["bfloat16"] = Timing(lambda: narrow.sample(batch, batch_size=batch), {"float32": draw})
    return Prepared(parts, lambda: check(sampler, narrow, forward), more)


def logit_error(sampler: genfast.sampling.Sampler, images: Tensor, expected: Tensor) -> float:
    """Of the largest logit."""
    return float((sampler.logits(images[:2]) - expected).abs().max() / expected.abs().max())


def check(sampler: genfast.sampling.Sampler, narrow: genfast.sampling.Sampler | None, forward: Forward) -> None:
    """No number without the right answer: the engine's logits are the plain forward pass's, within rounding."""
    error = logit_error(sampler, forward.images, forward()[:2])
    assert error < 1e-4, f"the engine's logits are off by {error:.1e}"
    error = 0.0 if narrow is None else logit_error(narrow, forward.images, forward()[:2])
    assert error < 0.1, f"bfloat16 logits are off by {error:.1e}"


def loop_seconds(model: ImageModel, images: Tensor, passes: int = 2) -> float:
    """The naive loop over the batch, from a few of its passes (each looks at all images)."""
    with torch.inference_mode():
        model(images)
        start = time.perf_counter()
        for _ in range(passes):
            model(images)
    return (time.perf_counter() - start) / passes * loop_passes(model)


def prepare_whole_loop() -> Prepared:
    """The digits preset, drawn to the end by the loop and by the engine."""
    model = fresh("gated-pixelcnn", "digits")
    sampler = genfast.compile_sampler(model, engine="cpu")

    def check_images() -> None:
        assert torch.equal(sampler.sample(16), naive.sample(model, 16)), "the loop draws other images"

    parts = {"ratio": Timing(lambda: sampler.sample(16), {"naive loop": lambda: naive.sample(model, 16)})}
    return Prepared(parts, check_images)
