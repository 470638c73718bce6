"""The codes of a set of images."""

import numpy as np
import torch

from genfast.data import ImageSet
from genfast.errors import GenfastError
from genfast.models import Classifier, Coder, Model
from genfast.training.evaluate import check_match, labels_of


@torch.no_grad()
def image_features(model: Model, data: ImageSet, batch_size: int = 500) -> np.ndarray:
    """The code of every image, by a model with an encoder.  # float32 [N, latent]

    Raises GenfastError for a model without an encoder, or images that do not fit it.
    """
    if not isinstance(model, Coder):
        raise GenfastError(
            f"A {type(model).__name__} has no encoder, so it gives no features: use an autoencoder, a vae or a "
            "classifier."
        )
    check_match(model, data, labels=not isinstance(model, Classifier))
    device = next(model.parameters()).device
    parts = []
    for start in range(0, len(data), batch_size):
        at = np.arange(start, min(start + batch_size, len(data)))
        labels = labels_of(model, data, at)
        images = data.batch(at).to(device)
        parts.append(model.features(images, None if labels is None else labels.to(device)).float().cpu().numpy())
    return np.concatenate(parts)
