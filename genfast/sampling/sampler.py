"""compile_sampler: one object that samples, completes and scores with a model, by the engine of your choice."""

from collections.abc import Callable

import torch
from torch import Tensor

from genfast.errors import GenfastError
from genfast.likelihoods import check_images
from genfast.sampling import jacobi, naive
from genfast.sampling.task import (
    CausalModel,
    OnRow,
    Stats,
    check_condition,
    check_model,
    device_of,
    evaluating,
    nothing_known,
    prepare,
)

ENGINES = {"naive": naive.complete, "jacobi": jacobi.complete}
AUTO = "jacobi"


def compile_sampler(model: CausalModel, engine: str = "auto") -> "Sampler":
    """A sampler for a causal model.

    engine: "naive" (the loop, one pass per sub-pixel), "jacobi" (the same images by fixed-point iteration), or "auto",
    which is "jacobi" now. ``sampler.engine`` names the one that runs.

    Raises GenfastError for an unknown engine, and for a model that does not say what its images and likelihood are.
    """
    check_model(model)
    if engine != "auto" and engine not in ENGINES:
        raise GenfastError(f"Unknown engine {engine!r}: choose auto, {' or '.join(ENGINES)}.")
    return Sampler(model, AUTO if engine == "auto" else engine)


class Sampler:
    """Samples, completes and scores. Made by ``compile_sampler``.

    engine: the name of the engine that runs.
    stats: what the last ``sample`` or ``complete`` cost: images, forward passes, images through the network.

    Work goes in chunks of ``batch_size`` images, which bounds the memory. The images do not depend on it, except where
    a uniform falls on the edge between two levels to within the rounding of the network's output: a library's matrix
    product may round differently over another batch size.
    """

    def __init__(self, model: CausalModel, engine: str) -> None:
        self.model = model
        self.engine = engine
        self.stats = Stats(engine=engine)

    def __repr__(self) -> str:
        return f"Sampler({type(self.model).__name__}, engine={self.engine!r})"

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
        on_row: OnRow | None = None,
        batch_size: int = 64,
    ) -> Tensor:
        """Draws the images number first .. first + n - 1 of the seed.  # uint8 levels [n, C, H, W]

        temperature, top_k, top_p: see Likelihood.draw. condition: [n, ...], handed to the model.
        on_row: called after each finished row of a chunk with a copy of all n images; what is not drawn yet is zero.

        Raises GenfastError for bad input, before any work.
        """
        images, known = nothing_known(self.model, n)
        return self.complete(
            images, known, seed, first, temperature, top_k, top_p, condition, progress, on_row, batch_size
        )

    def complete(
        self,
        images: Tensor,
        known: Tensor,
        seed: int = 0,
        first: int = 0,
        temperature: float = 1.0,
        top_k: int | None = None,
        top_p: float | None = None,
        condition: Tensor | None = None,
        progress: bool = False,
        on_row: OnRow | None = None,
        batch_size: int = 64,
    ) -> Tensor:
        """Draws the unknown pixels given everything earlier in raster order.  # uint8 levels [n, C, H, W]

        images: levels [n, C, H, W] (uint8 or int64). known: bool [H, W] or [n, 1, H, W]; known pixels come back
        untouched. The rest is as in ``sample``.

        Raises GenfastError for bad input, before any work.
        """
        check_batch_size(batch_size)
        whole = prepare(
            self.model, images, known, seed=seed, first=first, temperature=temperature, top_k=top_k, top_p=top_p,
            condition=condition,
        )  # fmt: skip
        out = whole.images
        self.stats = Stats(engine=self.engine)
        for i in range(0, len(out), batch_size):
            chunk = slice(i, i + batch_size)
            out[chunk] = ENGINES[self.engine](
                self.model,
                out[chunk],
                whole.known[chunk],
                seed=seed,
                first=first + i,
                temperature=temperature,
                top_k=top_k,
                top_p=top_p,
                condition=None if whole.condition is None else whole.condition[chunk],
                progress=progress,
                on_row=None if on_row is None else _show_all(out, chunk, on_row),
                stats=self.stats,
            )
        return out

    def log_prob(self, images: Tensor, condition: Tensor | None = None, batch_size: int = 64) -> Tensor:
        """ln P(image), in nats per image, added up in float64.  # float64 [n], on the model's device

        Raises GenfastError for bad input, before any work, and for a network whose output is NaN.
        """
        likelihood = self.model.likelihood

        def score(params: Tensor, part: Tensor) -> Tensor:
            return likelihood.log_prob_map(params, part).double().flatten(1).sum(1)

        nats = self._forward(images, condition, batch_size, score)
        total = torch.cat([torch.zeros(0, dtype=torch.float64, device=device_of(self.model)), *nats])
        if bool(total.isnan().any()):
            raise GenfastError(
                "The network's output holds NaN: check that the weights are finite and that training did not diverge."
            )
        return total

    def logits(self, images: Tensor, condition: Tensor | None = None, batch_size: int = 64) -> Tensor:
        """The likelihood's parameters for whole images, as the model gives them.  # [n, ..., C, H, W]

        Raises GenfastError for bad input, before any work, and for an empty batch.
        """
        parts = self._forward(images, condition, batch_size, lambda params, part: params)
        if not parts:
            raise GenfastError("There is no image to look at: the batch is empty.")
        return torch.cat(parts)

    def _forward(
        self,
        images: Tensor,
        condition: Tensor | None,
        batch_size: int,
        result: Callable[[Tensor, Tensor], Tensor],
    ) -> list[Tensor]:
        """result(params, images) of every chunk of images, after a check of them all."""
        check_batch_size(batch_size)
        check_images(images, tuple(self.model.image_shape), self.model.levels)
        device = device_of(self.model)
        images = images.to(device)
        if condition is not None:
            condition = check_condition(condition, len(images)).to(device)
        parts = []
        with evaluating(self.model):
            for i in range(0, len(images), batch_size):
                part = images[i : i + batch_size]
                params = self.model(part, condition=None if condition is None else condition[i : i + batch_size])
                parts.append(result(params, part))
        return parts


def check_batch_size(batch_size: int) -> None:
    """Raises GenfastError unless batch_size is a whole number, at least 1."""
    if not isinstance(batch_size, int) or batch_size < 1:
        raise GenfastError(f"The batch size must be a whole number, at least 1, not {batch_size}.")


def _show_all(images: Tensor, chunk: slice, on_row: OnRow) -> OnRow:
    """Puts a chunk's rows into a copy of all the images before they are shown."""

    def show(part: Tensor) -> None:
        everything = images.clone()
        everything[chunk] = part
        on_row(everything)

    return show
