"""What every likelihood can do."""

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import ClassVar, TypeVar

import torch
from torch import Tensor

from genfast.errors import GenfastError
from genfast.likelihoods.draw import check_draw_options, draw_levels

Number = TypeVar("Number", float, Tensor)
MOST_LEVELS = 1 << 14  # of code maps, as the engines take them (kMaxLevels in kernels/categorical/cpu.h)


def level_dtype(levels: int) -> torch.dtype:
    """The dtype that images of so many levels have: uint8, or int64 where they do not fit."""
    return torch.uint8 if levels <= 256 else torch.int64


def bits_per_dim(nats: Number, image_shape: tuple[int, int, int]) -> Number:
    """Nats per image as bits per sub-pixel: nats / (C * H * W * ln 2). Give it the *negative* log-probability."""
    return nats / (math.prod(image_shape) * math.log(2))


def check_layout(images: Tensor, image_shape: tuple[int, ...]) -> None:
    """Raises GenfastError unless images are a uint8 or int64 tensor of shape [B, *image_shape]."""
    if not isinstance(images, Tensor) or images.dtype not in (torch.uint8, torch.int64):
        found = images.dtype if isinstance(images, Tensor) else type(images).__name__
        raise GenfastError(f"Images must be a tensor of integer levels (torch.uint8 or torch.int64), not {found}.")
    if images.ndim != 1 + len(image_shape) or tuple(images.shape[1:]) != tuple(image_shape):
        expected = ", ".join(str(s) for s in image_shape)
        raise GenfastError(f"Images must have the shape [B, {expected}], not {list(images.shape)}.")


_trusted = ContextVar("_trusted", default=False)


@contextmanager
def trusted() -> Iterator[None]:
    """Within, the values of images and labels are taken to be in range: on a GPU a look at them is a wait for it.

    For training, whose images were checked when they were loaded.
    """
    token = _trusted.set(True)
    try:
        yield
    finally:
        _trusted.reset(token)


def is_trusted() -> bool:
    """Whether values need no check."""
    return _trusted.get()


def check_images(images: Tensor, image_shape: tuple[int, ...], levels: int) -> None:
    """Raises GenfastError unless images are uint8 or int64 levels 0 .. levels - 1 of shape [B, *image_shape].

    Costs a look at every value (and on a GPU a wait for it), except for uint8 images of 256 levels and where
    they are ``trusted``.
    """
    check_layout(images, image_shape)
    if images.numel() == 0 or is_trusted() or (images.dtype == torch.uint8 and levels == 256):
        return
    low, high = (int(v) for v in images.aminmax())
    if low < 0 or high >= levels:
        raise GenfastError(f"Images must hold levels 0 to {levels - 1}, but they hold {low if low < 0 else high}.")


@dataclass(frozen=True)
class Likelihood(ABC):
    """A distribution over the levels of each sub-pixel, given the network's output for it.

    Parameters come out of ``unpack`` with the dimensions [B, ..., C, H, W], so that ``params[..., c, y, x]`` belongs to
    one sub-pixel, whatever the likelihood. All log-probabilities are natural logarithms (nats).
    """

    name: ClassVar[str]
    max_levels: ClassVar[int] = 256
    channels: int
    levels: int

    def __post_init__(self) -> None:
        if self.channels < 1:
            raise GenfastError(f"A likelihood needs at least one channel, not {self.channels}.")
        if not 2 <= self.levels <= self.max_levels:
            raise GenfastError(f"{self.name} images have 2 to {self.max_levels} levels, not {self.levels}.")

    @property
    def uniforms(self) -> int:
        """How many uniforms a pixel takes: one for each sub-pixel."""
        return self.channels

    @property
    def whole_pixels(self) -> bool:
        """Whether the colours of a pixel are drawn together, from parameters that they share."""
        return False

    @property
    @abstractmethod
    def param_channels(self) -> int:
        """How many channels the network's last layer must emit."""

    def check_options(self, temperature: float, top_k: int | None, top_p: float | None) -> None:
        """Raises GenfastError, in one sentence, for options of ``draw`` that mean nothing."""
        check_draw_options(temperature, top_k, top_p)

    @property
    def param_shape(self) -> tuple[int, ...]:
        """The dimensions of one sub-pixel's parameters: the dots of [B, ..., C, H, W]."""
        each = self.param_channels // self.channels
        return () if each == 1 else (each,)

    @abstractmethod
    def unpack(self, out: Tensor) -> Tensor:
        """The network's output [B, param_channels, H, W] as parameters [B, ..., C, H, W]; a view.

        Raises GenfastError for another shape.
        """

    @abstractmethod
    def log_prob_map(self, params: Tensor, images: Tensor) -> Tensor:
        """ln P(image's level) of every sub-pixel, in nats.  # [B, C, H, W], float32 or better, differentiable

        images: uint8 or int64 levels [B, C, H, W]. Raises GenfastError for wrong shapes, dtypes or levels.
        """

    @abstractmethod
    def level_logits(self, params: Tensor) -> Tensor:
        """Unnormalised log-probabilities of all levels: params [B, ..., (rest)] -> [B, levels, (rest)]."""

    def mean(self, params: Tensor) -> Tensor:
        """The expected level, rounded to none: for pictures.  # params [B, ..., (rest)] -> float [B, (rest)]"""
        logits = self.level_logits(params)
        levels = torch.arange(self.levels, device=logits.device, dtype=torch.float32)
        probabilities = logits.to(torch.promote_types(logits.dtype, torch.float32)).softmax(1)
        return torch.einsum("bl...,l->b...", probabilities, levels.to(probabilities))

    def log_prob(self, params: Tensor, images: Tensor) -> Tensor:
        """ln P(image), in nats per image: the sum over all its sub-pixels.  # [B]"""
        return self.log_prob_map(params, images).flatten(1).sum(1)

    def draw(
        self,
        params: Tensor,
        uniforms: Tensor,
        temperature: float = 1.0,
        top_k: int | None = None,
        top_p: float | None = None,
    ) -> Tensor:
        """Levels drawn by inverting the distribution function at the uniforms.  # int64, of the uniforms' shape

        Elementwise over the dimensions after the batch: it takes whole images, or ``params[..., c, y, x]`` with
        uniforms [B]. Temperature 0 is the most probable level; ``draw_levels`` states the rules and the errors.
        """
        return draw_levels(self.level_logits(params), uniforms, temperature, top_k, top_p)

    def _check_out(self, out: Tensor) -> None:
        if out.ndim != 4 or out.shape[1] != self.param_channels:
            raise GenfastError(
                f"The {self.name} likelihood of {self.channels}-channel images with {self.levels} levels unpacks "
                f"[B, {self.param_channels}, H, W], not {list(out.shape)}."
            )

    def _check_pair(self, params_shape: torch.Size, images: Tensor) -> None:
        """Images must be levels and fit parameters of shape [B, C, H, W] (with the levels taken out)."""
        if len(params_shape) != 4 or params_shape[1] != self.channels:
            raise GenfastError(f"The {self.name} likelihood has parameters for {self.channels} channels; see unpack().")
        check_images(images, tuple(params_shape[1:]), self.levels)
        if images.shape[0] != params_shape[0]:
            raise GenfastError(f"There are {params_shape[0]} sets of parameters for {images.shape[0]} images.")
