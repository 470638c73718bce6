"""``genfast evaluate``: held-out likelihood of a trained model."""

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from genfast.cli.flags import RunFlags, parse, seconds

DESCRIPTION = """\
Measure how likely held-out images are under a trained model: the mean of -log p(image) in nats per image, and in bits
per dimension (one number per pixel and colour), each with its standard error. Lower is better.

Example: genfast evaluate runs/digits --split test"""


@dataclass(frozen=True)
class EvaluateFlags(RunFlags):
    """What to measure."""

    data: str | None = None
    """Data set (default: the one the model was trained on)."""
    split: Literal["test", "valid", "train"] = "test"
    """Which part of it."""
    limit: int = 0
    """Only this many images, picked by a fixed shuffle (0: all)."""
    binarize: str | None = None
    """none, threshold or dynamic (default: as in training)."""
    image_size: int | None = None
    """Size in pixels for a folder of images (default: as in training)."""
    data_dir: Path | None = None
    """Folder with the data sets (default: as in training, then GENFAST_DATA, then a cache folder)."""
    batch_size: int = 100
    """Images in one forward pass; the result does not depend on it beyond rounding."""
    json: bool = False
    """Print one JSON object instead of text."""


def main(argv: Sequence[str]) -> None:
    """Print the likelihood of a data set."""
    flags = parse(EvaluateFlags, argv, "genfast evaluate", DESCRIPTION)
    from genfast.cli.data import run_data
    from genfast.errors import GenfastError
    from genfast.training import evaluate
    from genfast.training.checkpoint import find_checkpoint, read_config, read_state

    if flags.batch_size < 1 or flags.limit < 0:
        raise GenfastError("--batch-size must be at least 1 and --limit at least 0.")
    model = flags.load()
    folder = find_checkpoint(flags.run)
    source = run_data(folder, flags.data, flags.binarize, flags.image_size, flags.data_dir)
    images = source.load(flags.split)
    if flags.limit:
        images = images.subset(flags.limit)
    start = time.perf_counter()
    metrics = evaluate(model, images, flags.batch_size, progress=not flags.json)
    took = time.perf_counter() - start
    name, step = read_config(folder)["model"]["name"], read_state(folder)["step"]
    if flags.json:
        extra = {"model": name, "step": step, "weights": flags.weights, "seconds": took}
        print(json.dumps({**metrics.to_dict(), **extra}, allow_nan=False))
        return
    averaged = "averaged" if flags.weights == "ema" else "last"
    print(f"{name}, step {step}, {averaged} weights, on {metrics.images} images of {metrics.title}")
    print(f"  {metrics.nats:10.3f} ± {metrics.standard_error:.3f}  nats per image")
    print(f"  {metrics.bits_per_dim:10.4f} ± {metrics.bits_per_dim_error:.4f} bits/dim")
    print(f"  {seconds(took)}, {seconds(took / metrics.images)} per image (± is one standard error of the mean)")
