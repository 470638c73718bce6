"""What every engine starts from: a model it can sample, and a request that has been checked."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Protocol, TypedDict

import torch
from torch import Tensor, nn
from tqdm import tqdm

from genfast.compiler.order import Order
from genfast.compiler.target import check_description, device_of
from genfast.errors import GenfastError
from genfast.likelihoods import Likelihood, check_images, check_layout, level_dtype
from genfast.models import ImageModel, Model, PriorPainter
from genfast.sampling import noise


class CausalModel(Protocol):
    """Any nn.Module that maps levels to likelihood parameters, each of which reads only earlier sub-pixels.

    "Earlier" is raster order (rows from the top, pixels from the left), and R before G before B within a pixel.
    ``model(images, condition=None)`` takes levels [B, C, H, W], uint8 (int64 where there are more than 256), and gives
    ``likelihood.unpack``'s parameters. condition: a tensor, or a tuple of several, with a row for each image.
    """

    @property
    def likelihood(self) -> Likelihood: ...
    @property
    def image_shape(self) -> tuple[int, int, int]: ...
    @property
    def levels(self) -> int: ...

    def __call__(self, images: Tensor, condition: Any = None) -> Tensor: ...
    def eval(self) -> Any: ...
    def modules(self) -> Iterator[nn.Module]: ...
    def parameters(self) -> Iterable[Tensor]: ...


Given = Tensor | Sequence[Tensor] | Mapping[str, Tensor] | None  # a condition, as users give it
OnRow = Callable[[Tensor], None]


class Options(TypedDict, total=False):
    """The keywords that every engine takes; ``prepare`` checks them, and naive.complete tells what they mean."""

    seed: int
    first: int
    temperature: float
    top_k: int | None
    top_p: float | None
    condition: Given
    progress: bool
    on_row: OnRow | None
    stats: "Stats | None"


@dataclass
class Stats:
    """What the last call cost. The loops count passes; the incremental engines, which make none, count steps."""

    engine: str = ""
    images: int = 0
    passes: int = 0
    """Forward passes of the network."""
    image_passes: int = 0
    """Images that went through the network, added up over the passes."""
    steps: int = 0
    """Kernel launches."""
    cells: int = 0
    """Numbers computed and kept, over all images: each once."""
    flops: int = 0
    """Multiplications and additions in matrix products, over all images."""
    cache_bytes: int = 0
    """Memory of the activations that later steps read, for the largest batch."""

    def __str__(self) -> str:
        if self.passes:
            return f"{self.engine} engine, {self.passes} forward passes"
        gflop = self.flops / max(self.images, 1) / 1e9
        return f"{self.engine} engine, {gflop:.3g} GFLOP per image in {self.steps} steps"

    def count(self, batch: int) -> None:
        self.passes += 1
        self.image_passes += batch


@dataclass(frozen=True)
class Task:
    """A checked request: complete ``images`` where they are not ``known``.

    images: levels [n, C, H, W] on the model's device, zero where unknown; the engine's own copy, written in place.
    known: bool [n, 1, H, W].  conditions: [n, ...] each, on the model's device.
    """

    model: CausalModel
    images: Tensor
    known: Tensor
    conditions: tuple[Tensor, ...]
    seed: int
    first: int
    temperature: float
    top_k: int | None
    top_p: float | None
    progress: bool
    on_row: OnRow | None
    stats: Stats

    @property
    def watched(self) -> bool:
        """Whether anybody looks before the last row is finished."""
        return self.progress or self.on_row is not None

    def part(self, begin: int, end: int, on_row: OnRow | None) -> "Task":
        """The images begin .. end - 1 of this request, as views."""
        chunk = slice(begin, end)
        conditions = tuple(c[chunk] for c in self.conditions)
        return replace(
            self, images=self.images[chunk], known=self.known[chunk], conditions=conditions,
            first=self.first + begin, on_row=on_row,
        )  # fmt: skip

    def uniforms(self) -> Tensor:
        """The uniforms of every pixel, one for each sub-pixel or as many as its likelihood takes.  # [n, U, H, W]

        float64. A pixel has its own, whatever the order of generation."""
        n, order = self.images.shape[0], order_of(self.model)
        shape = shape_of(self.model)
        many = self.model.likelihood.uniforms if order is None or order.pixels is not None else shape[0]
        values = noise.uniforms(self.seed, self.first, n, (many, shape[1], shape[2]))
        return (values if order is None else order.into(values)).to(self.images.device)

    def bar(self) -> tqdm:
        """A progress bar on stderr that counts the sub-pixels that are done in every image."""
        n = self.images.shape[0]
        total, title = self.images[0].numel(), f"images {self.first} to {self.first + n - 1}"
        return tqdm(total=total, desc=title, unit=" sub-pixels", disable=not self.progress)

    def draw(self, params: Tensor, uniforms: Tensor) -> Tensor:
        """As Likelihood.draw, with this request's temperature, top_k and top_p.  # of the images' dtype"""
        levels = self.model.likelihood.draw(params, uniforms, self.temperature, self.top_k, self.top_p)
        return levels.to(self.images.dtype)


Rows = Callable[[Task], Iterator[int]]  # an engine: fills task.images, and yields y once rows 0 .. y are finished


def finish(task: Task, rows: Rows) -> Tensor:
    """Runs an engine to the end, with a call of ``on_row`` after each row.  # levels [n, C, H, W]"""
    start = task.images.clone() if task.on_row is not None else task.images
    for y in rows(task):
        if task.on_row is not None:
            task.on_row(torch.cat([task.images[:, :, : y + 1], start[:, :, y + 1 :]], dim=2))
    return task.images


def prepare(
    model: CausalModel,
    images: Tensor,
    known: Tensor,
    *,
    seed: int = 0,
    first: int = 0,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    condition: Given = None,
    progress: bool = False,
    on_row: OnRow | None = None,
    stats: Stats | None = None,
) -> Task:
    """Checks everything about a request before any work; raises GenfastError with one sentence."""
    check_model(model)
    shape, device, order = shape_of(model), device_of(model), order_of(model)
    _, height, width = shape
    check_layout(images, shape)
    if images.shape[0] == 0:
        raise GenfastError("There is no image to complete: the batch is empty.")
    n = images.shape[0]
    if not isinstance(known, Tensor) or known.dtype != torch.bool:
        found = known.dtype if isinstance(known, Tensor) else type(known).__name__
        raise GenfastError(f"The mask of known pixels must be a tensor of booleans (True where known), not {found}.")
    if tuple(known.shape) not in {(height, width), (n, 1, height, width), (1, 1, height, width)}:
        raise GenfastError(
            f"The mask of known pixels must have the shape [{height}, {width}] or [{n}, 1, {height}, {width}], "
            f"not {list(known.shape)}."
        )
    known = known.to(device).expand(n, 1, height, width)
    images = images.to(device).where(known, 0)  # before the check of the levels: an unknown pixel may hold anything
    check_images(images, shape, model.levels)
    noise.check_seed(seed, first, n)
    model.likelihood.check_options(temperature, top_k, top_p)
    conditions = tuple(c.to(device) for c in check_conditions(model, condition, n))
    stats = stats or Stats()
    stats.images += n
    if order is not None:
        images, known = order.into(images), order.known(known)
        on_row = None if on_row is None else _shown_in_place(model, on_row)
    start = images.to(level_dtype(model.levels), copy=True)
    return Task(
        model, start, known, conditions, int(seed), int(first), temperature, top_k, top_p, progress, on_row, stats
    )


def nothing_known(model: CausalModel, n: int) -> tuple[Tensor, Tensor]:
    """Images and a mask of known pixels with which completing is sampling.  # [n, C, H, W], [H, W]"""
    check_model(model)
    if not isinstance(n, int) or isinstance(n, bool) or n < 1:
        raise GenfastError(f"The number of images to sample must be a whole number, at least 1, not {n}.")
    device = device_of(model)
    shape = shape_of(model)
    images = torch.zeros(n, *shape, dtype=level_dtype(model.levels), device=device)
    return images, torch.zeros(shape[1:], dtype=torch.bool, device=device)


def check_model(model: CausalModel) -> None:
    """Raises GenfastError unless the model says what its images and its likelihood are."""
    if isinstance(model, Model) and not isinstance(model, ImageModel):
        raise GenfastError(
            f"A {type(model).__name__} does not draw images pixel by pixel, so there is nothing to compile"
            f"{': genfast.sampling.LatentSampler draws from it' if isinstance(model, PriorPainter) else ''}."
        )
    missing = [a for a in ("likelihood", "image_shape", "levels") if not hasattr(model, a)]
    if missing or not isinstance(model, nn.Module):
        raise GenfastError(
            f"A {type(model).__name__} cannot be sampled: it must be an nn.Module with the attributes likelihood, "
            f"image_shape and levels{' (missing: ' + ', '.join(missing) + ')' if missing else ''}."
        )
    check_description(model)


def check_conditions(model: CausalModel, condition: Given, n: int) -> tuple[Tensor, ...]:
    """The tensors of a condition. Raises GenfastError unless each has one row for each of n images."""
    return tuple(check_condition(c, n) for c in tensors_of(model, condition))


def tensors_of(model: CausalModel, condition: Given) -> tuple[Any, ...]:
    """The tensors of a condition, in the order in which the model takes them.

    Raises GenfastError where a model that takes them by name is given others.
    """
    names = getattr(model, "condition_names", ())
    if condition is None:
        return ()
    if isinstance(condition, Mapping):
        if set(condition) != set(names) or not names:
            wanted = f"conditions named {', '.join(names)}" if names else "its condition without a name"
            raise GenfastError(f"The model takes {wanted}, not {', '.join(map(str, condition)) or 'none'}.")
        return tuple(condition[name] for name in names)
    if isinstance(condition, tuple | list):
        return tuple(condition)
    return (condition,)


def order_of(model: CausalModel) -> Order | None:
    """The order in which a model generates, if that is not raster order: then its images are renamed (see Order)."""
    order: Order | None = getattr(model, "order", None)
    return order


def shape_of(model: CausalModel) -> tuple[int, int, int]:
    """The shape of the images that users see."""
    order = order_of(model)
    channels, height, width = model.image_shape if order is None else order.shape
    return channels, height, width


def in_place(model: CausalModel, numbers: Tensor) -> Tensor:
    """Numbers of sub-pixels [n, ..., C, H, W] as users see them, from where a model that renames them has them."""
    order = order_of(model)
    return numbers if order is None else order.back(numbers)


def _shown_in_place(model: CausalModel, on_row: OnRow) -> OnRow:
    return lambda images: on_row(in_place(model, images))


def check_condition(condition: Tensor, n: int) -> Tensor:
    """Raises GenfastError unless there is one condition for each of n images."""
    if not isinstance(condition, Tensor):
        raise GenfastError(f"The condition must be a tensor with one row per image, not {type(condition).__name__}.")
    if condition.layout != torch.strided:
        raise GenfastError(f"The condition must be a dense tensor, not {condition.layout}: use condition.to_dense().")
    if condition.ndim == 0 or condition.shape[0] != n:
        rows = condition.shape[0] if condition.ndim else "no"
        raise GenfastError(f"The condition has {rows} rows for {n} images: give one row per image.")
    return condition


@contextmanager
def evaluating(model: CausalModel | nn.Module) -> Iterator[None]:
    """Evaluation mode without autograd."""
    with evaluation_mode(model), torch.inference_mode():
        yield


@contextmanager
def evaluation_mode(model: CausalModel | nn.Module) -> Iterator[None]:
    """model.eval() for a while; every submodule's training flag is put back afterwards, come what may."""
    flags = [(module, module.training) for module in model.modules()]
    try:
        model.eval()
        yield
    finally:
        for module, training in flags:
            module.training = training
