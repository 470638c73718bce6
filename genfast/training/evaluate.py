"""Exact held-out likelihoods: every image counts once, whatever the batch size."""

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from genfast.data import ImageSet
from genfast.errors import GenfastError
from genfast.models import ImageModel
from genfast.training.metrics import Metrics


def check_match(model: ImageModel, data: ImageSet) -> None:
    """Raises GenfastError unless ``model`` can read the images (and labels) of ``data``."""
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
    if classes is not None:
        if data.labels is None:
            raise GenfastError(
                f"The model is conditioned on labels (num_classes = {classes}), but {data.title} has none: "
                "choose data with labels or a model without num_classes."
            )
        if len(data) and int(data.labels.max()) >= classes:
            raise GenfastError(
                f"{data.title} has the label {int(data.labels.max())}, but the model knows only 0 to {classes - 1}: "
                "set num_classes higher."
            )


def condition_of(model: ImageModel, data: ImageSet, indices: np.ndarray) -> Tensor | None:
    """Labels of the chosen images for a model conditioned on them, else None.  # int64 [B]"""
    if model.num_classes is None or data.labels is None:
        return None
    return torch.from_numpy(np.asarray(data.labels[indices], dtype=np.int64))


@torch.no_grad()
def image_nats(
    model: ImageModel, data: ImageSet, indices: np.ndarray, batch_size: int = 100, progress: bool = False
) -> np.ndarray:
    """-log p of the chosen images in nats.  # float64 [len(indices)]

    Dynamic binarization is drawn with seed 0, epoch 0, so that the same held-out images come back every time.
    """
    device = next(model.parameters()).device
    was_training = model.training
    model.eval()
    nats = np.empty(len(indices), dtype=np.float64)
    for start in tqdm(range(0, len(indices), batch_size), desc="evaluate", disable=None if progress else True):
        chosen = indices[start : start + batch_size]
        condition = condition_of(model, data, chosen)
        images = data.batch(chosen, seed=0, epoch=0).to(device)
        log_prob = model.log_prob(images, None if condition is None else condition.to(device))
        nats[start : start + len(chosen)] = -log_prob.cpu().double().numpy()
    model.train(was_training)
    return nats


def evaluate(model: ImageModel, image_set: ImageSet, batch_size: int = 100, progress: bool = False) -> Metrics:
    """Mean negative log-likelihood of ``image_set`` with its standard error, over images and not over batches.

    Raises GenfastError when model and images do not match, or when the likelihood of an image is not a number.
    """
    check_match(model, image_set)
    if len(image_set) == 0:
        raise GenfastError(f"{image_set.title} holds no images: choose another split.")
    nats = image_nats(model, image_set, np.arange(len(image_set)), batch_size, progress)
    bad = np.flatnonzero(~np.isfinite(nats))
    if bad.size:
        raise GenfastError(
            f"The likelihood of {bad.size} of {len(nats)} images of {image_set.title} is not a finite number "
            f"(the first is image {bad[0]}): these weights are broken, use an earlier checkpoint."
        )
    return Metrics.from_nats(nats, image_set.image_shape, image_set.title)
