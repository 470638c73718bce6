"""What an evaluation says, with its uncertainty."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from genfast.likelihoods import bits_per_dim

# Scores that bound or are -ln p(image): nats per image, and so bits/dim too. Every other score stands for itself.
DENSITIES = ("nats", "negative_elbo")
UNITS = {
    "nats": "nats per image",
    "negative_elbo": "nats per image, the negative ELBO: -ln p(image) is at most this",
    "reconstruction": "nats per image, reconstruction: the mean of -ln p(image | z) over the posterior",
    "kl": "nats per image, KL divergence of the posterior from the prior",
    "squared_error": "squared error per sub-pixel, black to white being 1",
    "cross_entropy": "nats per image, -ln p(label | image)",
    "accuracy": "of the labels are the most probable one",
}


def is_density(name: str) -> bool:
    """Whether a score is in nats per image about -ln p(image), so that bits/dim say the same."""
    return name in DENSITIES or name.startswith("iwae_")


def unit(name: str) -> str:
    """What a score measures, in words."""
    if name.startswith("iwae_"):
        return f"nats per image, the importance-weighted bound of {name.removeprefix('iwae_')} samples"
    return UNITS.get(name, name)


def logged(prefix: str, values: Mapping[str, float], image_shape: tuple[int, int, int]) -> dict[str, float]:
    """{name: value} for metrics.jsonl: each score with a prefix, and bits/dim of the first that is a density."""
    line = {f"{prefix}_{name}": value for name, value in values.items()}
    for name, value in values.items():
        if is_density(name):
            line[f"{prefix}_bits_per_dim"] = bits_per_dim(value, image_shape)
            break
    return line


@dataclass(frozen=True)
class Mean:
    """The mean of a score over images, and the standard error of that mean (nan for a single image)."""

    value: float
    standard_error: float

    @classmethod
    def of(cls, values: np.ndarray) -> "Mean":
        """Mean and deviation are over images, in float64.  # [N]"""
        values = np.asarray(values, dtype=np.float64)
        error = float(values.std(ddof=1) / math.sqrt(values.size)) if values.size > 1 else math.nan
        return cls(float(values.mean()), error)


@dataclass(frozen=True)
class Metrics:
    """Scores of a set of images.

    title: of which data, with the binarization, without which such numbers cannot be compared; images: how many.
    criterion: the name of the score that the model is judged by; means: every score by name. details: what only the
    whole set tells (see Model.summary).
    """

    title: str
    images: int
    image_shape: tuple[int, int, int]
    criterion: str
    means: Mapping[str, Mean]
    details: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def from_scores(
        cls,
        scores: Mapping[str, np.ndarray],
        image_shape: tuple[int, int, int],
        title: str,
        criterion: str = "nats",
        details: Mapping[str, Any] | None = None,
    ) -> "Metrics":
        """From the scores of every image, [N] each; what has more dimensions is left to ``details``."""
        images = scores[criterion].size
        if images == 0:
            raise ValueError(f"No images to evaluate in {title}.")
        means = {name: Mean.of(values) for name, values in scores.items() if values.ndim == 1}
        return cls(title, images, image_shape, criterion, means, details or {})

    @property
    def main(self) -> Mean:
        """The score that the model is judged by."""
        return self.means[self.criterion]

    @property
    def nats(self) -> float:
        """The criterion of a density: nats per image, exact or an upper bound, as its name says."""
        if not is_density(self.criterion):
            raise AttributeError(f"{self.criterion} is no density: there are no nats per image.")
        return self.main.value

    @property
    def standard_error(self) -> float:
        """The standard error of the criterion."""
        return self.main.standard_error

    @property
    def bits_per_dim(self) -> float:
        """nats / (C H W ln 2)."""
        return bits_per_dim(self.nats, self.image_shape)

    @property
    def bits_per_dim_error(self) -> float:
        """The standard error in the same unit."""
        return bits_per_dim(self.standard_error, self.image_shape)

    def to_dict(self) -> dict[str, Any]:
        """For JSON: a standard error that does not exist is null. nats and bits/dim are those of the criterion."""
        values: dict[str, Any] = {"data": self.title, "images": self.images, "criterion": self.criterion}
        if is_density(self.criterion):
            values["nats_per_image"] = self.nats
            values["nats_standard_error"] = _or_none(self.standard_error)
            values["bits_per_dim"] = self.bits_per_dim
            values["bits_per_dim_standard_error"] = _or_none(self.bits_per_dim_error)
        for name, mean in self.means.items():
            if name != "nats":
                values[name] = mean.value
                values[f"{name}_standard_error"] = _or_none(mean.standard_error)
        return {**values, **self.details}

    def short(self) -> str:
        """The criterion in a few words, for a line of progress."""
        if is_density(self.criterion):
            return f"{self.bits_per_dim:.4f} bits/dim ({self.nats:.2f} nats)"
        return ", ".join(f"{name} {mean.value:.5g}" for name, mean in self.means.items())

    def __str__(self) -> str:
        if is_density(self.criterion):
            bound = "" if self.criterion == "nats" else f" ({self.criterion})"
            said = (
                f"{self.nats:.3f} ± {self.standard_error:.3f} nats per image{bound}, "
                f"{self.bits_per_dim:.4f} ± {self.bits_per_dim_error:.4f} bits/dim"
            )
        else:
            said = ", ".join(f"{name} {m.value:.5g} ± {m.standard_error:.2g}" for name, m in self.means.items())
        return f"{said} ({self.images} images of {self.title})"


def _or_none(value: float) -> float | None:
    return None if math.isnan(value) else value
