"""``genfast features``: the codes of images, for use elsewhere."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from genfast.cli.flags import DataFlags, Output, RunFlags, parse, seconds

DESCRIPTION = """\
Encode images with a trained autoencoder, vae (the mean of its posterior) or classifier, and write an .npz with the
arrays features, float32 [n, latent], and, where the data has labels, labels, int64 [n].

Example: genfast features runs/autoencoder --split train -o features.npz"""


@dataclass(frozen=True)
class FeaturesFlags(DataFlags, RunFlags):
    """What to encode."""

    limit: int = 0
    """Only this many images, picked by a fixed shuffle (0: all)."""
    batch_size: int = 500
    """Images in one forward pass."""
    out: Output = Path("features.npz")
    """File to write: .npz."""


def main(argv: Sequence[str]) -> None:
    """Encode images and write the features."""
    flags = parse(FeaturesFlags, argv, "genfast features", DESCRIPTION)
    import numpy as np

    from genfast.errors import GenfastError
    from genfast.sampling import check_path
    from genfast.training.features import image_features
    from genfast.training.files import write_atomically

    if flags.batch_size < 1 or flags.limit < 0:
        raise GenfastError("--batch-size must be at least 1 and --limit at least 0.")
    if flags.out.suffix.lower() != ".npz":
        raise GenfastError(f"Features are arrays, so they cannot go to {flags.out}: name a file that ends in .npz.")
    check_path(flags.out)
    model = flags.load()
    images = flags.load_images(flags.run)
    if flags.limit:
        images = images.subset(flags.limit)
    start = time.perf_counter()
    features = image_features(model, images, flags.batch_size)
    took = time.perf_counter() - start
    arrays: dict[str, Any] = {"features": features}
    if images.labels is not None:
        arrays["labels"] = images.labels
    write_atomically(flags.out, lambda path: np.savez(path, **arrays))
    print(f"{features.shape[1]} features of each of {len(features)} images of {images.title} in {seconds(took)}")
    print(f"wrote {flags.out}")
