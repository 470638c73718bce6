"""``genfast evaluate``: held-out scores of a trained model."""

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from genfast.cli.flags import DataFlags, RunFlags, parse, seconds

if TYPE_CHECKING:
    from genfast.training import Metrics

DESCRIPTION = """\
Measure a trained model on held-out images; every mean comes with its standard error. For a density: -log p(image) in
nats per image, and in bits per dimension (one number per pixel and colour); lower is better. A vae only knows bounds:
the ELBO, its two parts, how much each latent dimension carries, and tighter bounds with --importance-samples. For an
autoencoder: the squared error. For a classifier: cross-entropy and accuracy.

Example: genfast evaluate runs/digits --split test"""


@dataclass(frozen=True)
class EvaluateFlags(DataFlags, RunFlags):
    """What to measure."""

    limit: int = 0
    """Only this many images, picked by a fixed shuffle (0: all)."""
    importance_samples: int = 1
    """Draws of the latent variable for each image, for a vae: more than 1 adds importance-weighted bounds."""
    batch_size: int = 100
    """Images in one forward pass; the result does not depend on it beyond rounding."""
    json: bool = False
    """Print one JSON object instead of text."""


def main(argv: Sequence[str]) -> None:
    """Print the likelihood of a data set."""
    flags = parse(EvaluateFlags, argv, "genfast evaluate", DESCRIPTION)
    from genfast.errors import GenfastError
    from genfast.training import evaluate
    from genfast.training.checkpoint import find_checkpoint, read_config, read_state

    if flags.batch_size < 1 or flags.limit < 0:
        raise GenfastError("--batch-size must be at least 1 and --limit at least 0.")
    model = flags.load()
    folder = find_checkpoint(flags.run)
    images = flags.load_images(folder)
    if flags.limit:
        images = images.subset(flags.limit)
    start = time.perf_counter()
    metrics = evaluate(model, images, flags.batch_size, progress=not flags.json, samples=flags.importance_samples)
    took = time.perf_counter() - start
    name, step = read_config(folder)["model"]["name"], read_state(folder)["step"]
    if flags.json:
        extra = {"model": name, "step": step, "weights": flags.weights, "seconds": took}
        if flags.importance_samples > 1:
            extra["importance_samples"] = flags.importance_samples
        print(json.dumps({**metrics.to_dict(), **extra}, allow_nan=False))
        return
    averaged = "averaged" if flags.weights == "ema" else "last"
    print(f"{name}, step {step}, {averaged} weights, on {metrics.images} images of {metrics.title}")
    show(metrics)
    print(f"  {seconds(took)}, {seconds(took / metrics.images)} per image (± is one standard error of the mean)")


def show(metrics: "Metrics") -> None:
    """Every score with its standard error and its unit; a bound of the log-likelihood also in bits/dim."""
    from genfast.likelihoods import bits_per_dim
    from genfast.training.metrics import is_density, unit

    for name, mean in metrics.means.items():
        digits = 3 if "nats" in unit(name) and name != "cross_entropy" else 5
        print(f"  {mean.value:10.{digits}f} ± {mean.standard_error:.{digits}f}  {unit(name)}")
        if is_density(name):
            bits, error = (bits_per_dim(nats, metrics.image_shape) for nats in (mean.value, mean.standard_error))
            print(f"  {bits:10.4f} ± {error:.4f} bits/dim")
    if "active_units" in metrics.details:
        kl = sorted(metrics.details["kl_per_dimension"], reverse=True)
        shown = " ".join(f"{value:.2f}" for value in kl if value >= 0.005)
        print(f"  {metrics.details['active_units']:10} of {metrics.details['latent_units']} latent units are active")
        print(f"  KL of each, in nats, where it is not 0.00: {shown or 'none'}")
