"""What every model shares, and what every autoregressive one adds: integer levels in, likelihood parameters out."""

from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genfast.errors import GenfastError
from genfast.likelihoods import Likelihood, bits_per_dim, check_images, is_trusted, make_likelihood

LikelihoodName = Literal["auto", "bernoulli", "categorical"]


@dataclass(frozen=True)
class ImageConfig:
    """Which images a model is for. Raises GenfastError, in one sentence, for a value that makes no model."""

    image_shape: tuple[int, int, int]
    """Channels, height and width of an image, for example 1 28 28."""
    levels: int = 256
    """Number of values a pixel can take: 2 for binary images, 256 for 8-bit ones."""

    def __post_init__(self) -> None:
        shape = self.image_shape
        if not isinstance(shape, tuple | list) or len(shape) != 3 or not all(is_int(n) and n >= 1 for n in shape):
            raise GenfastError(f"image_shape must be three positive integers (channels, height, width), not {shape!r}.")
        object.__setattr__(self, "image_shape", tuple(shape))
        check_int("levels", self.levels, 2, 256)


@dataclass(frozen=True)
class ModelConfig(ImageConfig):
    """The fields that every autoregressive model has."""

    likelihood: LikelihoodName = field(default="auto", kw_only=True)
    """Distribution of a sub-pixel; auto is bernoulli for 2 levels and categorical otherwise."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.likelihood not in ("auto", "bernoulli", "categorical"):
            raise GenfastError(f"likelihood must be auto, bernoulli or categorical, not {self.likelihood!r}.")
        if self.likelihood == "bernoulli" and self.levels != 2:
            raise GenfastError(f"A bernoulli likelihood needs levels = 2, not {self.levels}: use categorical.")


def is_int(value: object) -> bool:
    """True for an integer that is not a bool (JSON keeps the two apart, and so do we)."""
    return isinstance(value, int) and not isinstance(value, bool)


def check_int(name: str, value: object, low: int, high: int | None = None) -> None:
    """Raises GenfastError unless value is an integer in low..high."""
    if not isinstance(value, int) or isinstance(value, bool) or value < low or (high is not None and value > high):
        wanted = f"an integer of at least {low}" if high is None else f"an integer from {low} to {high}"
        raise GenfastError(f"{name} must be {wanted}, not {value!r}.")


def check_condition(num_classes: int | None, condition_dim: int | None) -> None:
    """Raises GenfastError unless a model has a number of classes, a width of vectors, or neither."""
    if num_classes is not None:
        check_int("num_classes", num_classes, 1)
    if condition_dim is not None:
        check_int("condition_dim", condition_dim, 1)
    if num_classes is not None and condition_dim is not None:
        raise GenfastError("Set num_classes or condition_dim, not both: a model has one condition.")


def check_dropout(dropout: float) -> None:
    """Raises GenfastError unless dropout is a share below 1."""
    if not isinstance(dropout, int | float) or not 0 <= dropout < 1:
        raise GenfastError(f"dropout must be 0 or more and below 1, not {dropout!r}.")


def check_kernel(name: str, value: object, low: int = 1) -> None:
    """Raises GenfastError unless value is an odd integer of at least low."""
    check_int(name, value, low)
    if isinstance(value, int) and value % 2 == 0:
        raise GenfastError(f"{name} must be odd, so that a convolution keeps the image size, not {value}.")


def channels_last(x: Tensor) -> Tensor:
    """x laid out pixel by pixel, as the convolutions like it; no copy if it already is.

    Layers keep the layout of their input, but a one-channel image has both layouts, so the layers that read images ask.
    """
    return x.contiguous(memory_format=torch.channels_last)


class Model(nn.Module):
    """What the training loop, the evaluation and the command line ask of every model, whatever its family.

    A family writes ``training_loss`` and ``score``; the loop, its checkpoints, averages and run folders are the same
    for all. One whose parts learn in turns, each with a loss of its own, names them in ``players`` and writes
    ``turn_loss`` instead of ``training_loss``. Parameters whose ``requires_grad`` is False stay as they are.

    num_classes: the model reads labels, as its condition or as what it predicts; condition_dim: it reads a float vector
    as its condition. At most one of the two.
    """

    criterion: ClassVar[str | None] = "nats"
    """Name of the score that the model is judged by; see genfast.training.metrics for what the names mean. None for a
    model that cannot be scored by held-out images: its ``score`` says why."""
    players: ClassVar[tuple[str, ...]] = ("",)
    """Submodules that learn in turns, each with its own optimizer; "" is the whole model, which learns as one."""
    curves: ClassVar[tuple[tuple[str, ...], ...]] = ()
    """Logged scores to plot, panel by panel; none stands for the criterion."""

    def __init__(self, config: ImageConfig, num_classes: int | None = None, condition_dim: int | None = None) -> None:
        super().__init__()
        self.config = config
        self.image_shape = config.image_shape
        self.levels = config.levels
        self.num_classes = num_classes
        self.condition_dim = condition_dim

    def training_loss(self, images: Tensor, labels: Tensor | None, step: int) -> tuple[Tensor, dict[str, Tensor]]:
        """What to minimise, for each image, and what to log, by name.  # [B], {name: [B]}

        images: levels [B, C, H, W]; labels: int64 [B] where num_classes is set. step: optimizer steps taken so far, for
        schedules. Random draws come from PyTorch's global generator, which the loop seeds for every step.
        """
        raise NotImplementedError

    def turns(self, step: int) -> tuple[str, ...]:
        """The players that learn in this step, one after the other."""
        return self.players

    def turn_loss(
        self, turn: str, images: Tensor, labels: Tensor | None, step: int
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """What this player minimises, and what to log; for a model that learns as one, the training loss."""
        return self.training_loss(images, labels, step)

    def initialize(self, images: Tensor, labels: Tensor | None = None) -> None:
        """Sets what initial weights owe to data, once, before the first step; in most families nothing.

        images: levels [B, C, H, W] to be trained on; labels: int64 [B] where num_classes is set.
        """

    def score(
        self, images: Tensor, labels: Tensor | None = None, numbers: Tensor | None = None, samples: int = 1
    ) -> dict[str, Tensor]:
        """Held-out scores of each image, by name: [B] to be averaged, [B, D] for ``summary``.

        numbers: int64 [B], the images' numbers in their set (default: 0 to B-1): a random draw is keyed by them, so
        that an image's score depends on neither its batch nor its process. samples: draws for each image, where the
        score is a Monte Carlo estimate; other models have no use for it.
        """
        raise NotImplementedError

    def summary(self, scores: dict[str, np.ndarray]) -> dict[str, Any]:
        """What the scores of a whole set say together that no mean over images does, as JSON values."""
        return {}

    def scale(self, images: Tensor) -> Tensor:
        """Levels as a network reads them: 0 .. levels-1 mapped evenly to -1 .. 1.  # [B, C, H, W]

        The result has the parameters' dtype. Raises GenfastError for a wrong shape or dtype, an empty batch, or a level
        out of range (dtype and range are not checked inside torch.compile, where that would cost a graph break).
        """
        if images.ndim != 4 or tuple(images.shape[1:]) != self.image_shape:
            wanted = ", ".join(str(n) for n in self.image_shape)
            raise GenfastError(f"This model takes images of shape [B, {wanted}], not {list(images.shape)}.")
        if images.shape[0] == 0:
            raise GenfastError("The batch of images is empty; give at least one image.")
        encoded = images.is_floating_point()
        if not encoded and not torch.compiler.is_compiling():
            check_images(images, self.image_shape, self.levels)
        x = channels_last(images.to(next(self.parameters()).dtype))
        return x if encoded else x * (2 / (self.levels - 1)) - 1

    def encode_condition(self, condition: Tensor | None, x: Tensor) -> Tensor | None:
        """The condition as vectors in the dtype of x, labels one-hot, or None.  # [B, D]

        Raises GenfastError for a condition that is missing, unwanted, of the wrong shape or dtype, or out of range.
        """
        batch = x.shape[0]
        if self.num_classes is None and self.condition_dim is None:
            if condition is not None:
                raise GenfastError("This model is unconditional: leave the condition out.")
            return None
        if self.num_classes is not None:
            if condition is None:
                raise GenfastError(f"This model needs a condition: a label 0 to {self.num_classes - 1} for each image.")
            if condition.is_floating_point() or condition.dtype == torch.bool or condition.shape != (batch,):
                raise GenfastError(
                    f"The condition must be {batch} integer labels, one per image, "
                    f"not {condition.dtype} of shape {list(condition.shape)}."
                )
            if not torch.compiler.is_compiling() and not is_trusted():
                low, high = (int(label) for label in condition.aminmax())
                if low < 0 or high >= self.num_classes:
                    raise GenfastError(f"Labels must be 0 to {self.num_classes - 1}, but these are {low} to {high}.")
            return F.one_hot(condition.long(), self.num_classes).to(x)
        if condition is None:
            raise GenfastError(f"This model needs a condition: a vector of {self.condition_dim} floats for each image.")
        if not condition.is_floating_point() or condition.shape != (batch, self.condition_dim):
            raise GenfastError(
                f"The condition must be floats of shape [{batch}, {self.condition_dim}], "
                f"not {condition.dtype} of shape {list(condition.shape)}."
            )
        if not torch.compiler.is_compiling() and not is_trusted() and not condition.isfinite().all():
            raise GenfastError("The condition holds NaN or infinite values.")
        return condition.to(x)


class ImageModel(Model):
    """A causal network and the likelihood it feeds: p(image) = product over sub-pixels of p(sub-pixel | earlier ones).

    The likelihood is the one that the config names, unless the model brings its own.

    Sub-pixels are ordered by row, then column, then colour (R before G before B). A model of its own kind writes only
    ``network``: encoded images [B, C, H, W] and a condition [B, D] (or None) -> [B, likelihood.param_channels, H, W].
    """

    def __init__(
        self,
        config: ImageConfig,
        num_classes: int | None = None,
        condition_dim: int | None = None,
        likelihood: Likelihood | None = None,
    ) -> None:
        super().__init__(config, num_classes, condition_dim)
        if likelihood is None:
            assert isinstance(config, ModelConfig)  # which names one
            name = config.likelihood
            if name == "auto":
                name = "bernoulli" if config.levels == 2 else "categorical"
            likelihood = make_likelihood(name, config.image_shape[0], config.levels)
        self.likelihood = likelihood

    def network(self, x: Tensor, condition: Tensor | None) -> Tensor:
        raise NotImplementedError

    def forward(self, images: Tensor, condition: Tensor | None = None) -> Tensor:
        """Likelihood parameters of every sub-pixel, [B, ..., C, H, W], from images of integer levels [B, C, H, W].

        A float tensor is taken as already encoded. condition: labels, int64 [B], or vectors, float [B, condition_dim].
        Raises GenfastError for images or a condition that do not fit the model.
        """
        x = self.scale(images)
        return self.likelihood.unpack(self.network(x, self.encode_condition(condition, x)))

    def log_prob(self, images: Tensor, condition: Tensor | None = None) -> Tensor:
        """Log-probability of images of integer levels, in nats per image.  # [B]"""
        return self.likelihood.log_prob(self(images, condition), images)

    def training_loss(self, images: Tensor, labels: Tensor | None, step: int) -> tuple[Tensor, dict[str, Tensor]]:
        """The negative log-likelihood in bits/dim.  # [B]"""
        nats = -self.log_prob(images, labels)
        return bits_per_dim(nats, self.image_shape), {"nats": nats}

    def score(
        self, images: Tensor, labels: Tensor | None = None, numbers: Tensor | None = None, samples: int = 1
    ) -> dict[str, Tensor]:
        """nats: the negative log-likelihood, exact.  # [B]"""
        return {"nats": -self.log_prob(images, labels)}
