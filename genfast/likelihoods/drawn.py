"""A distribution that is known only by how it is drawn from: somebody's own function."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from genfast.errors import GenfastError
from genfast.likelihoods.base import MOST_LEVELS, Likelihood

Sample = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Drawn(Likelihood):
    """sample(params, uniforms) -> levels, for any number M of pixels (or sub-pixels) at a time.

    whole_pixels: params [M, K] are all that the network says about a pixel, uniforms are float64 [M, U] in (0, 1), and
    the levels are [M, C], whole numbers 0 .. levels - 1: the colours are drawn together, so the network must read none
    of the pixel's own. Otherwise sub-pixels are drawn one by one: params [M, K], uniforms [M], levels [M].
    uniforms_per_pixel: U, as many as the function needs (default: one per channel); each is independent of the others.
    score(params, levels) -> ln P of each pixel (or sub-pixel), [M], nats: needed by ``log_prob`` only.
    width: K, if that is known.

    The function must treat each row by itself, and depend on nothing but its arguments: then all engines draw the same
    images. Temperature, top_k and top_p are the function's own affair, and are refused.
    """

    name: ClassVar[str] = "function"
    max_levels: ClassVar[int] = MOST_LEVELS
    sample: Sample
    whole_pixels: bool = True
    uniforms_per_pixel: int | None = None
    score: Sample | None = None
    width: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if not callable(self.sample):
            raise GenfastError(f"A likelihood must be a function sample(params, uniforms), not {self.sample!r}.")
        many = self.uniforms_per_pixel
        if many is not None and (not self.whole_pixels or not isinstance(many, int) or many < 1):
            raise GenfastError(f"uniforms_per_pixel must be a whole number for whole pixels, at least 1, not {many!r}.")

    @property
    def uniforms(self) -> int:
        return self.uniforms_per_pixel or self.channels

    @property
    def param_channels(self) -> int:
        raise GenfastError("What a function draws from is known to the network and the function alone.")

    @property
    def param_shape(self) -> tuple[int, ...]:
        return (-1,)  # [B, K, C, H, W], whatever K is

    def unpack(self, out: Tensor) -> Tensor:
        """[B, K, H, W] -> [B, K, C, H, W], the same for every colour of a whole pixel."""
        if out.ndim != 4 or not self.whole_pixels:
            raise GenfastError(f"The parameters of whole pixels are [B, K, H, W], not {list(out.shape)}.")
        return out[:, :, None].expand(-1, -1, self.channels, -1, -1)

    def check_options(self, temperature: float, top_k: int | None, top_p: float | None) -> None:
        super().check_options(temperature, top_k, top_p)
        if temperature != 1 or top_k is not None or top_p not in (None, 1):
            raise GenfastError(
                "The likelihood is a function that draws for itself: temperature, top_k and top_p belong inside it."
            )

    def draw(
        self,
        params: Tensor,
        uniforms: Tensor,
        temperature: float = 1.0,
        top_k: int | None = None,
        top_p: float | None = None,
    ) -> Tensor:
        """What the function gives, checked.  # params [B, K, C, ...] (or [B, K, ...]), uniforms [B, U, ...] -> int64

        Raises GenfastError for a temperature, top_k or top_p, and for results that are no levels.
        """
        self.check_options(temperature, top_k, top_p)
        shape = uniforms.shape[:1] + uniforms.shape[2:] if self.whole_pixels else uniforms.shape
        levels = self.rows(self._parts(params), self._flat(uniforms, self.whole_pixels))
        if not self.whole_pixels:
            return levels.reshape(shape)
        return levels.reshape(*shape, self.channels).movedim(-1, 1)

    def rows(self, params: Tensor, uniforms: Tensor) -> Tensor:
        """The function called once, and its result checked.  # int64 [M, C] or [M]"""
        wanted = (len(params), self.channels) if self.whole_pixels else (len(params),)
        if bool(params.isnan().any()):
            raise GenfastError(
                "The network's output holds NaN: check that the weights are finite and that training did not diverge."
            )
        try:
            levels = self.sample(params, uniforms)
        except GenfastError:
            raise
        except Exception as error:
            raise GenfastError(
                f"The likelihood's function fails on params {list(params.shape)} and uniforms {list(uniforms.shape)}: "
                f"{type(error).__name__}: {error}"
            ) from error
        if not isinstance(levels, Tensor) or levels.numel() != params.new_empty(wanted).numel():
            found = list(levels.shape) if isinstance(levels, Tensor) else type(levels).__name__
            raise GenfastError(f"The likelihood's function must give levels {list(wanted)}, not {found}.")
        whole = levels if not levels.is_floating_point() else levels.round()
        if levels.is_floating_point() and not bool((whole == levels).all()):
            raise GenfastError("The likelihood's function must give whole levels, but some are not whole (or NaN).")
        low, high = (int(v) for v in whole.aminmax())
        if low < 0 or high >= self.levels:
            raise GenfastError(
                f"The likelihood's function must give levels 0 to {self.levels - 1}, but it gave "
                f"{low if low < 0 else high}."
            )
        return whole.to(torch.int64).reshape(wanted)

    def log_prob_map(self, params: Tensor, images: Tensor) -> Tensor:
        """``score`` of every pixel: of a whole pixel at its first colour, and 0 at the others.  # [B, C, H, W]

        Raises GenfastError if there is no ``score``.
        """
        if self.score is None:
            raise GenfastError(
                "The likelihood is a function that only draws: for log-probabilities, give "
                "likelihood=genfast.likelihoods.Drawn(..., score=...)."
            )
        nats = self.score(self._parts(params), self._flat(images, self.whole_pixels))
        if not self.whole_pixels:
            return nats.reshape(images.shape)
        out = nats.new_zeros(images.shape)
        out[:, 0] = nats.reshape(images[:, 0].shape)
        return out

    def level_logits(self, params: Tensor) -> Tensor:
        raise GenfastError("A likelihood that is a function has no logits of levels.")

    def _parts(self, params: Tensor) -> Tensor:
        """[B, K, C, ...] of whole pixels, which are the same for every colour, or [B, K, ...] -> [M, K]"""
        return self._flat(params[:, :, 0] if self.whole_pixels else params, True)

    @staticmethod
    def by(likelihood: Likelihood) -> "Drawn":
        """Another likelihood as a function: for engines that cannot draw from it themselves."""

        def score(params: Tensor, levels: Tensor) -> Tensor:
            logits = likelihood.level_logits(params).double()
            return logits.log_softmax(1).gather(1, levels.long()[:, None])[:, 0]

        width = likelihood.param_channels // likelihood.channels
        parts = (likelihood.channels, likelihood.levels, likelihood.draw)
        return Drawn(*parts, whole_pixels=False, score=score, width=width)

    @staticmethod
    def _flat(x: Tensor, wide: bool) -> Tensor:
        """[B, K, ...] -> [M, K], or [B, ...] -> [M]"""
        return (
            x.flatten(2).transpose(1, 2).reshape(-1, x.shape[1]) if wide and x.ndim > 2 else x if wide else x.flatten()
        )
