"""``genfast evaluate``: held-out scores of a trained model, and the quality of its images."""

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from genfast.cli.flags import parse, seconds
from genfast.cli.quality import QualityFlags

if TYPE_CHECKING:
    from genfast.training import Metrics

DESCRIPTION = """\
Measure a trained model on held-out images; every mean comes with its standard error. For a density: -log p(image) in
nats per image, and in bits per dimension (one number per pixel and colour); lower is better. A vae only knows bounds:
the ELBO, its two parts, how much each latent dimension carries, and tighter bounds with --importance-samples. For an
autoencoder: the squared error. For a classifier: cross-entropy and accuracy.

With --samples N also the quality of N images that it draws, beside N held-out ones: kernel and Frechet distance,
precision and recall, density and coverage in the feature space of a classifier that is trained on the same data; the
classes that are there; and whether training images are repeated. Two floors say what the numbers mean: other real
images, and noise. Written to quality.json and quality.png in the run folder.

Example: genfast evaluate runs/digits --split test
         genfast evaluate runs/vae --samples 5000 --classifier runs/classifier
         genfast evaluate runs/classifier --images drawn-elsewhere.npz"""


@dataclass(frozen=True)
class EvaluateFlags(QualityFlags):
    """What to measure."""

    limit: int = 0
    """Score only this many images, picked by a fixed shuffle (0: all)."""
    importance_samples: int = 1
    """Draws of the latent variable for each image, for a vae: more than 1 adds importance-weighted bounds."""
    batch_size: int = 100
    """Images in one forward pass; the result does not depend on it beyond rounding."""
    json: bool = False
    """Print one JSON object instead of text."""


def main(argv: Sequence[str]) -> None:
    """Print the scores of a data set, and the quality of generated images."""
    flags = parse(EvaluateFlags, argv, "genfast evaluate", DESCRIPTION)
    from genfast.cli import quality
    from genfast.errors import GenfastError
    from genfast.training import evaluate
    from genfast.training.checkpoint import find_checkpoint, read_config, read_state

    if flags.batch_size < 1 or flags.limit < 0:
        raise GenfastError("--batch-size must be at least 1 and --limit at least 0.")
    compares = flags.compares
    model = flags.load()
    folder = find_checkpoint(flags.run)
    scored = flags.images is None  # images from elsewhere are not about the model
    if compares and model.criterion is None:  # nor are held-out ones, where there is no density; it says so if asked
        scored = False
    comparison = quality.prepare(flags, model, folder) if compares else None
    name, step = read_config(folder)["model"]["name"], read_state(folder)["step"]
    said = {"model": name, "step": step, "weights": flags.weights}
    averaged = "averaged" if flags.weights == "ema" else "last"
    heading = f"{name}, step {step}, {averaged} weights"
    if scored:
        images = flags.load_images(folder)
        if flags.limit:
            images = images.subset(flags.limit)
        start = time.perf_counter()
        metrics = evaluate(model, images, flags.batch_size, progress=not flags.json, samples=flags.importance_samples)
        took = time.perf_counter() - start
        said = {**metrics.to_dict(), **said, "seconds": took}
        if flags.importance_samples > 1:
            said["importance_samples"] = flags.importance_samples
        if not flags.json:
            print(f"{heading}, on {metrics.images} images of {metrics.title}")
            show(metrics)
            each = seconds(took / metrics.images)
            print(f"  {seconds(took)}, {each} per image (± is one standard error of the mean)", flush=True)
    if comparison is not None:
        start = time.perf_counter()
        found, values = comparison.run()
        took = time.perf_counter() - start
        said["quality"] = values
        if not flags.json:
            print("quality of " + (f"images drawn from {heading}" if flags.images is None else str(flags.images)))
            quality.show(found, values["classifier_accuracy"])
            print(f"  {seconds(took)}; wrote {comparison.out}.json")
    if flags.json:
        print(json.dumps(said, allow_nan=False))


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
