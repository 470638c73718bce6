"""Somebody else's modules, and the loop that people write around them: the truth that accelerate is tested against."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from genfast.likelihoods import draw_levels
from genfast.sampling import noise

SHAPE, RGB = (1, 5, 4), (3, 3, 4)
ENGINES = ["eager", "cpu", "jacobi", "naive"]


def loop(
    call: Callable[[Tensor], Any], choose: Callable[..., Tensor], shape: Sequence[int], n: int = 3, seed: int = 5,
    order: Sequence[int] | None = None, levels: int = 4,
) -> Tensor:  # fmt: skip
    """One pass of the module for each sub-pixel. choose(out, y, x, c): its logits [B, levels]."""
    channels, height, width = shape
    images = torch.zeros(n, *shape, dtype=torch.uint8 if levels <= 256 else torch.int64)
    uniforms = noise.uniforms(seed, 0, n, (channels, height, width))
    for p in order if order is not None else range(height * width):
        y, x = divmod(int(p), width)
        for c in range(channels):
            with torch.no_grad():
                logits = choose(call(images.clone()), y, x, c)
            images[:, c, y, x] = draw_levels(logits, uniforms[:, c, y, x]).to(images.dtype)
    return images


def first(out: Tensor, y: int, x: int, c: int) -> Tensor:
    """The logits of a pixel in [B, levels, H, W]."""
    return out[:, :, y, x]


def unit(levels: int) -> Callable[[Tensor], Tensor]:
    return lambda images: images.float() / (levels - 1)


class Arranged(nn.Module):
    def __init__(self, network: nn.Module, arrange: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.network, self.arrange = network, arrange

    def forward(self, x: Tensor, *given: Tensor) -> Any:
        return self.arrange(self.network(x, *given))
