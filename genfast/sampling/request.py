"""A request as the incremental engines take it: checked, on their device, and written in place."""

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor


@dataclass
class Request:
    """images: levels [n, C, H, W] (uint8, or int64), read where known and written elsewhere. known: bool [n, H * W].

    uniforms: float64 [n, U, H, W], U the channels, or as many as the likelihood takes. conditions: [n, ...] each.
    log_probs: float64 [n, C, H * W] or None, filled with ln P of each sub-pixel, known ones too, in nats (without
    temperature, top_k and top_p). params: [n, C, H * W, width] or None, filled with the likelihood's parameters.
    """

    images: Tensor
    known: Tensor
    uniforms: Tensor
    conditions: tuple[Tensor, ...] = ()
    temperature: float = 1.0
    top_k: int | None = None
    top_p: float | None = None
    log_probs: Tensor | None = None
    params: Tensor | None = None


class Run(Protocol):
    """A batch on its way."""

    def until_row(self, row: int) -> None:
        """Draws every sub-pixel of rows 0 .. row."""


class Engine(Protocol):
    """Something that carries out a Plan."""

    def start(self, request: Request) -> Run: ...
