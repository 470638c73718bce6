"""Feature spaces: what turns images into the vectors that the measures compare."""

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from genfast.data import ImageSet
from genfast.errors import GenfastError
from genfast.models import Classifier
from genfast.sampling import shades
from genfast.training.evaluate import check_match

BATCH = 200
INCEPTION_SIZE, INCEPTION_FEATURES, INCEPTION_BATCH = 299, 2048, 50


class FeatureSpace(Protocol):
    """title: in words; short: in a word; frechet: what the Frechet distance is called in this space.

    standard: whether each feature is to be shifted and scaled so that real images have mean 0 and deviation 1.
    """

    title: str
    short: str
    frechet: str
    standard: bool

    def features(self, images: ImageSet) -> np.ndarray:
        """The vector of every image.  # float32 [N, D]"""
        ...


class ClassifierSpace:
    """What a classifier that was trained on the data sees: every feature map of its encoder, averaged over positions.

    All layers, because the last ones only tell classes apart: to them noise may look like one of the digits, while the
    first ones know strokes and edges. Of an encoder that is an mlp, the hidden units of every layer.
    """

    frechet = "Frechet distance"
    short = "classifier"
    standard = True

    def __init__(self, classifier: Classifier, name: str = "a classifier") -> None:
        if not isinstance(classifier, Classifier):
            raise GenfastError(
                f"{name} is a {type(classifier).__name__}, not a classifier: train one with genfast train classifier."
            )
        self.classifier = classifier
        config = classifier.config
        count = sum(config.widths[1:]) if config.network == "conv" else config.hidden * config.hidden_layers
        self.title = f"the {count} feature maps of {name}"

    def features(self, images: ImageSet) -> np.ndarray:
        """Raises GenfastError for images of another shape or number of levels."""
        return self._each(images, self._activations)

    def classes(self, images: ImageSet) -> np.ndarray:
        """The most probable class of each image.  # int64 [N]"""
        return self._each(images, lambda batch: self.classifier(batch).argmax(1))

    def accuracy(self, images: ImageSet) -> float | None:
        """The share of labels that are the most probable one; None for images without labels."""
        return None if images.labels is None else float((self.classes(images) == images.labels).mean())

    def _activations(self, images: Tensor) -> Tensor:
        """levels [B, C, H, W] -> [B, feature maps of all layers]"""
        x = self.classifier.scale(images)
        found = []
        for layer in self.classifier.encoder:
            x = layer(x)
            if isinstance(layer, nn.ReLU):
                found.append(x.flatten(2).mean(2) if x.ndim == 4 else x)
        return torch.cat(found, 1)

    @torch.no_grad()
    def _each(self, images: ImageSet, function: Callable[[Tensor], Tensor]) -> np.ndarray:
        check_match(self.classifier, images, labels=False)
        device = next(self.classifier.parameters()).device
        parts = []
        for start in range(0, len(images), BATCH):
            batch = images.batch(np.arange(start, min(start + BATCH, len(images))))
            parts.append(function(batch.to(device)).cpu().numpy())
        return np.concatenate(parts)


class InceptionSpace:
    """2048 features of an Inception network that the user has: the space of the FID.

    The network is a TorchScript module that maps uint8 images [N, 3, 299, 299] to floats [N, 2048] (if its ``forward``
    has an argument ``return_features``, that is set). Images go to 8-bit RGB and bilinearly to 299 x 299; tools that
    scale in another way print slightly other values.
    """

    frechet = "FID"
    short = "Inception"
    standard = False

    def __init__(self, path: Path, device: torch.device | str = "cpu") -> None:
        if not path.is_file():
            raise GenfastError(
                f"{path} does not exist: give a TorchScript file with the weights of an Inception network."
            )
        try:
            self.module = torch.jit.load(str(path), map_location=device).eval()
            self.arguments = [argument.name for argument in self.module.forward.schema.arguments]
        except (RuntimeError, ValueError, AttributeError):
            raise GenfastError(
                f"{path} is truncated, corrupted or not TorchScript: give a file that torch.jit.save wrote."
            ) from None
        self.device = device
        self.title = f"the {INCEPTION_FEATURES} features of {path.name}"
        self.path = path
        self._encode(torch.zeros(2, 3, 1, 1, dtype=torch.uint8))  # refuses a network of another kind before any work

    def features(self, images: ImageSet) -> np.ndarray:
        """Raises GenfastError for images that are neither gray nor RGB."""
        if images.image_shape[0] not in (1, 3):
            raise GenfastError(
                f"An Inception network sees 1 or 3 channels, and these images have {images.image_shape[0]}."
            )
        parts = []
        for start in range(0, len(images), INCEPTION_BATCH):
            batch = images.batch(np.arange(start, min(start + INCEPTION_BATCH, len(images))))
            parts.append(self._encode(shades(batch, images.levels).expand(-1, 3, -1, -1)))
        return np.concatenate(parts)

    @torch.no_grad()
    def _encode(self, rgb: Tensor) -> np.ndarray:
        """uint8 [N, 3, H, W] -> float32 [N, 2048]"""
        size = (INCEPTION_SIZE, INCEPTION_SIZE)
        scaled = F.interpolate(rgb.to(self.device, torch.float32), size, mode="bilinear", align_corners=False)
        options = {"return_features": True} if "return_features" in self.arguments else {}
        try:
            found = self.module(scaled.round().to(torch.uint8), **options)
        except RuntimeError as error:
            said = str(error).strip().splitlines()[-1].removeprefix("RuntimeError: ").rstrip(".")
            raise GenfastError(f"{self.path} cannot read uint8 images of shape [N, 3, 299, 299] ({said}).") from None
        wanted = (len(rgb), INCEPTION_FEATURES)
        if not isinstance(found, Tensor) or tuple(found.shape) != wanted or not found.is_floating_point():
            what = f"{found.dtype} of shape {list(found.shape)}" if isinstance(found, Tensor) else type(found).__name__
            raise GenfastError(
                f"{self.path} turns {len(rgb)} images into {what}, not into floats of shape {list(wanted)}: "
                "give a network that returns the 2048 features after its last pooling."
            )
        return found.float().cpu().numpy()
