"""What is compiled: a module, how to call it, and what its images and its outputs are."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from genfast.errors import GenfastError
from genfast.likelihoods import Likelihood, make_likelihood

Forward = Callable[..., Tensor]


@dataclass(frozen=True)
class Target:
    """forward(images, *conditions) -> likelihood parameters [B, ..., C, H, W]; images are levels, uint8 [B, C, H, W].

    conditions: examples with two rows each, in the dtypes that the module takes; may be empty.
    """

    module: nn.Module
    forward: Forward
    image_shape: tuple[int, int, int]
    levels: int
    likelihood: str
    conditions: tuple[Tensor, ...] = ()


def model_target(model: Any, condition: Tensor | None = None) -> Target:
    """For a module that has image_shape, levels and likelihood, and takes levels and ``condition=``.

    condition: an example with any number of rows; needed if the model is conditional.

    Raises GenfastError if these do not fit each other: see ``check_description``.
    """
    check_description(model)

    def forward(images: Tensor, *conditions: Tensor) -> Tensor:
        out: Tensor = model(images, condition=conditions[0] if conditions else None)
        return out

    examples = () if condition is None else (two_rows(condition),)
    shape = tuple(model.image_shape)
    return Target(model, forward, shape, model.levels, model.likelihood.name, examples)


def ask(forward: Forward, images: Tensor, *conditions: Tensor) -> Tensor:
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


def ask_model(model: Any, images: Tensor, condition: Tensor | None) -> Tensor:
    """As ``ask``, of a model that takes its condition by name."""
    given = () if condition is None else (condition,)
    return ask(lambda x, *c: model(x, condition=c[0] if c else None), images, *given)


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


def make_target(
    module: nn.Module,
    image_shape: tuple[int, int, int] | None = None,
    likelihood: str = "categorical",
    levels: int | None = None,
    encode: str | Callable[[Tensor], Tensor] = "unit",
    pick: Callable[..., Tensor] | None = None,
    condition: Tensor | Sequence[Tensor] | None = None,
) -> Target:
    """The target for one of our models, or for any module(x, *conditions).

    image_shape: (C, H, W). levels: 2 for bernoulli, 256 otherwise, unless given.
    encode: how levels become the input x: "unit" (0 .. 1), "signed" (-1 .. 1), "integer" (int64), or a function.
    pick(out, y, x, c): the parameters of one sub-pixel, [B, width], where the output's layout is unusual. Understood
    without it: [B, C * levels, H, W] (all levels of R first), [B, levels, C, H, W], and [B, C, H, W] for bernoulli.

    Raises GenfastError, in one sentence, for a description that fits no network.
    """
    conditions = (condition,) if isinstance(condition, Tensor) else tuple(condition or ())
    if all(hasattr(module, name) for name in ("likelihood", "image_shape", "levels")):
        return model_target(module, conditions[0] if conditions else None)
    if image_shape is None or len(image_shape) != 3 or min(image_shape) < 1:
        raise GenfastError(f"image_shape must be three positive numbers (channels, height, width), not {image_shape}.")
    levels = levels or (2 if likelihood == "bernoulli" else 256)
    distribution = make_likelihood(likelihood, image_shape[0], levels)
    encoder = ENCODERS.get(encode) if isinstance(encode, str) else encode
    if encoder is None:
        raise GenfastError(f"encode must be {', '.join(ENCODERS)} or a function of levels, not {encode!r}.")
    shape = image_shape

    def forward(images: Tensor, *given: Tensor) -> Tensor:
        x = encoder(images) if callable(encode) else encoder(images, levels)  # type: ignore[call-arg]
        out = module(x, *given)
        out = out[0] if isinstance(out, tuple | list) else out
        if pick is not None:
            return picked(out, pick, shape)
        if tuple(out.shape[1:]) == (levels, *shape) or (likelihood == "bernoulli" and tuple(out.shape[1:]) == shape):
            return out
        if out.dim() == 4 and tuple(out.shape[1:]) == (distribution.param_channels, *shape[1:]):
            return distribution.unpack(out)
        raise GenfastError(
            f"The output {list(out.shape)} is not [B, {distribution.param_channels}, {shape[1]}, {shape[2]}]: pass "
            "pick=lambda out, y, x, c: ... that gives the parameters of one sub-pixel as [B, width]."
        )

    return Target(module, forward, shape, levels, likelihood, tuple(two_rows(c) for c in conditions))


ENCODERS: dict[str, Callable[[Tensor, int], Tensor]] = {
    "unit": lambda images, levels: images.to(torch.get_default_dtype()) / (levels - 1),
    "signed": lambda images, levels: images.to(torch.get_default_dtype()) * (2 / (levels - 1)) - 1,
    "integer": lambda images, levels: images.long(),
}


def picked(out: Tensor, pick: Callable[..., Tensor], shape: tuple[int, ...]) -> Tensor:
    """``pick`` for all sub-pixels: run once on the places of the output's elements.  # [B, width, C, H, W]"""
    channels, height, width = shape
    places = torch.arange(out[0].numel()).reshape(1, *out.shape[1:])
    rows = [pick(places, y, x, c).reshape(-1) for c in range(channels) for y in range(height) for x in range(width)]
    index = torch.stack(rows, 1).reshape(-1, channels, height, width)
    return out.flatten(1)[:, index.to(out.device)]


def two_rows(condition: Tensor) -> Tensor:
    """The first two rows of an example, or one row twice."""
    return condition[:2] if condition.shape[0] >= 2 else condition[:1].expand(2, *condition.shape[1:]).clone()
