"""Somebody else's module: how images go in, where in its output the parameters are, in which order it draws.

``describe`` checks what the user says; ``resolve`` (resolve.py) finds out what the user need not say;
``Foreign.forward`` then is the module as everything else here knows networks.
"""

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from genfast.compiler.layout import Layout, Pick, flat, tensors_of
from genfast.compiler.order import Order
from genfast.compiler.target import Target, examples_of
from genfast.errors import GenfastError
from genfast.likelihoods import Drawn, Likelihood, LogisticMixture, make_likelihood

Encode = str | Callable[[Tensor], Tensor]
Conditions = Tensor | Sequence[Tensor] | Mapping[str, Tensor] | None

ENCODERS: dict[str, Callable[[Tensor, int, torch.dtype], Tensor]] = {
    "unit": lambda images, levels, dtype: images.to(dtype) / (levels - 1),
    "signed": lambda images, levels, dtype: images.to(dtype) * (2 / (levels - 1)) - 1,
    "integer": lambda images, levels, dtype: images.long(),
}

DRAWN_BY_ENGINES = ("categorical", "bernoulli", "logistic_mixture", "function")  # others are made functions


@dataclass(frozen=True, eq=False)
class Foreign:
    """A module and how to call it. names: of conditions that it takes by keyword, in their order; else empty.

    width: how many parameters a sub-pixel has (a whole pixel, where its colours share them); None: any number, from
    which follows how many components a mixture has.
    layout, order: once they are found; no order: raster.
    """

    module: nn.Module
    image_shape: tuple[int, int, int]
    levels: int
    likelihood: Likelihood
    encode: Callable[[Tensor], Tensor]
    pick: Pick | None = None
    conditions: tuple[Tensor, ...] = ()
    names: tuple[str, ...] = ()
    width: int | None = None
    layout: Layout | None = None
    order: Order | None = field(default=None)

    @property
    def shared(self) -> bool:
        """Whether the output has one set of numbers for all the colours of a pixel."""
        return self.likelihood.whole_pixels or isinstance(self.likelihood, LogisticMixture)

    def with_layout(self, layout: Layout) -> "Foreign":
        """The description with the layout that was found, and as many components as it has room for."""
        likelihood = self.likelihood
        if isinstance(likelihood, LogisticMixture):
            likelihood = replace(likelihood, components=len(layout.places) // likelihood.numbers)
        return replace(self, layout=layout, likelihood=likelihood)

    def call(self, images: Tensor, *conditions: Tensor) -> Any:
        """What the module itself returns for levels [B, C, H, W]."""
        given, named = conditions, {}
        if self.names:
            given, named = (), dict(zip(self.names, conditions, strict=True))
        with forgetting(self.module):
            return self.module(self.encode(images), *given, **named)

    def numbers(self, images: Tensor, *conditions: Tensor) -> Tensor:
        """All floating numbers of the output, for images in raster order.  # [B, N]"""
        return flat(tensors_of(self.call(images, *conditions)), len(images))

    def forward(self, images: Tensor, *conditions: Tensor) -> Tensor:
        """Likelihood parameters: [B, width, C, H, W], [B, C, H, W] for bernoulli, [B, rows, K, C, H, W] for a mixture
        of logistics. In another order than raster images and parameters are renamed (see Order)."""
        assert self.layout is not None
        order = self.order
        levels = images if order is None else order.back(images)
        out = self.layout.arrange(tensors_of(self.call(levels, *conditions)), len(images))
        if order is not None:
            source = order.source.to(out.device)
            out = out.flatten(2)[:, :, source].reshape(len(out), -1, *order.renamed)
        if isinstance(self.likelihood, LogisticMixture):  # whose later colours depend on the earlier ones
            return self.likelihood.unpack(out[:, :, 0], images)
        return out[:, 0] if self.likelihood.name == "bernoulli" else out

    def target(self, conditions: Sequence[Tensor] | None = None) -> Target:
        """What the compiler takes. conditions: other examples than the first ones."""
        shape = self.image_shape if self.order is None else self.order.renamed
        examples = self.conditions if conditions is None else examples_of(self.module, conditions)
        return Target(self.module, self.forward, shape, self.levels, self.likelihood.name, examples)


def describe(
    module: nn.Module,
    image_shape: Sequence[int] | None,
    likelihood: str | Likelihood | Callable[..., Any] = "categorical",
    levels: int | None = None,
    encode: Encode = "unit",
    pick: Pick | None = None,
    condition: Conditions = None,
) -> Foreign:
    """Checks what the user says of a module. Raises GenfastError, in one sentence."""
    if not isinstance(module, nn.Module):
        hint = ": call it first" if isinstance(module, type) else ""
        raise GenfastError(f"The network must be a torch.nn.Module, not {kind(module)}{hint}.")
    if not isinstance(image_shape, tuple | list) or not all(isinstance(n, int) and n > 0 for n in image_shape):
        raise GenfastError(f"image_shape must be three positive numbers (channels, height, width), not {image_shape}.")
    if len(image_shape) != 3:
        raise GenfastError(f"image_shape must be three positive numbers (channels, height, width), not {image_shape}.")
    shape = (image_shape[0], image_shape[1], image_shape[2])
    if pick is not None and not callable(pick):
        raise GenfastError(f"pick must be a function of (out, y, x, c), not {pick!r}.")
    if any(t.is_meta for t in [*module.parameters(), *module.buffers()] if not is_lazy(t)):
        raise GenfastError("The model's weights are on the meta device and hold no numbers: load its weights first.")
    levels = levels_of(likelihood, levels)
    conditions, names = conditions_of(condition)
    drawn = distribution(likelihood, shape, levels, pick)
    width = None if likelihood == "logistic_mixture" else width_of(drawn)
    return Foreign(
        module, shape, levels, drawn, encoder(module, encode, levels), pick, examples_of(module, conditions),
        names, width,
    )  # fmt: skip


@contextmanager
def forgetting(module: nn.Module) -> Iterator[None]:
    """Has layers forget the tensors that they keep as plain attributes in a pass: made for its batch, they would not
    fit the next, ours or the user's own. (Parameters and buffers stay.)"""
    kept = [(m, {k: v for k, v in vars(m).items() if v is None or isinstance(v, Tensor)}) for m in module.modules()]
    try:
        yield
    finally:
        for m, before in kept:
            for name, value in list(vars(m).items()):
                if not isinstance(value, Tensor) or value is before.get(name):
                    continue
                if name in before:
                    setattr(m, name, before[name])
                else:
                    delattr(m, name)


def kind(value: Any) -> str:
    return f"the class {value.__name__}" if isinstance(value, type) else f"a {type(value).__name__}"


def levels_of(likelihood: Any, levels: int | None) -> int:
    if levels is not None and (not isinstance(levels, int) or isinstance(levels, bool)):
        raise GenfastError(f"levels must be a whole number, not {levels!r}.")
    if isinstance(likelihood, Likelihood):
        if levels not in (None, likelihood.levels):
            raise GenfastError(f"levels is {levels}, but the likelihood has {likelihood.levels}: leave levels out.")
        return likelihood.levels
    return levels if levels is not None else 2 if likelihood == "bernoulli" else 256


def distribution(likelihood: Any, shape: tuple[int, int, int], levels: int, pick: Pick | None) -> Likelihood:
    if isinstance(likelihood, Likelihood):
        if likelihood.channels != shape[0]:
            raise GenfastError(
                f"The likelihood is for {likelihood.channels} channels, but the images have {shape[0]} channels."
            )
        return likelihood if likelihood.name in DRAWN_BY_ENGINES else Drawn.by(likelihood)
    if callable(likelihood) and not isinstance(likelihood, type):
        return Drawn(shape[0], levels, likelihood, whole_pixels=pick is None or not takes_colour(pick))
    if not isinstance(likelihood, str):
        raise GenfastError(
            "likelihood must be a name (bernoulli, categorical, logistic_mixture), a Likelihood, or a function "
            f"sample(params, uniforms), not {kind(likelihood)}."
        )
    if likelihood == "logistic_mixture":
        return LogisticMixture(shape[0], levels)
    made = make_likelihood(likelihood, shape[0], levels)
    return made if likelihood in DRAWN_BY_ENGINES else Drawn.by(made)


def takes_colour(pick: Pick) -> bool:
    """Whether pick is a function of (out, y, x, c), and not of (out, y, x)."""
    try:
        inspect.signature(pick).bind(None, 0, 0, 0)
    except TypeError:
        return False
    except ValueError:  # a builtin without a signature
        return True
    return True


def width_of(likelihood: Likelihood) -> int | None:
    """How many parameters a sub-pixel has (or a whole pixel); None: as many as there are."""
    if isinstance(likelihood, Drawn):
        return likelihood.width
    if isinstance(likelihood, LogisticMixture):
        return likelihood.param_channels
    return 1 if likelihood.name == "bernoulli" else likelihood.levels


def encoder(module: nn.Module, encode: Encode, levels: int) -> Callable[[Tensor], Tensor]:
    if isinstance(encode, str) and encode in ENCODERS:
        named = ENCODERS[encode]

        def to_input(images: Tensor) -> Tensor:
            return named(images, levels, dtype_of(module))

        return to_input
    if callable(encode):
        return encode
    raise GenfastError(f"encode must be {', '.join(ENCODERS)} or a function of levels, not {encode!r}.")


def dtype_of(module: nn.Module) -> torch.dtype:
    """Of the module's first floating parameter, or buffer."""
    weights = [*module.parameters(), *module.buffers()]
    return next((t.dtype for t in weights if t.is_floating_point()), torch.get_default_dtype())


def conditions_of(condition: Conditions) -> tuple[tuple[Tensor, ...], tuple[str, ...]]:
    """The tensors of a condition, and their names if it has any. Raises GenfastError for what is no tensor."""
    if condition is None:
        return (), ()
    given: Any
    names: tuple[str, ...] = ()
    if isinstance(condition, Mapping):
        names, given = tuple(condition), condition.values()
    else:
        given = (condition,) if isinstance(condition, Tensor) else condition
    try:
        tensors = tuple(given)
    except TypeError:
        tensors = (given,)
    for tensor in tensors:
        if not isinstance(tensor, Tensor):
            raise GenfastError(f"The condition must be a tensor with one row per image, not {kind(tensor)}.")
        if tensor.dim() == 0 or len(tensor) == 0:
            raise GenfastError(f"The example of a condition needs a row per image, but it is {list(tensor.shape)}.")
    if len({len(t) for t in tensors}) > 1:
        raise GenfastError(f"The conditions have {', '.join(str(len(t)) for t in tensors)} rows: give as many of each.")
    return tensors, names


def is_model(module: Any) -> bool:
    """Whether a module says itself what its images and its likelihood are."""
    return all(hasattr(module, name) for name in ("likelihood", "image_shape", "levels"))
