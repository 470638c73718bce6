"""``genfast sample``: new images from a trained model."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from genfast.cli.flags import DrawFlags, Output, parse, seconds

DESCRIPTION = """\
Draw new images from a trained model and write them to a file: a grid (.png), an animation of the pixels appearing
(.gif), or an array for programs (.npz with images, uint8 levels [n, channels, height, width], and levels).

Example: genfast sample runs/digits -n 64 -o digits.png --temperature 0.9"""


@dataclass(frozen=True)
class SampleFlags(DrawFlags):
    """What to draw."""

    count: Annotated[int, tyro.conf.arg(name="n", aliases=["-n"])] = 64
    """Number of images."""
    out: Output = Path("samples.png")
    """File to write: .png, .gif or .npz."""


def main(argv: Sequence[str]) -> None:
    """Draw images and write them."""
    flags = parse(SampleFlags, argv, "genfast sample", DESCRIPTION)
    from genfast.cli.pictures import appearing, check_output
    from genfast.sampling import compile_sampler, save_images

    model = flags.load()
    sampler = compile_sampler(model, flags.engine)
    flags.explain(sampler)
    check_output(flags.out, model.image_shape[0])
    condition = flags.conditions(model, flags.count)
    start = time.perf_counter()
    images = sampler.sample(flags.count, condition=condition, **flags.options())
    took = time.perf_counter() - start
    frames = appearing(images.cpu()) if flags.out.suffix.lower() == ".gif" else None
    save_images(flags.out, images, model.levels, frames)
    print(f"{flags.count} images in {seconds(took)} ({seconds(took / flags.count)} per image), {sampler.stats}")
    print(f"wrote {flags.out}")
