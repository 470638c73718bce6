"""What somebody need not say of a module: where in its output the parameters are, and in which order it draws.

Both follow from the shape of the output and from what its numbers read, as a traced forward pass shows it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from genfast.compiler import order as orders
from genfast.compiler.builder import Opaque
from genfast.compiler.cells import VALUE_SHIFT, positions_of
from genfast.compiler.compile import Watched, one_thread, random_images, watch
from genfast.compiler.footprint import generation_order, latest, needed
from genfast.compiler.foreign import Conditions, Encode, Foreign, conditions_of, describe, is_model
from genfast.compiler.layout import Layout, Pick, has_images, layouts_of, picked, tensors_of
from genfast.compiler.order import Order
from genfast.compiler.probe import probe
from genfast.compiler.target import Target, ask, model_target
from genfast.errors import GenfastError, NotSupported
from genfast.likelihoods import Likelihood, LogisticMixture


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
    whole = foreign.shared
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
            return foreign.with_layout(fits[0] if fits else layouts[0])
    elif order != "auto":
        return foreign.with_layout(layouts[0])
    if seen is None:
        seen = observe(foreign)
        if causal(layouts[0], seen.last, whole):
            return foreign.with_layout(layouts[0])
    return in_another_order(foreign, layouts, seen)


def in_another_order(foreign: Foreign, layouts: list[Layout], seen: Seen) -> Foreign:
    """With the layout in which a topological sort finds an order, or with the first one in raster order."""
    fallback = foreign.with_layout(layouts[0])
    if seen.watched is None or any(isinstance(s, Opaque) and s.mixes_images for s in seen.watched.builder.steps):
        return fallback
    found = []
    for layout in layouts:
        bits = orders.dependencies(seen.watched.program(foreign.target()), cells_of(layout, seen.watched))
        order = orders.find_order(bits, foreign.image_shape, foreign.shared)
        if order is not None:
            found.append(replace(foreign.with_layout(layout), order=order))
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
    return orders.allows(foreign.order, bits, foreign.shared)


def find_layouts(foreign: Foreign) -> list[Layout]:
    """What the output of the module can be. Raises GenfastError if it fits nothing."""
    images = random_images(replace(foreign, order=None).target(), 0)
    with torch.no_grad():
        out = ask(foreign.call, images, *foreign.conditions)
    tensors = tensors_of(out)
    if not any(has_images(t, 2) for t in tensors):
        raise GenfastError(f"The network's output holds no floating numbers of the images: it is {shapes(out)}.")
    if foreign.pick is not None:
        layouts = [picked(out, foreign.pick, foreign.image_shape, 2, foreign.shared)]
        width = len(layouts[0].places)
        if not fits_width(foreign, width):
            raise GenfastError(
                f"pick gives {width} numbers for a {one_of(foreign)}, but {foreign.likelihood.name} with "
                f"{foreign.levels} levels takes {wanted(foreign)}."
            )
    else:
        layouts = layouts_of(tensors, 2, foreign.image_shape, foreign.width, foreign.shared)
        layouts = [layout for layout in layouts if fits_width(foreign, len(layout.places))]
    if not layouts:
        raise GenfastError(no_layout(foreign, out))
    return layouts


def fits_width(foreign: Foreign, width: int) -> bool:
    """Whether a sub-pixel (or a pixel, where its colours share them) can have so many parameters."""
    likelihood = foreign.likelihood
    if foreign.width is None and isinstance(likelihood, LogisticMixture):
        return width % likelihood.numbers == 0
    return foreign.width in (None, width)


def no_layout(foreign: Foreign, out: Any) -> str:
    channels, height, width = foreign.image_shape
    each = f"{height} x {width}" if foreign.shared else f"{channels} x {height} x {width}"
    count = sum(t.numel() // 2 for t in tensors_of(out) if has_images(t, 2))
    hint = ""
    per_pixel, rest = divmod(count, channels * height * width)
    if foreign.likelihood.name == "categorical" and not rest and per_pixel > 1 and per_pixel != foreign.levels:
        hint = f" (levels={per_pixel} would fit)"
    return (
        f"The output {shapes(out)} is not {wanted(foreign)} x {each} numbers of each image, as "
        f"{foreign.likelihood.name} with {foreign.levels} levels takes{hint}: pass {use_pick(foreign)}."
    )


def wanted(foreign: Foreign) -> str:
    """How many parameters there should be."""
    likelihood = foreign.likelihood
    if foreign.width is None and isinstance(likelihood, LogisticMixture):
        return f"{likelihood.numbers} K"
    return "any" if foreign.width is None else str(foreign.width)


def one_of(foreign: Foreign) -> str:
    """What has parameters of its own."""
    return "pixel" if foreign.shared else "sub-pixel"


def use_pick(foreign: Foreign) -> str:
    arguments = "out, y, x" if foreign.shared else "out, y, x, c"
    return f"pick=lambda {arguments}: ... that gives the parameters of one {one_of(foreign)} as [B, width]"


def ambiguous(foreign: Foreign, layouts: Sequence[Layout]) -> str:
    names = " or ".join(dict.fromkeys(layout.name for layout in layouts))
    if len({layout.name for layout in layouts}) < len(layouts):
        names += ", in several of its tensors"
    return f"The output can be read as {names}, and the network is causal either way: say which by {use_pick(foreign)}."


def shapes(out: Any) -> str:
    tensors = tensors_of(out)
    if isinstance(out, Tensor):
        return str(list(out.shape))
    return f"({', '.join(str(list(t.shape)) for t in tensors)})" if tensors else f"a {type(out).__name__}"


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
