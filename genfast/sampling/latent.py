"""Sampling with a latent variable: z from the prior, then every pixel at once."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, special
from tqdm import tqdm

from genfast.errors import GenfastError
from genfast.models import Model, PriorPainter
from genfast.sampling.noise import check_seed, uniforms
from genfast.sampling.task import Stats, check_condition, device_of, evaluating

Z_WORD = 1  # the stream of uniforms that z is made of; word 0 draws the pixels, as in every sampler
MOST = 2**24  # log-probabilities of levels in one batch: 128 MB in float64


def normals(seed: int, first: int, n: int, latent: int) -> Tensor:
    """z of the images first .. first + n - 1, from N(0, 1): a function of seed and number.  # float64 [n, latent]"""
    return special.ndtri(uniforms(seed, first, n, (latent, 1, 1), Z_WORD)[:, :, 0, 0])


class LatentSampler:
    """Draws from a VAE or a GAN: z from the prior N(0, 1), then the image of z, with the pixels' own noise if any.

    Image k of a seed is the same alone or in any batch, up to uniforms that fall on the edge between two levels within
    the rounding of the network. stats: what the last call cost.
    """

    engine = "latent"
    reason = ""

    def __init__(self, model: Model) -> None:
        if not isinstance(model, PriorPainter):
            raise GenfastError(
                f"A {type(model).__name__} has no prior to draw a latent variable from: give a vae or a gan."
            )
        self.model: Any = model
        self.stats = Stats(engine=self.engine)

    def sample(
        self,
        n: int,
        seed: int = 0,
        first: int = 0,
        temperature: float = 1.0,
        top_k: int | None = None,
        top_p: float | None = None,
        condition: Tensor | None = None,
        progress: bool = False,
        batch_size: int | None = None,
    ) -> Tensor:
        """Draws the images number first .. first + n - 1 of the seed.  # uint8 levels [n, C, H, W]

        temperature, top_k, top_p: of the pixels given z; see Likelihood.draw. condition: labels [n].
        Raises GenfastError for bad input.
        """

        def draw(z: Tensor, start: int, given: Tensor | None) -> Tensor:
            shape = self.model.image_shape
            return self.model.draw(
                z, lambda: uniforms(seed, first + start, len(z), shape), given, temperature, top_k, top_p
            )

        return self._batches(draw, n, seed, first, condition, progress, batch_size)

    def expected(
        self,
        n: int,
        seed: int = 0,
        first: int = 0,
        condition: Tensor | None = None,
        progress: bool = False,
        batch_size: int | None = None,
    ) -> Tensor:
        """The mean image given the same z, without the pixels' own noise.  # float levels [n, C, H, W]"""
        model = self.model
        return self._batches(
            lambda z, start, given: model.expected(z, given), n, seed, first, condition, progress, batch_size
        )

    def _batches(
        self,
        paint: Callable[[Tensor, int, Tensor | None], Tensor],
        n: int,
        seed: int,
        first: int,
        condition: Tensor | None,
        progress: bool,
        batch_size: int | None,
    ) -> Tensor:
        """paint(z, how many images came before, their labels) for every batch of z."""
        if not isinstance(n, int) or isinstance(n, bool) or n < 1:
            raise GenfastError(f"The number of images to sample must be a whole number, at least 1, not {n}.")
        size = batch_size
        if size is None:
            size = max(1, min(n, MOST // (math.prod(self.model.image_shape) * self.model.levels)))
        if not isinstance(size, int) or size < 1:
            raise GenfastError(f"The batch size must be a whole number, at least 1, not {batch_size}.")
        check_seed(seed, first, n)
        device, dtype = device_of(self.model), next(self.model.parameters()).dtype
        if condition is not None:
            condition = check_condition(condition, n).to(device)
        self.stats = Stats(engine=self.engine, images=n)
        parts = []
        with evaluating(self.model):
            for start in tqdm(range(0, n, size), desc="sample", disable=not progress):
                count = min(size, n - start)
                z = normals(seed, first + start, count, self.model.latent).to(device, dtype)
                parts.append(paint(z, start, None if condition is None else condition[start : start + count]))
                self.stats.count(count)
        return torch.cat(parts)
