"""Why a generator is seldom trained by minimax: the gradient that reaches it, against the discriminator's logit."""

import os
from pathlib import Path
from typing import get_args

import numpy as np
import torch
from torch import Tensor

from genfast.models import GAN
from genfast.models.gan_objectives import Objective, generator_loss
from genfast.sampling import LatentSampler
from genfast.sampling.task import evaluating
from genfast.training.files import write_atomically


def generator_gradient(objective: Objective, logits: Tensor) -> Tensor:
    """Derivative of the generator's loss with respect to the discriminator's logit of its image.  # [N] -> [N]"""
    at = logits.detach().clone().requires_grad_(True)
    (gradient,) = torch.autograd.grad(generator_loss(objective, at).sum(), at)
    return gradient


def fake_logits(model: GAN, n: int, seed: int = 0, labels: Tensor | None = None) -> np.ndarray:
    """What the discriminator says of the first n images of a seed.  # float64 [n]"""
    images = LatentSampler(model).expected(n, seed, condition=labels) * (2 / (model.levels - 1)) - 1
    with evaluating(model):
        return model.judge(images, labels).double().cpu().numpy()


def draw_saturation(path: Path, logits: np.ndarray) -> None:
    """A png: the gradient of each objective by logit, and below it how often the logits of generated images occur.

    Where the generator's images are found out, on the left, minimax leaves no gradient, non_saturating nearly all.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    low, high = min(-10.0, float(logits.min())), max(10.0, float(logits.max()))
    at = torch.linspace(low, high, 400, dtype=torch.float64)
    figure = Figure(figsize=(7, 6), layout="constrained")
    upper, lower = figure.subplots(2, sharex=True, height_ratios=(2, 1))
    for objective in get_args(Objective):
        style = "-" if objective in ("minimax", "non_saturating") else ":"
        upper.plot(at, generator_gradient(objective, at), style, label=objective.replace("_", "-"))
    upper.set_ylabel("d generator's loss / d logit")
    upper.legend()
    lower.hist(logits, bins=60, range=(low, high))
    lower.set_ylabel("generated images")
    lower.set_xlabel("logit of D(G(z)): real, according to the discriminator, on the right")
    for axes in (upper, lower):
        axes.grid(alpha=0.3)
    canvas = FigureCanvasAgg(figure)
    write_atomically(path, lambda temporary: canvas.print_png(os.fspath(temporary)))
