"""``genfast demo``: the whole package in about a minute, meant to be read like a tutorial."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import tyro

from genfast.cli.flags import parse, seconds
from genfast.errors import GenfastError

DESCRIPTION = """\
Train a small Gated PixelCNN on the handwritten digits that come with scikit-learn, say how likely held-out digits are,
draw 64 new ones, and compare the time with the pixel-by-pixel loop. About a minute on two cores; needs no download.

Example: genfast demo"""


@dataclass(frozen=True)
class DemoFlags:
    """Where it goes."""

    out: Annotated[Path, tyro.conf.arg(name="out", aliases=["-o"], metavar="FOLDER")] = Path("demo")
    """Folder for the picture digits.png and the training run."""
    epochs: int = 15
    """Passes over the 1439 training images."""
    num_threads: int = 1
    """CPU threads (0: PyTorch's choice). These 8x8 images are too small to gain from more."""


def main(argv: Sequence[str]) -> None:
    """Train, evaluate, sample, compare."""
    flags = parse(DemoFlags, argv, "genfast demo", DESCRIPTION)
    import torch

    from genfast import data
    from genfast.models import MODELS, ImageModel
    from genfast.sampling import compile_sampler, save_images
    from genfast.training import RECIPES, evaluate, train

    # 1. Data: 8x8 images with 17 gray levels. The test images are never trained on.
    digits = {split: data.load("digits", split) for split in ("train", "valid", "test")}
    print(f"1. Data: {len(digits['train'])} handwritten digits to learn from, {len(digits['test'])} kept apart.")

    # 2. A model: p(image) = the product over pixels of p(pixel | the pixels above and to the left).
    config = MODELS["gated-pixelcnn"].presets["digits"]
    recipe = replace(RECIPES["gated-pixelcnn", "digits"], epochs=flags.epochs, num_threads=flags.num_threads)
    print(f"2. Training a Gated PixelCNN for {recipe.epochs} epochs ...")
    start = time.perf_counter()
    result = train(
        "gated-pixelcnn",
        config,
        digits["train"],
        replace(recipe, eval_every=5, sample_images=0),
        flags.out / "run",
        overwrite=True,
        held_out=digits["valid"],
        report=lambda line: print(f"   {line}", flush=True),
    )
    model = result.model.cpu()
    assert isinstance(model, ImageModel)
    print(f"   took {seconds(time.perf_counter() - start)}")

    # 3. How good is it? An exact likelihood: no bound, no estimate.
    metrics = evaluate(model, digits["test"])
    print(f"3. Held out: {metrics.nats:.2f} ± {metrics.standard_error:.2f} nats per image,", end=" ")
    print(f"{metrics.bits_per_dim:.3f} ± {metrics.bits_per_dim_error:.3f} bits/dim ({metrics.title}).")

    # 4. New digits. The seed decides the images; the engine only decides how long they take.
    count, times, drawn = 64, {}, {}
    for engine in ("auto", "naive"):
        start = time.perf_counter()
        sampler = compile_sampler(model, engine=engine)
        compiling = time.perf_counter() - start
        sampler.sample(count, seed=1)  # the first call also pays for memory and caches
        start = time.perf_counter()
        drawn[engine] = sampler.sample(count, seed=0)
        times[engine] = time.perf_counter() - start
        if engine == "auto":
            chosen, once = sampler.engine, seconds(compiling)
    different = int((drawn["auto"] != drawn["naive"]).sum())
    with torch.inference_mode():
        model(drawn["auto"])
        start = time.perf_counter()
        model(drawn["auto"])
        one_pass = time.perf_counter() - start
    print(f"4. Sampling {count} digits (compiling the sampler took {once}, once), in seconds and in forward passes:")
    rows = {
        "one forward pass": one_pass,
        "the pixel-by-pixel loop (naive)": times["naive"],
        f"genfast ({chosen})": times["auto"],
    }
    for name, took in rows.items():
        print(f"   {name:34}{seconds(took):>9}{took / one_pass:9.1f} passes")
    print(f"   {times['naive'] / times['auto']:.1f} times faster than the loop, with", end=" ")
    if different:
        raise GenfastError(
            f"{different} of {drawn['auto'].numel()} pixels differ between the {chosen} and the naive engine, "
            "which is more than rounding explains unless two levels tied: please report it."
        )
    print(f"identical images (all {drawn['auto'].numel()} pixels).")

    # 5. Look at them.
    picture = flags.out / "digits.png"
    save_images(picture, drawn["auto"], model.levels)
    print(f"5. The new digits are in {picture}")
