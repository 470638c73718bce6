"""``genfast explore``: pictures of what a latent space holds."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from genfast.cli.flags import DataFlags, Output, RunFlags, parse
from genfast.errors import GenfastError

if TYPE_CHECKING:
    from torch import Tensor

DESCRIPTION = """\
Draw a picture of the latent space of a vae, an autoencoder or a gan:
  reconstructions  images, and below them what the decoder makes of their codes (vae, autoencoder)
  interpolation    one row for each pair: equal steps between the codes of two images, or of two draws (gan)
  traversal        of one image: in each row one latent dimension goes from -3 to 3, those that say most first (vae)
  manifold         of two latent dimensions: the images at the quantiles of the prior (vae, gan)
  saturation       the gradient that each objective leaves the generator, by the discriminator's logit, and the logits
                   of 1000 generated images (gan)
Expected images are shown, in 256 shades; .npz keeps them as an array.

Example: genfast explore runs/vae --show interpolation -n 8 -o interpolation.png"""
JUDGED = 1000  # images in the histogram of logits


@dataclass(frozen=True)
class ExploreFlags(DataFlags, RunFlags):
    """What to show."""

    show: Literal["reconstructions", "interpolation", "traversal", "manifold", "saturation"] | None = None
    """Which picture (default: reconstructions, or an interpolation of a gan)."""
    count: Annotated[int, tyro.conf.arg(name="n", aliases=["-n"])] = 8
    """Images to reconstruct, rows of an interpolation, or rows of a traversal."""
    steps: int = 12
    """Images in a row of an interpolation, a traversal or the manifold."""
    first: int = 0
    """Begin with this image of the data (in the order of a fixed shuffle)."""
    seed: int = 0
    """Seed of a gan's draws."""
    label: int = 0
    """The class of the manifold's images, for a model trained with --num-classes."""
    out: Output = Path("explore.png")
    """File to write: .png or .npz."""


def main(argv: Sequence[str]) -> None:
    """Draw the picture and write it."""
    flags = parse(ExploreFlags, argv, "genfast explore", DESCRIPTION)
    from genfast.cli.pictures import check_output
    from genfast.models import Painter, Reconstructor
    from genfast.sampling import shades
    from genfast.sampling.pictures import save_grid, save_npz

    if flags.count < 1 or flags.steps < 2 or flags.first < 0:
        raise GenfastError("-n must be at least 1, --steps at least 2 and --first at least 0.")
    model = flags.load()
    if not isinstance(model, Painter):
        raise GenfastError(f"A {type(model).__name__} has no decoder to explore: use a vae, an autoencoder or a gan.")
    if flags.out.suffix.lower() == ".gif":
        raise GenfastError(f"This picture does not move, so it cannot go to {flags.out}: write a .png or .npz.")
    show = flags.show or ("reconstructions" if isinstance(model, Reconstructor) else "interpolation")
    check_output(flags.out, 1 if show == "saturation" else model.image_shape[0])
    if show == "saturation":
        plot_saturation(flags, model)
        return
    if show == "manifold" or (show == "interpolation" and not isinstance(model, Reconstructor)):
        shown, columns = from_prior(flags, show, model), flags.steps
    elif isinstance(model, Reconstructor):
        shown, columns = from_images(flags, show, model)
    else:
        raise GenfastError(
            f"A {type(model).__name__} has no encoder: choose --show interpolation, manifold or saturation."
        )
    picture = shades(shown, model.levels)
    if flags.out.suffix.lower() == ".npz":
        save_npz(flags.out, picture, 256)
    else:
        save_grid(flags.out, picture, 256, columns)
    print(f"{show}: {len(picture)} images; wrote {flags.out}")


def from_prior(flags: ExploreFlags, show: str, model: Any) -> "Tensor":
    """Images of codes of the prior."""
    import torch

    from genfast.sampling import explore

    device, classes = next(model.parameters()).device, model.num_classes
    if show == "manifold":
        return explore.manifold(
            model, flags.steps, None if classes is None else torch.tensor([flags.label], device=device)
        )
    labels = None if classes is None else torch.arange(flags.count, device=device) % classes
    return explore.walk(model, flags.count, flags.steps, flags.seed, labels)


def from_images(flags: ExploreFlags, show: str, model: Any) -> "tuple[Tensor, int]":
    """Images of the codes of images, and how many stand in a row."""
    import torch

    from genfast.sampling import explore
    from genfast.training.evaluate import check_match, labels_of

    wanted = {"reconstructions": flags.count, "interpolation": 2 * flags.count, "traversal": 1}[show]
    data = flags.load_images(flags.run).subset(flags.first + wanted)
    check_match(model, data)
    if len(data) < flags.first + wanted:
        raise GenfastError(f"{data.title} has no {wanted} images from number {flags.first} on: ask for fewer.")
    at = torch.arange(flags.first, flags.first + wanted).numpy()
    device = next(model.parameters()).device
    images, given = data.batch(at).to(device), labels_of(model, data, at)
    labels = None if given is None else given.to(device)
    if show == "reconstructions":
        return explore.reconstructions(model, images, labels), wanted
    if show == "interpolation":
        return explore.interpolation(model, images, flags.steps, labels), flags.steps
    return explore.traversal(model, images, flags.steps, flags.count, labels), flags.steps


def plot_saturation(flags: ExploreFlags, model: Any) -> None:
    """The gradients of a generator's objectives, and where this generator stands."""
    import torch

    from genfast.models import GAN
    from genfast.training.saturation import draw_saturation, fake_logits, generator_gradient

    if not isinstance(model, GAN):
        raise GenfastError(f"A {type(model).__name__} has no discriminator: --show saturation is for a gan.")
    if flags.out.suffix.lower() != ".png":
        raise GenfastError(f"This is a plot, so it cannot go to {flags.out}: write a .png.")
    device, classes = next(model.parameters()).device, model.num_classes
    labels = None if classes is None else torch.arange(JUDGED, device=device) % classes
    logits = fake_logits(model, JUDGED, flags.seed, labels)
    draw_saturation(flags.out, logits)
    for objective in ("minimax", "non_saturating"):
        mean = generator_gradient(objective, torch.from_numpy(logits)).mean().item()
        print(f"  {mean:10.3g}  mean gradient by the logit, {objective}")
    print(f"  {logits.mean():10.3g}  mean logit of {JUDGED} generated images; wrote {flags.out}")
