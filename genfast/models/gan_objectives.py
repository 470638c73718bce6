"""What the two players of a GAN minimise, as functions of the discriminator's logits.

A logit l says that an image is real with probability D = sigmoid(l), so -ln D = softplus(-l) and -ln(1 - D) =
softplus(l): in this form nothing overflows and no small probability is rounded away. A critic's score (wasserstein) and
a hinge's are logits that nobody takes the sigmoid of.

                discriminator                         generator           gradient of the generator's loss by l
minimax         softplus(-real) + softplus(fake)      -softplus(fake)     -D: vanishes where the fake is found out
non_saturating  softplus(-real) + softplus(fake)      softplus(-fake)     D - 1: near -1 there
hinge           relu(1 - real) + relu(1 + fake)       -fake               -1
wasserstein     fake - real + gradient penalty        -fake               -1

minimax, non_saturating: Goodfellow et al. 2014 (arXiv 1406.2661), equation 1 and section 3. hinge: Lim & Ye 2017 (arXiv
1705.02894), Miyato et al. 2018 (arXiv 1802.05957), equations 16 and 17. wasserstein: Gulrajani et al. 2017 (arXiv
1704.00028), equation 3.
"""

from collections.abc import Callable
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

Objective = Literal["non_saturating", "minimax", "hinge", "wasserstein"]


def softplus(x: Tensor) -> Tensor:
    """ln(1 + exp x), exact for every x: F.softplus gives plain x above 20."""
    return -F.logsigmoid(-x)


def discriminator_loss(objective: Objective, real: Tensor, fake: Tensor) -> Tensor:
    """What the discriminator minimises, from its logits of as many real as generated images.  # [B], [B] -> [B]

    For wasserstein without the gradient penalty.
    """
    if objective == "hinge":
        return F.relu(1 - real) + F.relu(1 + fake)
    if objective == "wasserstein":
        return fake - real
    return softplus(-real) + softplus(fake)


def generator_loss(objective: Objective, fake: Tensor) -> Tensor:
    """What the generator minimises, from the discriminator's logits of generated images.  # [B] -> [B]"""
    if objective == "minimax":
        return -softplus(fake)
    if objective == "non_saturating":
        return softplus(-fake)
    return -fake


def believed(objective: Objective, logits: Tensor) -> Tensor:
    """D(image) as it is plotted: the probability of being real, or the score where there is no probability.  # [B]"""
    return logits if objective in ("hinge", "wasserstein") else logits.sigmoid()


def gradient_penalty(critic: Callable[[Tensor], Tensor], real: Tensor, fake: Tensor) -> Tensor:
    """(|gradient of the critic| - 1)^2 at a random point between each pair of images; differentiable.  # [B]

    critic: images [B, C, H, W] -> scores [B], each a function of its own image (so no batch normalization). The points
    come from PyTorch's global generator. Costs a backward pass of the critic, and another when it is differentiated.
    """
    share = torch.rand(len(real), 1, 1, 1, device=real.device, dtype=real.dtype)
    between = torch.lerp(fake, real, share).requires_grad_(True)
    (gradient,) = torch.autograd.grad(critic(between).sum(), between, create_graph=True)
    return (gradient.flatten(1).norm(dim=1) - 1).square()
