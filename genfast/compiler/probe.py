"""Probing: what the outputs of a module read, as far as changed pixels show it.

For modules in which the compiler cannot follow an operator. All sub-pixels from some number on are changed; outputs
that change read one of them. That finds any look-ahead of a convolution, which is the same everywhere, but proves
nothing.
"""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from genfast.compiler.compile import random_images
from genfast.compiler.target import Target
from genfast.errors import NotCausal

CUTS = 64  # how many times the module runs, at most


def probe(target: Target, call: Callable[[Tensor, Sequence[Tensor]], Tensor]) -> np.ndarray:
    """For each number of the output, the largest cut from which on something changes it, -1 for none.  # int64 [N]

    call(images, conditions) -> [2, N] numbers for two images. Sub-pixels are numbered (y * W + x) * C + c.
    Raises NotCausal if an image's numbers change with another image.
    """
    images = random_images(target, 2)
    channels, height, width = target.image_shape
    count = channels * height * width
    generator = torch.Generator().manual_seed(1)
    pixel, colour = (torch.arange(size, device=images.device) for size in (height * width, channels))
    number = pixel.reshape(1, height, width) * channels + colour[:, None, None]
    shift = torch.randint(1, max(target.levels, 2), images.shape, generator=generator).to(images.device)
    others = ((images.long() + shift) % target.levels).to(images.dtype)
    if count <= CUTS:
        cuts = list(range(count))
    else:  # at the beginning and the end of the image, and in between
        spread = torch.randperm(count, generator=generator)[: CUTS - 5].tolist()
        cuts = sorted({0, 1, channels, count - channels, count - 1, *spread})
    with torch.no_grad():
        before = call(images, target.conditions)
        bound = 1e-5 * float(before.double().nan_to_num(0, 0, 0).abs().max())
        mixed = call(torch.stack([images[0], others[1]]), target.conditions)
        if bool(changed(before[0], mixed[0], bound).any()):
            raise NotCausal(
                "The network is not causal: an image's output changes with the other images of its batch; put the "
                "module into evaluation mode."
            )
        seen = np.full(before.shape[1], -1, np.int64)
        for cut in cuts:
            after = call(torch.where(number >= cut, others, images), target.conditions)
            seen[changed(before, after, bound).any(0).cpu().numpy()] = cut
    return seen


def changed(one: Tensor, two: Tensor, bound: float) -> Tensor:
    one, two = one.double(), two.double()
    return ((one - two).abs() > bound) | (one.isnan() != two.isnan())
