"""What a latent space holds, as images: reconstructions, interpolations, walks, traversals, and the 2-D manifold.

Each function returns expected levels, float [N, C, H, W], row by row of a picture (see ``pictures.shades``).
"""

import torch
from torch import Tensor, special

from genfast.errors import GenfastError
from genfast.models import VAE, Painter, PriorPainter, Reconstructor
from genfast.models.kl import gaussian_kl
from genfast.sampling.latent import normals
from genfast.sampling.task import evaluating

REACH = 3.0  # a traversal goes so many standard deviations of the prior to either side


def reconstructions(model: Reconstructor, images: Tensor, labels: Tensor | None = None) -> Tensor:
    """The images, and below them what the decoder makes of their codes.  # levels [N, ...] -> [2 N, C, H, W]"""
    with evaluating(model):  # type: ignore[arg-type]
        return torch.cat([images.to(torch.float32).cpu(), model.reconstruct(images, labels).to(torch.float32).cpu()])


def interpolation(model: Reconstructor, images: Tensor, steps: int, labels: Tensor | None = None) -> Tensor:
    """From image 2r to image 2r + 1 in row r, in equal steps between their codes.  # [N, ...] -> [N / 2 * steps, ...]

    labels: those of the images; a row keeps the label of its first. Raises GenfastError for an odd number of images or
    fewer than 2 steps.
    """
    if len(images) % 2 or len(images) == 0:
        raise GenfastError(f"An interpolation needs pairs of images, not {len(images)}.")
    _check_steps(steps)
    with evaluating(model):  # type: ignore[arg-type]
        codes = model.features(images, labels)
        shares = torch.linspace(0, 1, steps, device=codes.device, dtype=codes.dtype)
        z = torch.lerp(codes[0::2, None], codes[1::2, None], shares[:, None]).flatten(0, 1)  # [N / 2, steps, Z]
        return model.expected(z, None if labels is None else labels[0::2].repeat_interleave(steps))


def walk(model: PriorPainter, rows: int, steps: int, seed: int = 0, labels: Tensor | None = None) -> Tensor:
    """From one draw of the prior to another in each row, in equal steps of angle.  # [rows * steps, C, H, W]

    Along a great circle, length changing evenly: in many dimensions the codes of a prior have nearly one length, and a
    straight line between two leads through shorter ones, which the model never met. labels: one for each row. Raises
    GenfastError for a model without a prior, or fewer than 2 steps.
    """
    model = _with_prior(model)
    _check_steps(steps)
    ends = normals(seed, 0, 2 * rows, model.latent).unflatten(0, (rows, 2))  # float64 [rows, 2, Z]
    lengths = ends.norm(dim=2, keepdim=True)
    start, end = (ends / lengths).unbind(1)
    angle = (start * end).sum(1).clamp(-1, 1).acos()[:, None, None]
    shares = torch.linspace(0, 1, steps, dtype=torch.float64)[:, None]
    # sin((1 - t) a) / sin a and sin(t a) / sin a; for a = 0 they are 1 - t and t.
    a, b = ((s * torch.sinc(s * angle / torch.pi) / torch.sinc(angle / torch.pi)) for s in (1 - shares, shares))
    z = (a * start[:, None] + b * end[:, None]) * torch.lerp(lengths[:, :1], lengths[:, 1:], shares)
    with evaluating(model):  # type: ignore[arg-type]
        at = z.flatten(0, 1).to(next(model.parameters()))  # type: ignore[attr-defined]
        return model.expected(at, None if labels is None else labels.repeat_interleave(steps))


def traversal(model: Painter, image: Tensor, steps: int, dimensions: int, labels: Tensor | None = None) -> Tensor:
    """One latent dimension in each row goes from -3 to 3, the others stay at the image's code.  # [rows * steps, ...]

    image: levels [1, C, H, W]. The rows are the dimensions in which the image's posterior is farthest from the prior
    (the greatest KL), at most so many. Raises GenfastError for a model without a posterior.
    """
    if not isinstance(model, VAE):
        raise GenfastError(f"A {type(model).__name__} has no posterior of an image's code: this picture needs a vae.")
    _check_steps(steps)
    with evaluating(model):
        mean, log_variance = model.moments(image, labels)
        rows = gaussian_kl(mean, log_variance)[0].argsort(descending=True, stable=True)[:dimensions]
        z = mean.expand(len(rows), steps, -1).clone()
        for row, dimension in enumerate(rows.tolist()):
            z[row, :, dimension] = torch.linspace(-REACH, REACH, steps, device=z.device, dtype=z.dtype)
        z = z.flatten(0, 1)
        return model.expected(z, None if labels is None else labels.expand(len(z)))


def manifold(model: Painter, steps: int, labels: Tensor | None = None) -> Tensor:
    """A square of images over the quantiles of a 2-D latent space.  # [steps * steps, C, H, W]

    Row i, column j is at z = (quantile of (j + 1/2) / steps, quantile of (i + 1/2) / steps), so that every image stands
    for the same share of the prior (Kingma & Welling 2014, figure 4). Raises GenfastError unless the model has a prior
    and two latent dimensions.
    """
    model = _with_prior(model)
    _check_steps(steps)
    if model.latent != 2:
        raise GenfastError(f"The manifold is drawn for 2 latent dimensions, and this model has {model.latent}.")
    parameter = next(model.parameters())  # type: ignore[attr-defined]
    shares = (torch.arange(steps, dtype=torch.float64) + 0.5) / steps
    at = special.ndtri(shares).to(parameter)
    z = torch.stack([at.repeat(steps), at.repeat_interleave(steps)], 1)
    with evaluating(model):  # type: ignore[arg-type]
        return model.expected(z, None if labels is None else labels.expand(len(z)))


def _check_steps(steps: int) -> None:
    if steps < 2:
        raise GenfastError(f"A picture goes in at least 2 steps, not {steps}.")


def _with_prior(model: Painter) -> PriorPainter:
    if not isinstance(model, PriorPainter):
        raise GenfastError(f"A {type(model).__name__} has no prior over its codes: this picture needs a vae or a gan.")
    return model
