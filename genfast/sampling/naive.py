"""Naive sampling: the definition. One full forward pass for every sub-pixel, and no cleverness.

Every faster engine is tested against these two functions, pixel for pixel.
"""

from collections.abc import Iterator
from typing import Unpack

import torch
from torch import Tensor

from genfast.compiler.target import ask_model
from genfast.sampling.task import CausalModel, Options, Task, evaluating, finish, in_place, nothing_known, prepare


def sample(model: CausalModel, n: int, **options: Unpack[Options]) -> Tensor:
    """Draws n images: completes n images of which nothing is known.  # levels [n, C, H, W]

    The options, and the errors, are those of ``complete``. Image k of a seed is the one with the number first + k.
    """
    return complete(model, *nothing_known(model, n), **options)


def complete(model: CausalModel, images: Tensor, known: Tensor, **options: Unpack[Options]) -> Tensor:
    """Draws the unknown pixels, each from its distribution given everything earlier.  # levels [n, C, H, W]

    Known pixels come back untouched, and are seen by the pixels after them, never by those before (van den Oord et al.
    2016a, equation 1, in raster order).

    images: levels [n, C, H, W] (uint8 or int64); what they hold where unknown does not matter.
    known: bool [H, W] or [n, 1, H, W].
    seed = 0, first = 0: the uniforms are those of the images number first .. first + n - 1 of the seed (see noise.py).
    temperature = 1, top_k = None, top_p = None: see Likelihood.draw.
    condition: [n, ...], handed to the model.
    progress: show a progress bar on stderr.
    on_row: called after each row with a copy of the batch, in which later unknown pixels are still zero.
    stats: told about every forward pass; there are C * H * W of them, less those of wholly known pixels.

    The model runs on its parameters' device, in evaluation mode, and gets its training flags back.
    Raises GenfastError for bad input, before any work, and for a network whose output is not finite.
    """
    return in_place(model, finish(prepare(model, images, known, **options), rows))


def rows(task: Task) -> Iterator[int]:
    """The engine: one pass for every sub-pixel that is not known in all images."""
    model, images, uniforms = task.model, task.images, task.uniforms()
    n, channels, height, width = images.shape
    whole = model.likelihood.whole_pixels
    with task.bar() as bar:
        for y in range(height):
            with evaluating(model):  # not around the yield: what the caller does between two rows is the caller's
                for x in range(width):
                    for c in [slice(None)] if whole else range(channels):  # of whole pixels all colours at a time
                        missing = ~task.known[:, 0, y, x]
                        if missing.any():
                            params = ask_model(model, images, *task.conditions)
                            drawn = task.draw(params[..., c, y, x], uniforms[:, c, y, x])
                            missing = missing[:, None] if whole else missing
                            images[:, c, y, x] = torch.where(missing, drawn, images[:, c, y, x])
                            task.stats.count(n)
                        bar.update(channels if whole else 1)
            yield y
