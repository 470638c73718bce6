"""``genfast complete``: the missing part of images."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from genfast.cli.flags import DataFlags, DrawFlags, Output, parse, seconds
from genfast.errors import GenfastError

DESCRIPTION = """\
Draw the missing part of images, given their known part. A picture (.png) has one row per image: what was known, the
completions, and for images of a data set the original. An animation (.gif) shows the completions appearing; an array
(.npz) holds them, the copies of an image next to each other. Known pixels come back untouched. A pixel is drawn given
the pixels above it and to its left, so what is known further down does not steer it.

Example: genfast complete runs/digits -n 8 --known top-half --copies 4 -o halves.png"""


@dataclass(frozen=True)
class CompleteFlags(DataFlags, DrawFlags):
    """What to complete."""

    images: Path | None = None
    """Take images of this file instead: a picture, or an .npz with the array images."""
    known: str = "top-half"
    """Known pixels: top-half, left-half, or an .npz with the array known, bool [H, W] or [n, 1, H, W]."""
    count: Annotated[int, tyro.conf.arg(name="n", aliases=["-n"])] = 8
    """Number of images of the data set (a file is taken whole)."""
    copies: int = 4
    """Completions of each image."""
    out: Output = Path("completed.png")
    """File to write: .png, .gif or .npz."""


def main(argv: Sequence[str]) -> None:
    """Complete images and write them."""
    flags = parse(CompleteFlags, argv, "genfast complete", DESCRIPTION)
    import torch

    from genfast.cli.data import read_images, read_known
    from genfast.cli.pictures import appearing, check_output, colours
    from genfast.models import ImageModel
    from genfast.sampling import compile_sampler, grid, save_images
    from genfast.training.evaluate import check_match
    from genfast.training.files import write_atomically

    if flags.copies < 1:
        raise GenfastError(f"--copies is {flags.copies}, it must be at least 1.")
    model = flags.load()
    if not isinstance(model, ImageModel):
        raise GenfastError(
            f"A {type(model).__name__} does not draw images pixel by pixel, so it cannot continue known pixels: "
            "complete images with a pixelcnn, gated-pixelcnn or pixelrnn."
        )
    sampler = compile_sampler(model, flags.engine, precision=flags.precision)
    flags.explain(sampler)
    check_output(flags.out, model.image_shape[0])
    labels = None
    if flags.images is not None:
        if flags.data is not None:
            raise GenfastError("Give --data or --images, not both.")
        images = torch.from_numpy(read_images(flags.images, model.image_shape, model.levels))
    else:
        chosen = flags.load_images(flags.run).subset(flags.count)
        if model.condition_dim is None:
            check_match(model, chosen)
        images = chosen.batch(range(len(chosen)))
        labels = chosen.labels
    n, copies = len(images), flags.copies
    known = torch.from_numpy(read_known(flags.known, model.image_shape, n))
    condition = flags.conditions(model, n)
    if model.num_classes is not None and not flags.label:
        if labels is None:
            raise GenfastError("This model needs --label, the classes of the images.")
        condition = torch.from_numpy(labels)
    if condition is not None:
        condition = condition.repeat_interleave(copies, dim=0)
    start = time.perf_counter()
    completed = sampler.complete(
        images.repeat_interleave(copies, dim=0),
        known.repeat_interleave(copies, dim=0),
        condition=condition,
        **flags.options(),
    ).cpu()
    took = time.perf_counter() - start
    if flags.out.suffix.lower() == ".png":
        # One row per image: what was known, the completions, and the original if the images are whole.
        row = [colours(images, model.levels, known)[:, None]]
        row.append(colours(completed, model.levels, torch.tensor(True)).unflatten(0, (n, copies)))
        if flags.images is None:
            row.append(colours(images, model.levels, torch.tensor(True))[:, None])
        panel = torch.cat(row, dim=1)
        picture = grid(panel.flatten(0, 1), 256, columns=panel.shape[1])
        write_atomically(flags.out, lambda path: picture.save(path, format="PNG"))
    else:
        frames = None
        if flags.out.suffix.lower() == ".gif":
            frames = appearing(completed, known.repeat_interleave(copies, dim=0))
        save_images(flags.out, completed, model.levels, frames)
    print(
        f"{n * copies} completions of {n} images in {seconds(took)} ({seconds(took / (n * copies))} each), "
        f"{sampler.stats}"
    )
    print(f"wrote {flags.out}")
