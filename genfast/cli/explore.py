"""``genfast explore``: pictures of what a latent space holds."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from genfast.cli.flags import DataFlags, Output, RunFlags, parse
from genfast.errors import GenfastError

DESCRIPTION = """\
Draw a picture of the latent space of a vae or an autoencoder:
  reconstructions  images, and below them what the decoder makes of their codes
  interpolation    one row for each pair of images: equal steps between their codes
  traversal        of one image: in each row one latent dimension goes from -3 to 3, those that say most first (vae)
  manifold         of a vae with two latent dimensions: the images at the quantiles of the prior (vae)
Expected images are shown, in 256 shades; .npz keeps them as an array.

Example: genfast explore runs/vae --show interpolation -n 8 -o interpolation.png"""


@dataclass(frozen=True)
class ExploreFlags(DataFlags, RunFlags):
    """What to show."""

    show: Literal["reconstructions", "interpolation", "traversal", "manifold"] = "reconstructions"
    """Which picture."""
    count: Annotated[int, tyro.conf.arg(name="n", aliases=["-n"])] = 8
    """Images to reconstruct, rows of an interpolation, or rows of a traversal."""
    steps: int = 12
    """Images in a row of an interpolation, a traversal or the manifold."""
    first: int = 0
    """Begin with this image of the data (in the order of a fixed shuffle)."""
    label: int = 0
    """The class of the manifold's images, for a vae trained with --num-classes."""
    out: Output = Path("explore.png")
    """File to write: .png or .npz."""


def main(argv: Sequence[str]) -> None:
    """Draw the picture and write it."""
    flags = parse(ExploreFlags, argv, "genfast explore", DESCRIPTION)
    import torch

    from genfast.cli.pictures import check_output
    from genfast.models import Painter
    from genfast.sampling import explore, shades
    from genfast.sampling.pictures import save_grid, save_npz
    from genfast.training.evaluate import check_match, labels_of

    if flags.count < 1 or flags.steps < 2 or flags.first < 0:
        raise GenfastError("-n must be at least 1, --steps at least 2 and --first at least 0.")
    model = flags.load()
    if not isinstance(model, Painter):
        raise GenfastError(f"A {type(model).__name__} has no decoder to explore: use a vae or an autoencoder.")
    if flags.out.suffix.lower() == ".gif":
        raise GenfastError(f"This picture does not move, so it cannot go to {flags.out}: write a .png or .npz.")
    check_output(flags.out, model.image_shape[0])
    device = next(model.parameters()).device
    columns = flags.steps
    if flags.show == "manifold":
        labels = None if getattr(model, "num_classes", None) is None else torch.tensor([flags.label], device=device)
        shown = explore.manifold(model, flags.steps, labels)
    else:
        wanted = {"reconstructions": flags.count, "interpolation": 2 * flags.count, "traversal": 1}[flags.show]
        data = flags.load_images(flags.run).subset(flags.first + wanted)
        check_match(model, data)
        if len(data) < flags.first + wanted:
            raise GenfastError(f"{data.title} has no {wanted} images from number {flags.first} on: ask for fewer.")
        at = torch.arange(flags.first, flags.first + wanted).numpy()
        images, given = data.batch(at).to(device), labels_of(model, data, at)
        labels = None if given is None else given.to(device)
        if flags.show == "reconstructions":
            shown, columns = explore.reconstructions(model, images, labels), wanted
        elif flags.show == "interpolation":
            shown = explore.interpolation(model, images, flags.steps, labels)
        else:
            shown = explore.traversal(model, images, flags.steps, flags.count, labels)
    picture = shades(shown, model.levels)
    if flags.out.suffix.lower() == ".npz":
        save_npz(flags.out, picture, 256)
    else:
        save_grid(flags.out, picture, 256, columns)
    print(f"{flags.show}: {len(picture)} images; wrote {flags.out}")
