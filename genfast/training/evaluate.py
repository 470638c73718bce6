"""Held-out scores: every image counts once, whatever the batch size."""

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from genfast.data import ImageSet
from genfast.errors import GenfastError
from genfast.models import VAE, Model
from genfast.training.metrics import Metrics


def check_match(model: Model, data: ImageSet, labels: bool = True) -> None:
    """Raises GenfastError unless ``model`` can read the images of ``data``, and their labels if it is to read those."""
    if tuple(model.image_shape) != tuple(data.image_shape):
        raise GenfastError(
            f"The model is for images of shape {tuple(model.image_shape)} (channels, height, width), "
            f"but {data.title} has {tuple(data.image_shape)}: choose matching data or train a model on these images."
        )
    if model.levels != data.levels:
        raise GenfastError(
            f"The model is for pixels of {model.levels} levels, but {data.title} has {data.levels}: "
            "choose matching data (see --binarize) or train a model on these images."
        )
    if model.condition_dim is not None:
        raise GenfastError(
            "This model is conditioned on vectors, and data sets carry labels only: "
            "call model.log_prob(images, condition) yourself."
        )
    classes = model.num_classes
    if labels and classes is not None:
        if data.labels is None:
            raise GenfastError(
                f"The model reads labels (num_classes = {classes}), but {data.title} has none: "
                "choose data with labels or a model without num_classes."
            )
        low, high = (int(data.labels.min()), int(data.labels.max())) if len(data) else (0, 0)
        if low < 0 or high >= classes:
            raise GenfastError(
                f"{data.title} has the label {low if low < 0 else high}, but the model knows only 0 to {classes - 1}: "
                "set num_classes higher."
            )


def labels_of(model: Model, data: ImageSet, indices: np.ndarray) -> Tensor | None:
    """Labels of the chosen images for a model that reads them, else None.  # int64 [B]"""
    if model.num_classes is None or data.labels is None:
        return None
    return torch.from_numpy(np.asarray(data.labels[indices], dtype=np.int64))


@torch.no_grad()
def image_scores(
    model: Model, data: ImageSet, indices: np.ndarray, batch_size: int = 100, samples: int = 1, progress: bool = False
) -> dict[str, np.ndarray]:
    """The scores of the chosen images, by name.  # float64 [len(indices), ...]

    Dynamic binarization is drawn with seed 0, epoch 0, so that the same held-out images come back every time; so are
    the draws of a model whose score is an estimate, keyed by the image's number.
    """
    device = next(model.parameters()).device
    was_training = model.training
    model.eval()
    parts: dict[str, list[np.ndarray]] = {}
    for start in tqdm(range(0, len(indices), batch_size), desc="evaluate", disable=None if progress else True):
        chosen = indices[start : start + batch_size]
        labels = labels_of(model, data, chosen)
        images = data.batch(chosen, seed=0, epoch=0).to(device)
        numbers = torch.from_numpy(chosen if data.numbers is None else data.numbers[chosen])
        scores = model.score(images, None if labels is None else labels.to(device), numbers, samples)
        for name, values in scores.items():
            parts.setdefault(name, []).append(values.cpu().double().numpy())
    model.train(was_training)
    return {name: np.concatenate(values) for name, values in parts.items()}


def gather_metrics(model: Model, scores: dict[str, np.ndarray], data: ImageSet) -> Metrics:
    """What the scores of all images of ``data`` come to.

    Raises GenfastError if the score that the model is judged by is not a number for every image.
    """
    assert model.criterion is not None  # else there are no scores
    values = scores[model.criterion]
    bad = np.flatnonzero(~np.isfinite(values))
    if bad.size:
        raise GenfastError(
            f"The score of {bad.size} of {len(values)} images of {data.title} is not a finite number "
            f"(the first is image {bad[0]}): these weights are broken, use an earlier checkpoint."
        )
    return Metrics.from_scores(scores, data.image_shape, data.title, model.criterion, model.summary(scores))


def evaluate(
    model: Model, image_set: ImageSet, batch_size: int = 100, progress: bool = False, samples: int = 1
) -> Metrics:
    """Mean scores of ``image_set`` with their standard errors, over images and not over batches.

    For a density the criterion is the negative log-likelihood, or for a VAE its bound. samples: draws of the latent
    variable for each image (for a VAE: more than one adds importance-weighted bounds).
    Raises GenfastError when model and images do not match, for a model that images cannot score (a GAN), when the score
    of an image is not a number, or for samples of a model whose scores are exact.
    """
    check_match(model, image_set)
    if len(image_set) == 0:
        raise GenfastError(f"{image_set.title} holds no images: choose another split.")
    if samples < 1:
        raise GenfastError(f"samples must be at least 1, not {samples}.")
    if samples > 1 and model.criterion is not None and not isinstance(model, VAE):
        raise GenfastError(
            f"Importance samples are for a model with a latent variable; a {type(model).__name__} is scored exactly."
        )
    scores = image_scores(model, image_set, np.arange(len(image_set)), batch_size, samples, progress)
    return gather_metrics(model, scores, image_set)
