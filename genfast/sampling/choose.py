"""The sampler that suits a model, whatever its family."""

from genfast.errors import GenfastError
from genfast.models import ImageModel, Model, PriorPainter
from genfast.sampling.latent import LatentSampler
from genfast.sampling.sampler import Sampler, compile_sampler


def sampler_of(model: Model, engine: str = "auto", precision: str = "float32") -> Sampler | LatentSampler:
    """A sampler that draws pixel by pixel, by ``compile_sampler``, or a latent variable and then all pixels at once.

    engine, precision: see compile_sampler; a LatentSampler has no use for them. Raises GenfastError for a model that is
    no distribution over images.
    """
    if isinstance(model, ImageModel):
        return compile_sampler(model, engine, precision=precision)
    if isinstance(model, PriorPainter):
        return LatentSampler(model)
    raise GenfastError(
        f"A {type(model).__name__} is not a distribution over images, so there is nothing to draw: "
        "use a vae, a gan, or a model that draws pixel by pixel."
    )
