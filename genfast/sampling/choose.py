"""The sampler that suits a model, whatever its family."""

from typing import Any

from genfast.errors import GenfastError
from genfast.models import Autoencoder, Classifier, ImageModel, Model
from genfast.sampling.latent import LatentSampler
from genfast.sampling.sampler import Sampler, compile_sampler


def sampler_of(model: Model, engine: str = "auto") -> Sampler | LatentSampler:
    """A sampler that draws pixel by pixel with ``engine``, or one that draws a latent variable and then all pixels.

    Raises GenfastError for a model that is no distribution over images.
    """
    if isinstance(model, ImageModel):
        return compile_sampler(model, engine)
    if isinstance(model, Autoencoder | Classifier):
        raise GenfastError(
            f"A {type(model).__name__} is not a distribution over images, so there is nothing to draw: "
            "use a vae, or a model that draws pixel by pixel."
        )
    with_prior: Any = model  # or LatentSampler refuses it
    return LatentSampler(with_prior)
