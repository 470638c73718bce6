"""Sampling on a GPU, by both engines: the cases of sampling.py there.

    one forward pass         plain PyTorch over the same batch (passes.py)
    naive loop               one such pass for every sub-pixel; two are timed and multiplied, and what is drawn in
                             between is left out, which flatters it
    naive loop, CUDA graph   the same with the pass captured once and replayed, so that only the GPU's time counts

Like is compared with like: "drawing" is float32 with TF32 off on both sides; "drawing in TF32" rounds the factors of
all products to TF32 on both; in bfloat16 the rivals' network is bfloat16 throughout, while the engine rounds factors.
A call of ours is all that a user calls, uniforms, copies and log-probabilities included; what it records once it has
recorded before. The floor is the FLOPs of sampling over the peak of a matrix product of that precision in the same run.

The check is of what is timed, the whole batch: its log-probabilities, as the engine added them up while it drew, and as
the rival has them, are those of a plain pass in float32, within a small share of how much they differ between images.
The images of a fresh model are all about as likely as noise: only the differences tell whether anything was computed.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

import passes
import torch
from cases import Case, Options, Prepared, Timing
from passes import Forward, fresh, loop_passes, plain, products_in, some_passes, written_plainly
from rates import known, peak, peak_name
from torch import Tensor

import genfast
from genfast.sampling import Sampler, naive

PASS, LOOP, GRAPH = "one forward pass", "naive loop", "naive loop, CUDA graph"
PARTS = {"ratio": "float32", "tf32": "tf32", "bfloat16": "bfloat16"}  # part -> precision
ENGINES = ("cuda", "triton")
MOST_OFF = {"float32": 1e-3, "tf32": 0.1, "bfloat16": 0.3}  # log-probabilities, of their deviation between images
CHUNK = 64  # images of a pass that checks
RATES = {"images a second": 0, "us a pixel": 1}  # decimals


@dataclass(frozen=True)
class Target:
    """of: a rival's name, where it is how many times as fast ours must be, or a key of RATES. part: where it is for one
    part only."""

    of: str
    limit: float
    at_least: bool = True
    part: str = ""


@dataclass(frozen=True)
class Size:
    """quick: the parts that a quick run has of it."""

    title: str
    model: str
    preset: str
    batch: int
    quick: tuple[str, ...] = ()
    targets: tuple[Target, ...] = ()


PIXELCNN, GATED = "PixelCNN, 15 blocks, h = 128, 32x32x3", "Gated PixelCNN, 10 layers x 128, 28x28"
SIZES = (  # those of one model together: what is compiled for it is kept
    Size(GATED, "gated-pixelcnn", "mnist", 16, ("ratio", "bfloat16"),
         (Target(LOOP, 200), Target(GRAPH, 40), Target("us a pixel", 20, False))),
    Size(GATED, "gated-pixelcnn", "mnist", 1024),
    Size(PIXELCNN, "pixelcnn", "cifar10", 1024, ("bfloat16",),
         (Target(GRAPH, 300), Target("images a second", 2000, part="bfloat16"))),
    Size(PIXELCNN, "pixelcnn", "cifar10", 16),
    Size("PixelRNN, Row LSTM, 7 layers, h = 16, 28x28", "pixelrnn", "mnist-row", 64),
    Size("PixelRNN, Diagonal BiLSTM, 7 layers, h = 16, 28x28", "pixelrnn", "mnist-diagonal", 64),
    Size("PixelCNN++, 5 resnets, 160 filters, 32x32x3", "pixelcnn-pp", "cifar10", 16),
    Size("PixelSNAIL, 4 blocks, 64 filters, 28x28", "pixelsnail", "mnist", 64),
)  # fmt: skip
WHOLE = "Gated PixelCNN, preset digits, whole images, batch 16"


def cases(options: Options) -> list[Case]:
    found = []
    for engine in ENGINES:
        for size in SIZES:
            wanted = size.quick if options.quick else tuple(PARTS)
            parts = tuple(part for part in wanted if part != "tf32" or engine == "triton")
            facts = {"model": size.title, "batch": size.batch, "engine": engine}
            title = f"{size.title}, batch {size.batch}, {engine} engine"
            make = partial(prepare, size, engine, parts, options)
            found.append(Case("sampling", title, facts, parts, make, quick=bool(size.quick)))
    for engine in ENGINES:
        facts = {"model": WHOLE, "batch": 16, "engine": engine}
        make = partial(prepare_whole_loop, engine, options)
        found.append(Case("sampling", f"{WHOLE}, {engine} engine", facts, ("ratio",), make, quick=True))
    return found


def ceilings(options: Options) -> dict[str, float]:
    names = {f"{precision}_peak_gflops": (peak_name(precision), 1e9, 0) for precision in PARTS.values()}
    return known(options.device, **names)


@lru_cache(maxsize=len(PARTS))
def sampler_of(name: str, preset: str, engine: str, precision: str, device: str) -> Sampler:
    """Kept for the other batches."""
    return genfast.compile_sampler(fresh(name, preset).to(device), engine, precision=precision)


def prepare(size: Size, engine: str, parts: tuple[str, ...], options: Options) -> Prepared:
    timings: dict[str, Timing] = {}
    checks: list[Callable[[], None]] = []
    costs: dict[str, Any] = {}
    for part in parts:
        precision = PARTS[part]
        sampler = sampler_of(size.model, size.preset, engine, precision, options.device)
        model: Any = sampler.model
        draw = partial(sampler.sample, size.batch, batch_size=size.batch)
        forward = Forward(model, draw(), precision)
        drawn = sampler.last_log_prob
        assert drawn is not None
        flops = sampler.stats.flops
        rivals = {PASS: forward, LOOP: some_passes(forward), GRAPH: some_passes(passes.replayed(forward))}
        share = loop_passes(model) / passes.LOOP_PASSES
        floor = flops / peak(options.device, precision)
        timings[part] = Timing(draw, rivals, floor, multiples={LOOP: share, GRAPH: share})
        checks.append(partial(check, model, forward, drawn, precision))
        costs[part] = {"forward_layout": forward.layout, "flops": flops, "cache_bytes": sampler.stats.cache_bytes}

    def more(part: str, found: dict[str, Any]) -> dict[str, Any]:
        rates = rates_of(found, size.batch, sampler.model.image_shape)
        said = judged(size.targets, part, found, rates)
        return {**costs[part], **rates, "share_of_peak": round(1 / found["of_floor"], 4), "targets": said}

    def all_checks() -> None:
        for each in checks:
            each()

    return Prepared(timings, all_checks, more)


def check(model: Any, forward: Forward, drawn: Tensor, precision: str) -> None:
    """No number without the right answer. drawn: log-probabilities of the forward pass's images, by the engine."""
    expected = nats(plain(model), forward.images, "tf32" if precision == "tf32" else "float32")
    for name, found in {
        "engine": drawn,
        "rival": nats(forward.twins[forward.layout], forward.images, precision),
    }.items():
        off = float((found - expected).abs().max() / expected.std())
        assert off < MOST_OFF[precision], f"log-probabilities of the {name} are off by {off:.1e} of their deviation"


def nats(network: Any, images: Tensor, precision: str) -> Tensor:
    """ln P of each image by forward passes over some at a time, added up in float64.  # [B]"""
    parts = []
    with torch.inference_mode(), written_plainly("channels_last"), products_in(precision):
        for some_images in images.split(CHUNK):
            each = network.likelihood.log_prob_map(network(some_images).float(), some_images)
            parts.append(each.double().flatten(1).sum(1))
    return torch.cat(parts)


def rates_of(found: dict[str, Any], batch: int, shape: tuple[int, int, int]) -> dict[str, float]:
    """A pixel's time is that of all images of the batch at once."""
    each = {"images a second": batch / found["ours"], "us a pixel": 1e6 * found["ours"] / (shape[1] * shape[2])}
    return {name: round(each[name], digits) for name, digits in RATES.items()}


def judged(targets: tuple[Target, ...], part: str, found: dict[str, Any], rates: dict[str, float]) -> list[str]:
    """Each target in a few words, and whether it is met."""
    said = []
    for target in targets:
        if target.part not in ("", part):
            continue
        times = found["rivals"].get(target.of)
        value = rates[target.of] if times is None else times["median"]
        met = value >= target.limit if target.at_least else value <= target.limit
        name = target.of if times is None else f"times as fast as {target.of}"
        limit = f"{'at least' if target.at_least else 'at most'} {target.limit:g}"
        said.append(f"{value:.4g} {name}, of {limit}: {'met' if met else 'MISSED'}")
    return said


def prepare_whole_loop(engine: str, options: Options) -> Prepared:
    """The digits preset, drawn to the end by the loop and by the engine: here the draws of the loop count."""
    sampler = sampler_of("gated-pixelcnn", "digits", engine, "float32", options.device)
    draw = partial(sampler.sample, 16)

    def loop() -> Tensor:
        with products_in("float32"):
            return naive.sample(sampler.model, 16)

    def check_images() -> None:
        assert torch.equal(draw(), loop()), "the loop draws other images"

    return Prepared({"ratio": Timing(draw, {LOOP: loop})}, check_images)
