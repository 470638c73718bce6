"""What is compiled: a module, how to call it, and what its images and its outputs are."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from genfast.errors import GenfastError
from genfast.likelihoods import Likelihood

Forward = Callable[..., Tensor]
Condition = Tensor | tuple[Tensor, ...] | None


@dataclass(frozen=True)
class Target:
    """forward(images, *conditions) -> likelihood parameters [B, ..., C, H, W]; images are levels [B, C, H, W].

    conditions: examples with two rows each, in the dtypes that the module takes and on its device; may be empty.
    """

    module: nn.Module
    forward: Forward
    image_shape: tuple[int, int, int]
    levels: int
    likelihood: str
    conditions: tuple[Tensor, ...] = ()

    @property
    def device(self) -> torch.device:
        """Where the module takes its images."""
        return device_of(self.module)


def model_target(model: Any, *conditions: Tensor) -> Target:
    """For a module that has image_shape, levels and likelihood, and takes levels and ``condition=``.

    conditions: examples with any number of rows; needed if the model is conditional.
    A model that stands for another module (``sampling.accelerate``) knows it: model.foreign_target(conditions).

    Raises GenfastError if these do not fit each other: see ``check_description``.
    """
    check_description(model)
    if hasattr(model, "foreign_target"):
        target: Target = model.foreign_target(conditions)
        return target

    def forward(images: Tensor, *conditions: Tensor) -> Tensor:
        out: Tensor = model(images, condition=as_condition(conditions))
        return out

    shape, examples = tuple(model.image_shape), examples_of(model, conditions)
    return Target(model, forward, shape, model.levels, model.likelihood.name, examples)


def as_condition(conditions: tuple[Tensor, ...]) -> Condition:
    """Conditions as models take them: None, one tensor, or a tuple of several."""
    return conditions if len(conditions) > 1 else conditions[0] if conditions else None


def ask(forward: Callable[..., Any], images: Tensor, *conditions: Tensor) -> Any:
    """What a module's forward gives for a copy of the images: it may write into what it is given.

    Raises GenfastError where the module itself fails.
    """
    try:
        return forward(images.clone(), *conditions)
    except GenfastError:
        raise
    except Exception as error:
        many = "two images" if len(images) == 2 else f"{len(images)} images"
        shapes = "".join(f" and a condition {list(c.shape)} of {c.dtype}" for c in conditions)
        hint = (
            "" if conditions or "NoneType" not in str(error) else " (if it needs a condition, give an example of one)"
        )
        raise GenfastError(
            f"The module's forward pass fails on {many} {list(images.shape)}{shapes}: "
            f"{type(error).__name__}: {error}{hint}"
        ) from error


def ask_model(model: Any, images: Tensor, *conditions: Tensor) -> Tensor:
    """As ``ask``, of a model that takes its condition by name."""
    out: Tensor = ask(lambda x, *c: model(x, condition=as_condition(c)), images, *conditions)
    return out


def check_description(model: Any) -> None:
    """Raises GenfastError unless image_shape, levels and likelihood fit each other and the weights hold numbers."""
    shape, levels, likelihood = model.image_shape, model.levels, model.likelihood
    whole = isinstance(shape, tuple | list) and all(isinstance(n, int) and n > 0 for n in shape)
    if not whole or len(shape) != 3:
        raise GenfastError(f"image_shape must be three positive numbers (channels, height, width), not {shape}.")
    if not isinstance(likelihood, Likelihood):
        found = likelihood.__name__ if isinstance(likelihood, type) else type(likelihood).__name__
        raise GenfastError(
            f"The model's likelihood must be a Likelihood, as make_likelihood('categorical', {shape[0]}, {levels}) "
            f"makes one, not a {found}."
        )
    if (likelihood.channels, likelihood.levels) != (shape[0], levels) or not isinstance(levels, int):
        raise GenfastError(
            f"The model's images have {shape[0]} channels and {levels} levels, but its likelihood is for "
            f"{likelihood.channels} channels and {likelihood.levels} levels: make these agree."
        )
    if any(t.is_meta for t in [*model.parameters(), *model.buffers()]):
        raise GenfastError("The model's weights are on the meta device and hold no numbers: load its weights first.")


def device_of(module: Any) -> torch.device:
    """Of a module's first parameter, or buffer."""
    return next((t.device for t in [*module.parameters(), *module.buffers()]), torch.device("cpu"))


def examples_of(module: nn.Module, conditions: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """Two rows of each condition, on the module's device."""
    return tuple(two_rows(c).to(device_of(module)) for c in conditions)


def two_rows(condition: Tensor) -> Tensor:
    """The first two rows of an example, or one row twice."""
    return condition[:2] if condition.shape[0] >= 2 else condition[:1].expand(2, *condition.shape[1:]).clone()
