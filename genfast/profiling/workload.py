"""What there is to profile of a model: drawing, a training step, scoring; on images of random levels, so that no data
set is needed. Times do not depend on what images show."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from torch import nn

from genfast.data import ImageSet
from genfast.errors import GenfastError
from genfast.models import Model
from genfast.sampling import LatentSampler, Sampler
from genfast.training.evaluate import check_match, image_scores
from genfast.training.learner import stepper
from genfast.training.recipe import TrainConfig


@dataclass(frozen=True)
class Workload:
    """run: does it once, on ``images`` images. network: whose layers name the ranges of a trace."""

    run: Callable[[], object]
    network: nn.Module
    images: int


def random_images(model: Model, n: int, seed: int = 0) -> ImageSet:
    """n images of random levels, with labels where the model reads labels."""
    generator = np.random.default_rng(seed)
    images = generator.integers(0, model.levels, (n, *model.image_shape), dtype=np.uint8)
    labels = None if model.num_classes is None else generator.integers(0, model.num_classes, n)
    return ImageSet("random", "train", images, model.levels, labels)


def training(
    name: str, model: Model, recipe: TrainConfig, batch: int, device: Literal["auto", "cpu"] = "auto"
) -> Workload:
    """One step as genfast train makes it, on a copy of the model: loss, backward, clipping, optimizer, average.

    device: "auto" or "cpu".
    """
    data = random_images(model, 2 * batch)
    step, copy = stepper(name, data, replace(recipe, batch_size=batch, num_threads=0, device=device), model)
    return Workload(step, copy, batch)


def scoring(model: Model, batch: int) -> Workload:
    """What genfast evaluate does with one batch. Raises GenfastError for a model that cannot score images."""
    if model.criterion is None:
        raise GenfastError(
            f"A {type(model).__name__} has no score to evaluate: profile --what sample or --what train instead."
        )
    data = random_images(model, batch)
    check_match(model, data)
    return Workload(lambda: image_scores(model, data, np.arange(batch), batch), model, batch)


def drawing(model: Model, sampler: Sampler | LatentSampler, n: int) -> Workload:
    """Drawing n images by whatever engine the sampler has."""
    condition = None if model.num_classes is None else torch.arange(n) % model.num_classes
    return Workload(lambda: sampler.sample(n, condition=condition), model, n)
