"""The classifier whose features are the space: trained once on the real data, and kept."""

import shutil
import uuid
from collections.abc import Callable
from pathlib import Path

from genfast.errors import GenfastError
from genfast.models import Classifier, ClassifierConfig
from genfast.training import DataConfig, TrainConfig, load_model, train
from genfast.training.checkpoint import find_checkpoint, read_config

BATCH, EPOCHS = 100, 5
FEWEST_STEPS, MOST_STEPS = 500, 3000


def classifier_of(
    folder: Path,
    source: DataConfig,
    report: Callable[[str], None] = lambda line: None,
    device: str = "auto",
    num_threads: int = 0,
) -> Classifier:
    """The classifier in ``folder``, a run folder, or a new one that is trained on the data and put there.

    Feature spaces of two classifiers cannot be compared, so models to be compared should share one. Training takes its
    seed from nowhere: on one machine the same data always makes the same classifier. A folder appears when it is
    complete. Raises GenfastError for data without labels, or a folder that holds a classifier of other data.
    """
    if folder.exists():
        return _stored(folder, source)
    data, held_out = source.load("train"), source.load("valid")
    if data.labels is None or held_out.labels is None:
        raise GenfastError(
            f"{data.name} has no labels, so no classifier can be trained on it: give one that was trained on images of "
            "the same shape and levels with --classifier RUN."
        )
    classes = max(2, int(data.labels.max()) + 1)
    config = ClassifierConfig(
        data.image_shape, data.levels, network="conv", latent=64, channels=16 if data.image_shape[0] == 1 else 32,
        num_classes=classes,
    )  # fmt: skip
    steps = min(MOST_STEPS, max(FEWEST_STEPS, EPOCHS * len(data) // BATCH))
    settings = TrainConfig(
        max_steps=steps, batch_size=BATCH, learning_rate=2e-3, warmup_steps=50, ema=0.99, eval_every=0, sample_images=0,
        checkpoint_every_seconds=0, device="cpu" if device == "cpu" else "auto", num_threads=num_threads,
    )  # fmt: skip
    report(f"training a classifier on {len(data)} images of {data.title}, to be kept in {folder}")
    temporary = folder.with_name(f".{folder.name}-{uuid.uuid4().hex[:8]}")
    try:
        train("classifier", config, data, settings, temporary, held_out=held_out, source=source, report=report)
        if not folder.exists():  # another process may have been faster, and its classifier is the same
            temporary.rename(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return _stored(folder, source)


def _stored(folder: Path, source: DataConfig) -> Classifier:
    """Read it, and see that it is one, and for this data."""
    model = load_model(folder)
    if not isinstance(model, Classifier):
        raise GenfastError(
            f"{folder} holds a {type(model).__name__}, not a classifier: give one with --classifier RUN."
        )
    described = read_config(find_checkpoint(folder)).get("data")
    named = (source.data, source.binarize, source.image_size)
    if (
        not isinstance(described, dict)
        or tuple(described.get(key) for key in ("name", "binarize", "image_size")) != named
    ):
        name = described.get("title") if isinstance(described, dict) else "unknown data"
        raise GenfastError(
            f"The classifier in {folder} was trained on {name}, not on {source.data}: give another with "
            "--classifier RUN, or remove that folder."
        )
    return model
