"""accelerate: the front door for image models that somebody else wrote. The module is not changed, only called."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from genfast.compiler.causality import refuse_leaks
from genfast.compiler.compile import trace
from genfast.compiler.foreign import Conditions, Encode, Foreign, describe
from genfast.compiler.layout import Pick
from genfast.compiler.order import Order, given_order, raster
from genfast.compiler.resolve import causal, observe, resolve
from genfast.compiler.target import Condition, Target
from genfast.errors import NotCausal, NotSupported
from genfast.likelihoods import Likelihood
from genfast.sampling.engines import LOOPS, check_options
from genfast.sampling.sampler import Sampler
from genfast.sampling.task import evaluation_mode


def accelerate(
    module: nn.Module,
    image_shape: Sequence[int],
    likelihood: str | Likelihood | Callable[[Tensor, Tensor], Tensor] = "categorical",
    levels: int | None = None,
    encode: Encode = "unit",
    pick: Pick | None = None,
    condition: Conditions = None,
    order: str | Sequence[int] | Tensor = "auto",
    engine: str = "auto",
    threads: int | None = None,
    precision: str = "float32",
) -> "AcceleratedSampler":
    """A sampler for any causal ``module(x, *conditions)``, exact, and checked against the module before it is returned.

    image_shape: (C, H, W). levels: how many values a sub-pixel can take, up to 16384 (256; 2 for bernoulli).
    likelihood: "categorical" (a logit for each level), "bernoulli" (one logit), "logistic_mixture" (that of PixelCNN++,
    in the order of ``genfast.ops.logistic_mixture``: 10 K numbers a pixel, 3 K of one-channel images), a Likelihood, or
    a function ``sample(params, uniforms) -> levels`` that is called once for every pixel of a batch: params [M, K] are
    the numbers that the output has at the pixel, uniforms float64 [M, C] in (0, 1), levels [M, C].
    (``genfast.likelihoods.Drawn`` has more.)
    encode: how levels become the input x [B, C, H, W]: "unit" (0 .. 1), "signed" (-1 .. 1), both in the dtype of the
    weights, "integer" (int64), or a function of the levels (uint8; int64 where there are more than 256).
    pick(out, y, x, c): where the parameters of one sub-pixel are in what the module returns, [B, width]; it may only
    choose, not compute. pick(out, y, x): those of a whole pixel, for a function. Needed only where the layout of the
    output does not follow from its shape and from what its elements read.
    condition: an example of whatever else the module takes: a tensor (labels, one-hot codes, vectors, images), several,
    or a dictionary of those that it takes by keyword; any number of rows. ``sample(n, condition=...)`` takes others.
    order: "raster"; "auto": if the module is not causal in raster order, any order in which it is; or the pixels
    y * W + x in the order in which they are drawn. ``sampler.order`` tells it.
    engine, threads, precision: as in compile_sampler. "auto" takes the loop "jacobi" for modules of which the compiler
    cannot take an operator, and ``sampler.reason`` says which; then causality is not proved, but probed.

    The module stays where it is, in its own mode; it runs in evaluation mode. When its weights change, it is compiled
    again.

    Raises NotCausal, naming the first layer that looks ahead and what it sees; NotSupported, naming operator and layer,
    if an engine was asked for by name; GenfastError, in one sentence, for arguments that do not fit the module.
    """
    check_options(engine, threads, precision)
    foreign = describe(module, image_shape, likelihood, levels, encode, pick, condition)
    wanted: str | Order = order if isinstance(order, str) and order in ("auto", "raster") else given_order(
        foreign.image_shape, order
    )  # fmt: skip
    with evaluation_mode(module), torch.random.fork_rng():
        sampler = first_that_is_causal(foreign, wanted, engine, threads or torch.get_num_threads(), precision)
        if sampler.engine in LOOPS:
            verify(sampler.model.foreign)
    return sampler


def first_that_is_causal(
    foreign: Foreign, order: str | Order, engine: str, threads: int, precision: str
) -> "AcceleratedSampler":
    """In raster order, or, if that is not causal and ``order`` allows it, in one that is found."""

    def make(found: Foreign) -> AcceleratedSampler:
        return AcceleratedSampler(Accelerated(found), engine, threads, None, precision)

    if order != "auto" or engine in LOOPS:
        return make(resolve(foreign, order))
    try:
        return make(resolve(foreign, "raster"))  # nearly always, and compiling it tells
    except NotCausal:
        other = resolve(foreign, "auto")
        if other.order is None:
            raise
        return make(other)


def verify(foreign: Foreign) -> None:
    """For an engine that only calls the module: raises NotCausal if it looks ahead, proved or else probed."""
    try:
        found = trace(foreign.target())
        refuse_leaks(found.program, found.opaque)
        if not found.opaque:
            return
    except NotSupported:
        pass
    if foreign.order is not None or foreign.layout is None:
        return  # probing knows raster order only, and somebody vouches for this one
    if not causal(foreign.layout, observe(foreign).last, foreign.shared):
        raise NotCausal(
            "The network is not causal: some of its outputs change with their own pixel or a later one (seen by "
            "changing pixels, since the compiler cannot follow all of its operators)."
        )


class Accelerated(nn.Module):
    """A foreign module as the samplers know models: levels in, likelihood parameters out.

    original: the module. order: None for raster order, or else images in and out are renamed.
    """

    def __init__(self, foreign: Foreign) -> None:
        super().__init__()
        self.original = foreign.module
        self.foreign = foreign
        self.order = foreign.order
        self.levels = foreign.levels
        self.image_shape = foreign.image_shape
        self.likelihood = foreign.likelihood
        self.condition_names = foreign.names
        self.example_conditions = foreign.conditions
        if foreign.order is not None:
            self.image_shape = foreign.order.renamed
            self.likelihood = replace(foreign.likelihood, channels=self.image_shape[0])

    def forward(self, images: Tensor, condition: Condition = None) -> Tensor:
        given = () if condition is None else condition if isinstance(condition, tuple) else (condition,)
        return self.foreign.forward(images, *given)

    def foreign_target(self, conditions: tuple[Tensor, ...]) -> Target:
        """What the compiler takes: the module itself, whose layers are then named as it names them."""
        return self.foreign.target(conditions)

    def load_state_dict(self, state: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """That of the module."""
        return self.original.load_state_dict(state, strict, assign)


class AcceleratedSampler(Sampler):
    """A Sampler whose model is somebody else's. module: theirs. order: in which their pixels are drawn.

    Everything is as in Sampler. In another order than raster, known pixels are seen by those that are drawn after them;
    the rows of ``stream`` come as soon as they are whole, and ``on_row`` shows what is drawn by then.
    """

    model: Accelerated

    @property
    def module(self) -> nn.Module:
        return self.model.original

    @property
    def order(self) -> Order:
        return self.model.order or raster(self.model.foreign.image_shape)

    def __repr__(self) -> str:
        order = "" if self.model.order is None else f", order={self.order}"
        return f"AcceleratedSampler({type(self.module).__name__}, engine={self.engine!r}{order})"
