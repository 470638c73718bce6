"""``genfast sample``: new images from a trained model."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from genfast.cli.flags import DrawFlags, Output, parse, seconds
from genfast.errors import GenfastError

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
    """File to write: .png, .gif (of models that draw pixel by pixel) or .npz."""
    mean: bool = False
    """For a vae: show the mean image given the latent variable, in 256 shades, instead of drawing each pixel."""


def main(argv: Sequence[str]) -> None:
    """Draw images and write them."""
    flags = parse(SampleFlags, argv, "genfast sample", DESCRIPTION)
    from genfast.cli.pictures import appearing, check_output
    from genfast.models import VAE, ImageModel
    from genfast.sampling import LatentSampler, Sampler, compile_sampler, save_images, shades

    model = flags.load()
    sampler: Sampler | LatentSampler
    if isinstance(model, VAE):
        if flags.engine != "auto" or flags.precision != "float32":
            raise GenfastError("A vae draws all pixels at once: leave out --engine and --precision.")
        if flags.out.suffix.lower() == ".gif":
            raise GenfastError("A vae draws all pixels at once, so none appear one by one: write a .png or .npz.")
        sampler = LatentSampler(model)
    elif isinstance(model, ImageModel):
        if flags.mean:
            raise GenfastError("--mean is for models with a latent variable; try --temperature 0.")
        sampler = compile_sampler(model, flags.engine, precision=flags.precision)
        flags.explain(sampler)
    else:
        raise GenfastError(
            f"A {type(model).__name__} is not a distribution over images, so there is nothing to draw: "
            "use a vae, or a model that draws pixel by pixel."
        )
    check_output(flags.out, model.image_shape[0])
    condition = flags.conditions(model, flags.count)
    start = time.perf_counter()
    levels = model.levels
    if flags.mean and isinstance(sampler, LatentSampler):
        options = {name: flags.options()[name] for name in ("seed", "first", "batch_size", "progress")}
        images, levels = shades(sampler.expected(flags.count, condition=condition, **options), levels), 256
    else:
        images = sampler.sample(flags.count, condition=condition, **flags.options())
    took = time.perf_counter() - start
    frames = appearing(images.cpu()) if flags.out.suffix.lower() == ".gif" else None
    save_images(flags.out, images, levels, frames)
    print(f"{flags.count} images in {seconds(took)} ({seconds(took / flags.count)} per image), {sampler.stats}")
    print(f"wrote {flags.out}")
