"""What an evaluation says, with its uncertainty."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from genfast.likelihoods import bits_per_dim


@dataclass(frozen=True)
class Metrics:
    """Negative log-likelihood of a set of images.

    nats: mean over images of -log p(image), in nats per image; standard_error: of that mean (nan for a single image);
    bits_per_dim: nats / (C H W ln 2), and bits_per_dim_error in the same unit; images: how many; title: of which data,
    with the binarization, without which such numbers cannot be compared.
    """

    title: str
    images: int
    nats: float
    standard_error: float
    bits_per_dim: float
    bits_per_dim_error: float

    @classmethod
    def from_nats(cls, nats: np.ndarray, image_shape: tuple[int, int, int], title: str) -> "Metrics":
        """From -log p of every image, in nats  # [N]. Mean and deviation are over images, in float64."""
        nats = np.asarray(nats, dtype=np.float64)
        if nats.size == 0:
            raise ValueError(f"No images to evaluate in {title}.")
        mean = float(nats.mean())
        error = float(nats.std(ddof=1) / math.sqrt(nats.size)) if nats.size > 1 else math.nan
        return cls(
            title, int(nats.size), mean, error, bits_per_dim(mean, image_shape), bits_per_dim(error, image_shape)
        )

    def to_dict(self) -> dict[str, Any]:
        """For JSON: a standard error that does not exist is null."""
        return {
            "data": self.title,
            "images": self.images,
            "nats_per_image": self.nats,
            "nats_standard_error": None if math.isnan(self.standard_error) else self.standard_error,
            "bits_per_dim": self.bits_per_dim,
            "bits_per_dim_standard_error": None if math.isnan(self.bits_per_dim_error) else self.bits_per_dim_error,
        }

    def __str__(self) -> str:
        return (
            f"{self.nats:.3f} ± {self.standard_error:.3f} nats per image, "
            f"{self.bits_per_dim:.4f} ± {self.bits_per_dim_error:.4f} bits/dim ({self.images} images of {self.title})"
        )
