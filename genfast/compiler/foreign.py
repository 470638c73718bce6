"""Somebody else's module: how images go in, where in its output the parameters are, in which order it draws.

``describe`` checks what the user says; ``resolve`` finds out what the user need not say, from a traced forward pass;
``Foreign.forward`` then is the module as everything else here knows networks.
"""

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from genfast.compiler import order as orders
from genfast.compiler.builder import Opaque
from genfast.compiler.cells import VALUE_SHIFT, positions_of
from genfast.compiler.compile import Watched, one_thread, random_images, watch
from genfast.compiler.footprint import generation_order, latest, needed
from genfast.compiler.layout import Layout, Pick, flat, has_images, layouts_of, picked, tensors_of
from genfast.compiler.order import Order
from genfast.compiler.probe import probe
from genfast.compiler.target import Target, ask, model_target, two_rows
from genfast.errors import GenfastError, NotSupported
from genfast.likelihoods import Drawn, Likelihood, make_likelihood
from genfast.likelihoods.drawn import mixture_of_logistics

Encode = str | Callable[[Tensor], Tensor]
Conditions = Tensor | Sequence[Tensor] | Mapping[str, Tensor] | None

ENCODERS: dict[str, Callable[[Tensor, int, torch.dtype], Tensor]] = {
    "unit": lambda images, levels, dtype: images.to(dtype) / (levels - 1),
    "signed": lambda images, levels, dtype: images.to(dtype) * (2 / (levels - 1)) - 1,
    "integer": lambda images, levels, dtype: images.long(),
}


@dataclass(frozen=True, eq=False)
class Foreign:
    """A module and how to call it. names: of conditions that it takes by keyword, in their order; else empty.

    width: how many parameters a sub-pixel has (a whole pixel, where its colours share them); None: any number.
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
        """Likelihood parameters: [B, width, C, H, W], or [B, C, H, W] for bernoulli. In another order than raster both
        images and parameters are renamed (see Order)."""
        assert self.layout is not None
        order = self.order
        levels = images if order is None else order.back(images)
        out = self.layout.arrange(tensors_of(self.call(levels, *conditions)), len(images))
        if order is not None:
            source = order.source.to(out.device)
            out = out.flatten(2)[:, :, source].reshape(len(out), -1, *order.renamed)
        return out[:, 0] if self.likelihood.name == "bernoulli" else out

    def target(self, conditions: Sequence[Tensor] | None = None) -> Target:
        """What the compiler takes. conditions: other examples than the first ones."""
        shape = self.image_shape if self.order is None else self.order.renamed
        examples = self.conditions if conditions is None else tuple(two_rows(c) for c in conditions)
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
    foreign = Foreign(
        module, shape, levels, distribution(likelihood, shape, levels, pick), encoder(module, encode, levels), pick,
        tuple(two_rows(c) for c in conditions), names,
    )  # fmt: skip
    return replace(foreign, width=width_of(foreign.likelihood))


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
        return likelihood if likelihood.name in ("categorical", "bernoulli", "function") else Drawn.by(likelihood)
    if callable(likelihood) and not isinstance(likelihood, type):
        return Drawn(shape[0], levels, likelihood, whole_pixels=pick is None or not takes_colour(pick))
    if not isinstance(likelihood, str):
        raise GenfastError(
            "likelihood must be a name (bernoulli, categorical, logistic_mixture), a Likelihood, or a function "
            f"sample(params, uniforms), not {kind(likelihood)}."
        )
    if likelihood == "logistic_mixture":
        return mixture_of_logistics(shape[0], levels)
    if likelihood not in ("categorical", "bernoulli"):
        return Drawn.by(make_likelihood(likelihood, shape[0], levels))
    return make_likelihood(likelihood, shape[0], levels)


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
    if likelihood.name == "bernoulli":
        return 1
    return likelihood.levels if likelihood.name == "categorical" else None


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


# ---- what need not be said ----


@dataclass(frozen=True, eq=False)
class Seen:
    """What the numbers of an output read: the last sub-pixel (y * W + x) * C + c of each, -1 for none.  # int64 [N]

    watched: the forward pass, if it could be followed. reason: why not, else "" (then ``last`` is what probing showed).
    """

    last: np.ndarray
    watched: Watched | None
    reason: str = ""


def observe(foreign: Foreign) -> Seen:
    """What every number of the output reads, proved from a trace, or probed where that cannot be followed."""
    target = replace(foreign, order=None).target()

    def numbers(images: Tensor, conditions: Sequence[Tensor]) -> Tensor:
        out: Tensor = ask(foreign.numbers, images, *conditions)
        return out

    with one_thread():
        try:
            watched = watch(target, foreign.numbers, numbers)
        except NotSupported as error:
            return Seen(probe(target, numbers), None, str(error))
        program = watched.program(target)
        ids = watched.out.ids[0]
        here, at = ids[ids >= 0] >> VALUE_SHIFT, positions_of(ids[ids >= 0])
        need = [np.zeros(v.positions, bool) for v in program.values]
        for value in np.unique(here):
            need[value][at[here == value]] = True
        need = needed(program, need)
        stuck = [s for s in program.steps if isinstance(s, Opaque) and need[s.out].any() and not s.mixes_images]
        if stuck:
            layer = program.values[stuck[0].out].layer
            reason = f"The compiler cannot take layer {layer}: {stuck[0].reason}."
            return Seen(probe(target, numbers), None, reason)
        times = latest(program, generation_order(program))
        last = np.full(ids.shape, -1, np.int64)
        start = np.cumsum([0, *(len(t) for t in times)])[:-1]
        last[ids >= 0] = np.concatenate(times)[start[here] + at]
    return Seen(last, watched)


def causal(layout: Layout, last: np.ndarray, whole: bool) -> bool:
    """Whether every sub-pixel's parameters read earlier sub-pixels only, in raster order."""
    _, channels, height, width = layout.places.shape
    number = np.arange(height * width).reshape(1, height, width) * channels
    number = number + (0 if whole else np.arange(channels)[:, None, None])
    return bool((last[layout.places] < number[None]).all())


def resolve(foreign: Foreign, order: str | Order = "raster") -> Foreign:
    """The description with the layout of the output, and with the order of generation if that is not raster's.

    order: "raster"; or "auto": another, if the module is causal in none of its layouts in raster order; or that of an
    Order. Where no order does, the description is returned as if the first layout and raster order were right, and
    compiling it says where it looks ahead.

    Raises GenfastError, in one sentence, for outputs that are no layout, or may be several.
    """
    layouts = find_layouts(foreign)
    whole = foreign.likelihood.whole_pixels
    if isinstance(order, Order):
        foreign = replace(foreign, order=None if order.is_raster else order)
    seen: Seen | None = None
    if len(layouts) > 1:
        seen = observe(replace(foreign, order=None))
        if foreign.order is None:
            fits = [layout for layout in layouts if causal(layout, seen.last, whole)]
        else:
            fits = [layout for layout in layouts if fits_order(foreign, layout, seen)]
        if len(fits) > 1:
            raise GenfastError(ambiguous(foreign, fits))
        if fits or order != "auto":
            return replace(foreign, layout=fits[0] if fits else layouts[0])
    elif order != "auto":
        return replace(foreign, layout=layouts[0])
    if seen is None:
        seen = observe(foreign)
        if causal(layouts[0], seen.last, whole):
            return replace(foreign, layout=layouts[0])
    return in_another_order(foreign, layouts, seen)


def in_another_order(foreign: Foreign, layouts: list[Layout], seen: Seen) -> Foreign:
    """With the layout in which a topological sort finds an order, or with the first one in raster order."""
    fallback = replace(foreign, layout=layouts[0])
    if seen.watched is None or any(isinstance(s, Opaque) and s.mixes_images for s in seen.watched.builder.steps):
        return fallback
    found = []
    for layout in layouts:
        bits = orders.dependencies(seen.watched.program(foreign.target()), cells_of(layout, seen.watched))
        order = orders.find_order(bits, foreign.image_shape, foreign.likelihood.whole_pixels)
        if order is not None:
            found.append(replace(foreign, layout=layout, order=order))
    if len(found) > 1:
        raise GenfastError(ambiguous(foreign, [f.layout for f in found if f.layout is not None]))
    return found[0] if found else fallback


def cells_of(layout: Layout, watched: Watched) -> list[tuple[np.ndarray, np.ndarray]]:
    """The values and positions that hold each sub-pixel's parameters, sub-pixel (c * H + y) * W + x."""
    ids = watched.out.ids[0][layout.places.reshape(len(layout.places), -1)]
    return [(ids[ids[:, i] >= 0, i] >> VALUE_SHIFT, positions_of(ids[ids[:, i] >= 0, i])) for i in range(ids.shape[1])]


def fits_order(foreign: Foreign, layout: Layout, seen: Seen) -> bool:
    """Whether a layout is causal in an order that the user gave; True where that cannot be told."""
    if seen.watched is None or foreign.order is None:
        return True
    bits = orders.dependencies(seen.watched.program(foreign.target()), cells_of(layout, seen.watched))
    return orders.allows(foreign.order, bits, foreign.likelihood.whole_pixels)


def find_layouts(foreign: Foreign) -> list[Layout]:
    """What the output of the module can be. Raises GenfastError if it fits nothing."""
    images = random_images(replace(foreign, order=None).target(), 0)
    with torch.no_grad():
        out = ask(foreign.call, images, *foreign.conditions)
    whole = foreign.likelihood.whole_pixels
    tensors = tensors_of(out)
    if not any(has_images(t, 2) for t in tensors):
        raise GenfastError(f"The network's output holds no floating numbers of the images: it is {shapes(out)}.")
    if foreign.pick is not None:
        layouts = [picked(out, foreign.pick, foreign.image_shape, 2, whole)]
        width = len(layouts[0].places)
        if foreign.width not in (None, width):
            raise GenfastError(
                f"pick gives {width} numbers for a sub-pixel, but {foreign.likelihood.name} with {foreign.levels} "
                f"levels takes {foreign.width}."
            )
    else:
        layouts = layouts_of(tensors, 2, foreign.image_shape, foreign.width, whole)
    if not layouts:
        raise GenfastError(no_layout(foreign, out))
    return layouts


def no_layout(foreign: Foreign, out: Any) -> str:
    channels, height, width = foreign.image_shape
    if foreign.width is None:
        wanted = f"parameters of {height} x {width} pixels"
    else:
        wanted = f"{foreign.width} x {channels} x {height} x {width} numbers of each image"
    count = sum(t.numel() // 2 for t in tensors_of(out) if has_images(t, 2))
    hint = ""
    per_pixel, rest = divmod(count, channels * height * width)
    if foreign.likelihood.name == "categorical" and not rest and per_pixel > 1 and per_pixel != foreign.levels:
        hint = f" (levels={per_pixel} would fit)"
    return (
        f"The output {shapes(out)} is not {wanted}, as {foreign.likelihood.name} with {foreign.levels} levels "
        f"takes{hint}: pass pick=lambda out, y, x, c: ... that gives the parameters of one sub-pixel as [B, width]."
    )


def ambiguous(foreign: Foreign, layouts: Sequence[Layout]) -> str:
    names = " or ".join(dict.fromkeys(layout.name for layout in layouts))
    if len({layout.name for layout in layouts}) < len(layouts):
        names += ", in several of its tensors"
    return (
        f"The output can be read as {names}, and the network is causal either way: say which by "
        "pick=lambda out, y, x, c: ... that gives the parameters of one sub-pixel as [B, width]."
    )


def shapes(out: Any) -> str:
    tensors = tensors_of(out)
    if isinstance(out, Tensor):
        return str(list(out.shape))
    return f"({', '.join(str(list(t.shape)) for t in tensors)})" if tensors else f"a {type(out).__name__}"


def is_model(module: Any) -> bool:
    """Whether a module says itself what its images and its likelihood are."""
    return all(hasattr(module, name) for name in ("likelihood", "image_shape", "levels"))


def make_target(
    module: nn.Module,
    image_shape: Sequence[int] | None = None,
    likelihood: str | Likelihood | Callable[..., Any] = "categorical",
    levels: int | None = None,
    encode: Encode = "unit",
    pick: Pick | None = None,
    condition: Conditions = None,
) -> Target:
    """The target for one of our models, or for any module(x, *conditions), in raster order; see ``accelerate``."""
    if is_model(module):
        return model_target(module, *conditions_of(condition)[0])
    return resolve(describe(module, image_shape, likelihood, levels, encode, pick, condition)).target()
