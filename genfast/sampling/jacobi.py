"""Jacobi sampling: the naive loop's images in far fewer passes, by fixed-point iteration.

With its uniforms held fixed, an image is the solution of a triangular system of equations: each sub-pixel is a
function of the sub-pixels before it. So guess a whole image, draw all its sub-pixels at once given the guess, take the
result as the next guess, and stop when a pass reproduces its guess. A sub-pixel is final as soon as all before it were
already right, so each pass makes at least one more sub-pixel final, and usually many.

Song et al. 2021, "Accelerating Feedforward Computation via Parallel Nonlinear Equation Solving", algorithm 1;
Wiggers and Hoogeboom 2020, "Predictive Sampling with Forecasting Autoregressive Models", fixed-point iteration.

How exact it is. The images are those of the naive loop, except where a uniform falls on the edge between two levels to
within the rounding of the network's output. Rounding matters because images that are finished leave the batch, and a
matrix product over a batch of another size may add up in another order. A sub-pixel that is final stays as it was drawn
first, so such a tie costs nothing but a level next to the edge, which is as good a draw as the other.
"""

from collections.abc import Iterator
from typing import Unpack

import torch
from torch import Tensor

from genfast.compiler.target import ask_model
from genfast.errors import GenfastError
from genfast.sampling.task import CausalModel, Options, Task, evaluating, finish, in_place, nothing_known, prepare


def sample(model: CausalModel, n: int, **options: Unpack[Options]) -> Tensor:
    """Draws n images: completes n images of which nothing is known.  # levels [n, C, H, W]"""
    return complete(model, *nothing_known(model, n), **options)


def complete(model: CausalModel, images: Tensor, known: Tensor, **options: Unpack[Options]) -> Tensor:
    """As naive.complete, with the same arguments, the same images and the same calls of ``on_row``.

    An image is finished, and leaves the batch, when a pass over it draws exactly what went in. That takes at most
    C * H * W + 1 passes, on any input. Raises GenfastError as naive.complete does, and for a model that turns out not
    to be causal: its images would depend on the guesses. (A look-ahead that changes no draw is not noticed.)
    """
    return in_place(model, finish(prepare(model, images, known, **options), rows))


def rows(task: Task) -> Iterator[int]:
    """The engine. A row is finished when it is final in every image."""
    model, images, uniforms = task.model, task.images, task.uniforms()
    n, channels, height, width = images.shape
    size, row = channels * height * width, channels * width

    # By image, how many sub-pixels in raster and colour order are final. The count only grows.
    final = torch.where(task.known.flatten(1).all(1), size, 0)
    active = torch.nonzero(final < size)[:, 0]
    shown = 0  # rows
    with task.bar() as bar:
        while True:
            finished = int(final.min())
            bar.update(finished - bar.n)
            while shown < finished // row:
                yield shown
                shown += 1
            if not len(active):
                return

            with evaluating(model):  # not around the yields: what the caller does between rows is the caller's
                guess = images[active]
                known_here = task.known[active].expand_as(guess)
                kept = known_here | first_in_order(final[active], guess)
                conditions_here = tuple(c[active] for c in task.conditions)
                params = ask_model(model, guess, *conditions_here)
                task.stats.count(len(active))
                drawn = task.draw(params, uniforms[active])

                moved = kept & ~known_here & (drawn != guess)
                if moved.any():  # a tie within rounding, or a model that looks ahead
                    require_causal(task, guess, params, conditions_here, moved)
                drawn = torch.where(kept, guess, drawn)

                # All that comes before the first change was right, so the change itself was drawn from the right
                # context. A pass without a change proves the image: only that finishes it.
                agree = in_order(drawn == guess).int().cumprod(1).sum(1)  # [active] leading sub-pixels that agree
                images[active] = drawn
                final[active] = (agree + 1).clamp(max=size)
                active = active[agree < size]


def in_order(images: Tensor) -> Tensor:
    """Sub-pixels in the order of generation: raster order, then colour.  # [B, C, H, W] -> [B, H * W * C]"""
    return images.permute(0, 2, 3, 1).flatten(1)


def first_in_order(count: Tensor, like: Tensor) -> Tensor:
    """True at the first count[b] sub-pixels of image b.  # bool [B, C, H, W]"""
    _, channels, height, width = like.shape
    flags = torch.arange(channels * height * width, device=count.device) < count[:, None]
    return flags.unflatten(1, (height, width, channels)).permute(0, 3, 1, 2)


def require_causal(task: Task, guess: Tensor, params: Tensor, conditions: tuple[Tensor, ...], moved: Tensor) -> None:
    """Raises GenfastError if the output at each image's first moved sub-pixel changes with anything from there on.

    A final sub-pixel that is drawn differently the next time was either tied within rounding, or its parameters do not
    depend on earlier sub-pixels alone. One more pass tells: change everything from that sub-pixel on, and compare.
    """
    _, channels, _, width = guess.shape
    image = torch.nonzero(moved.flatten(1).any(1))[:, 0]
    place = in_order(moved)[image].int().argmax(1)  # the first one of each image
    count = torch.zeros(len(guess), dtype=torch.int64, device=guess.device)
    count[image] = place
    changed = torch.where(first_in_order(count, guess), guess, torch.where(guess == 0, task.model.levels - 1, 0))
    c, pixel = place % channels, place // channels
    y, x = pixel // width, pixel % width
    again = ask_model(task.model, changed.to(guess.dtype), *conditions)
    before, after = (p[image, ..., c, y, x].reshape(len(image), -1).double() for p in (params, again))
    before, after = before.nan_to_num(neginf=0), after.nan_to_num(neginf=0)  # a level without probability
    tolerance = torch.finfo(params.dtype).eps ** 0.5 * (1 + before.abs().max())
    worst = (after - before).abs().amax(1)
    if bool((worst > tolerance).any()):
        i = int(worst.argmax())
        raise GenfastError(
            f"The model is not causal (or not deterministic): its output for channel {int(c[i])} at y = {int(y[i])}, "
            f"x = {int(x[i])} changes with pixels that come at that point or later, so it cannot be sampled."
        )
