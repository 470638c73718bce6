"""Likelihoods: what the numbers at the end of a network say about the levels of an image."""

from genfast.errors import GenfastError
from genfast.likelihoods.base import (
    Likelihood,
    bits_per_dim,
    check_images,
    check_layout,
    is_trusted,
    level_dtype,
    trusted,
)
from genfast.likelihoods.bernoulli import Bernoulli
from genfast.likelihoods.categorical import Categorical
from genfast.likelihoods.discretized_logistic import DiscretizedLogistic
from genfast.likelihoods.draw import check_draw_options, draw_levels
from genfast.likelihoods.drawn import Drawn
from genfast.likelihoods.gaussian import Gaussian
from genfast.likelihoods.logistic_mixture import LogisticMixture

__all__ = [
    "Bernoulli",
    "Categorical",
    "DiscretizedLogistic",
    "Drawn",
    "Gaussian",
    "Likelihood",
    "LogisticMixture",
    "bits_per_dim",
    "check_draw_options",
    "check_images",
    "check_layout",
    "draw_levels",
    "is_trusted",
    "level_dtype",
    "make_likelihood",
    "trusted",
]


def make_likelihood(name: str, channels: int, levels: int) -> Likelihood:
    """The likelihood called ``name`` for images of C channels and so many levels.

    One of "bernoulli", "categorical", "discretized_logistic" and "gaussian".

    Raises GenfastError for an unknown name, or for channels or levels that the likelihood cannot have.
    """
    if name == "bernoulli":
        return Bernoulli(channels, levels)
    if name == "categorical":
        return Categorical(channels, levels)
    if name == "discretized_logistic":
        return DiscretizedLogistic(channels, levels)
    if name == "gaussian":
        return Gaussian(channels, levels)
    raise GenfastError(f"Unknown likelihood {name!r}: choose bernoulli, categorical, discretized_logistic or gaussian.")
