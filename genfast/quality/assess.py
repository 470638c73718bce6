"""Generated images against real ones in a feature space, between two floors that say what the numbers mean."""

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from genfast.data import ImageSet
from genfast.data.draws import permutation
from genfast.errors import GenfastError
from genfast.quality.copies import Copies, copies, copies_of
from genfast.quality.distances import nearest
from genfast.quality.frechet import frechet_distance
from genfast.quality.kernel import KernelDistance, kernel_distance
from genfast.quality.manifold import DensityCoverage, PrecisionRecall, density_coverage, precision_recall
from genfast.quality.modes import Modes, modes
from genfast.quality.spaces import ClassifierSpace, FeatureSpace
from genfast.sampling.noise import uniforms

FEWEST = 20
PAIRS = 12
COLUMNS = ("generated", "real", "noise")


@dataclass(frozen=True)
class Scores:
    """Every measure of one set of images against the real ones, in one feature space."""

    kernel: KernelDistance
    frechet: float
    precision_recall: PrecisionRecall
    density_coverage: DensityCoverage

    def to_dict(self) -> dict[str, Any]:
        """For JSON: a standard error that does not exist is null."""
        error = self.kernel.standard_error
        return {
            "kernel_distance": self.kernel.value,
            "kernel_distance_standard_error": None if math.isnan(error) else error,
            "frechet_distance": self.frechet,
            **dataclasses.asdict(self.precision_recall),
            **dataclasses.asdict(self.density_coverage),
        }


@dataclass(frozen=True)
class SpaceScores:
    """title, frechet: see FeatureSpace; scores: of generated images, and of the floors, other real images and noise."""

    title: str
    frechet: str
    scores: Mapping[str, Scores]


@dataclass(frozen=True)
class Quality:
    """What ``assess`` found.

    title: of the real images; images: how many of each kind. spaces: one for each feature space. classes: generated,
    real and noise, as the first space that is a classifier sees them. copies: by "pixels" (distances per sub-pixel,
    root mean square, black to white being 1) and by each space. pairs: the generated images nearest to a training
    image, then those, uint8 levels [2 * PAIRS, C, H, W]. The last three are empty or None where not asked for.
    """

    title: str
    images: int
    spaces: tuple[SpaceScores, ...]
    classes: Mapping[str, Modes] = field(default_factory=dict)
    copies: Mapping[str, Copies] = field(default_factory=dict)
    pairs: Tensor | None = None

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "real_images": self.title,
            "images": self.images,
            "spaces": [
                {"space": space.title, "frechet": space.frechet}
                | {name: scores.to_dict() for name, scores in space.scores.items()}
                for space in self.spaces
            ],
            "classes": {name: dataclasses.asdict(found) for name, found in self.classes.items()},
            "nearest_training_image": [
                {"space": name, **dataclasses.asdict(found)} for name, found in self.copies.items()
            ],
        }


def compare(generated: np.ndarray, real: np.ndarray, seed: int = 0) -> Scores:
    """Every measure on feature arrays, with its usual settings.  # [N, D], [M, D]"""
    return Scores(
        kernel_distance(generated, real, seed=seed % 2**32),
        frechet_distance(generated, real),
        precision_recall(generated, real),
        density_coverage(generated, real),
    )


def check_count(n: int, real: ImageSet) -> None:
    """Raises GenfastError, before anybody draws them, if n generated images are too few or too many to be compared."""
    if n < FEWEST:
        raise GenfastError(f"Quality is measured on at least {FEWEST} images, not {n}.")
    if 2 * n > len(real):
        raise GenfastError(
            f"{n} images are compared with as many real ones, and those with as many others, but {real.title} holds "
            f"{len(real)}: take at most {len(real) // 2}, or another split."
        )


def halves(real: ImageSet, n: int) -> tuple[ImageSet, ImageSet]:
    """Two sets of n real images that share none, from a fixed shuffle.

    Raises GenfastError if there are not 2n.
    """
    check_count(n, real)
    order = permutation(len(real))
    return real.take(order[:n]), real.take(order[n : 2 * n])


def noise_like(real: ImageSet, n: int, seed: int = 0) -> ImageSet:
    """n images whose every sub-pixel is any of the levels, as likely as another."""
    levels = (uniforms(seed, 0, n, real.image_shape, word=2) * real.levels).to(torch.uint8).numpy()
    return ImageSet("noise", "test", levels, real.levels)


def encoder_of(space: FeatureSpace, real: ImageSet) -> Callable[[ImageSet], np.ndarray]:
    """What turns images into vectors: the space's features, standardised by those of real images where it asks for it.

    A feature that hardly varies among real images is scaled by a hundredth of what is usual, not blown up.
    """
    if not space.standard:
        return space.features
    seen = space.features(real).astype(np.float64)
    shift, scale = seen.mean(0), seen.std(0)
    scale = np.maximum(scale, 0.01 * math.sqrt((scale**2).mean())) + (0 if scale.any() else 1)
    return lambda images: (space.features(images) - shift) / scale


def assess(
    generated: Tensor,
    real: ImageSet,
    spaces: Sequence[FeatureSpace],
    training: ImageSet | None = None,
    seed: int = 0,
) -> Quality:
    """Measure generated images against as many real ones.

    generated: levels [n, C, H, W]; real: at least 2n images, a part of which the model was not trained on. The real
    images are halved: generated images, the other half and noise are each compared with the first half, all of them n
    images, because most of the measures depend on the number. training: what the model was trained on, to look for
    copies; leave it out if that is ``real`` itself. seed: of the noise and of the kernel distance's subsets.

    Raises GenfastError for images that do not fit together, too few of them, or no feature space.
    """
    if not spaces:
        raise GenfastError("Images are compared in a feature space: give at least one.")
    reference, other = halves(real, len(generated))
    if tuple(generated.shape[1:]) != real.image_shape:
        raise GenfastError(
            f"The generated images have the shape {tuple(generated.shape[1:])} (channels, height, width), but "
            f"{real.title} has {real.image_shape}."
        )
    drawn = ImageSet("generated", "test", generated.cpu().to(torch.uint8).numpy(), real.levels)
    columns = {"generated": drawn, "real": other, "noise": noise_like(real, len(drawn), seed)}
    results: list[SpaceScores] = []
    classes: dict[str, Modes] = {}
    found: dict[str, Copies] = {}
    pairs = None
    if training is not None:
        found["pixels"], pairs = _copies_of_pixels(drawn, reference, training)
    for space in spaces:
        encode = encoder_of(space, real)
        near = encode(reference)
        vectors = {name: encode(images) for name, images in columns.items()}
        results.append(SpaceScores(space.title, space.frechet, {k: compare(v, near, seed) for k, v in vectors.items()}))
        if isinstance(space, ClassifierSpace) and not classes:
            kinds, count = space.classes(reference), space.classifier.config.num_classes
            classes = {name: modes(space.classes(images), kinds, count) for name, images in columns.items()}
        if training is not None:
            found[space.short] = copies(vectors["generated"], near, encode(training))
    return Quality(real.title, len(drawn), tuple(results), classes, found, pairs)


def _copies_of_pixels(drawn: ImageSet, held_out: ImageSet, training: ImageSet) -> tuple[Copies, Tensor]:
    """Distances of pixels, and the generated images that are nearest to a training image beside it."""
    vectors = training.batch(np.arange(len(training))).flatten(1)
    images, others = drawn.batch(np.arange(len(drawn))), held_out.batch(np.arange(len(held_out)))
    distances, which = nearest(images.flatten(1), vectors)
    unit = (training.levels - 1) * math.sqrt(vectors.shape[1])
    result = copies_of(distances / unit, nearest(others.flatten(1), vectors)[0] / unit)
    first = distances.argsort(stable=True)[:PAIRS]
    return result, torch.cat([images[first], training.batch(which[first].numpy())])
