"""A pattern: a small network written the way somebody's public model is, and how to call it.

The networks are in networks_*.py, each the least that shows one habit: how masks are applied, how stacks are shifted,
how images go in and how logits come out.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from genfast.compiler import Target, make_target
from genfast.likelihoods import make_likelihood

Shape = tuple[int, int, int]


@dataclass(frozen=True)
class Pattern:
    """make() gives the module; the rest is what ``make_target`` takes. condition: an example, if it takes one."""

    name: str
    make: Callable[[], nn.Module]
    shape: Shape = (1, 5, 4)
    levels: int = 3
    likelihood: str = "categorical"
    encode: str | Callable[[Tensor], Tensor] = "unit"
    pick: Callable[..., Tensor] | None = None
    condition: Callable[[], Tensor] | None = None

    def build(self) -> nn.Module:
        """The module in evaluation mode, with weights at which every pixel it may read matters."""
        torch.manual_seed(1)
        return randomise(self.make()).eval()

    def target(self, module: nn.Module) -> Target:
        example = None if self.condition is None else self.condition()
        return make_target(
            module, self.shape, self.likelihood, self.levels, encode=self.encode, pick=self.pick, condition=example
        )


PATTERNS: list[Pattern] = []


def pattern(name: str, **call: object) -> Callable[[type[nn.Module]], type[nn.Module]]:
    """Class decorator: the module is a pattern."""

    def register(module: type[nn.Module]) -> type[nn.Module]:
        PATTERNS.append(Pattern(name, module, **call))  # type: ignore[arg-type]
        return module

    return register


def randomise(module: nn.Module) -> nn.Module:
    """Random biases and statistics, so that nothing is zero by initialisation."""
    with torch.no_grad():
        for name, tensor in [*module.named_parameters(), *module.named_buffers()]:
            if name.endswith("running_var"):
                tensor.uniform_(0.5, 2)
            elif name.endswith(("bias", "running_mean")):
                tensor.normal_(0, 0.3)
    return module


class Wrapped(nn.Module):
    """A target as the samplers take models."""

    def __init__(self, target: Target) -> None:
        super().__init__()
        self.module = target.module
        self.image_shape, self.levels = target.image_shape, target.levels
        self.likelihood = make_likelihood(target.likelihood, target.image_shape[0], target.levels)
        self.call = target.forward

    def forward(self, images: Tensor, condition: Tensor | None = None) -> Tensor:
        return self.call(images) if condition is None else self.call(images, condition)


def causal_mask(weight: Tensor, kind: str) -> Tensor:
    """The textbook's mask: rows above, and pixels to the left; B also the centre.  # as weight"""
    mask = torch.zeros_like(weight)
    h, w = weight.shape[2:]
    mask[:, :, : h // 2] = 1
    mask[:, :, h // 2, : w // 2 + (kind == "B")] = 1
    return mask


def random_levels(shape: Sequence[int], levels: int, batch: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, levels, (batch, *shape), generator=generator, dtype=torch.uint8)


def influence(forward: Callable[[Tensor], Tensor], shape: Shape, levels: int, seeds: int = 6) -> Tensor:
    """Which output sub-pixels change when one input sub-pixel does.  # bool [C, H, W, C, H, W]: out, in

    The truth that footprints are compared with: forward (float64) on images that differ from each other in one number.
    """
    n = int(torch.tensor(shape).prod())
    seen = torch.zeros(n, n, dtype=torch.bool)
    for seed in range(seeds):
        base = random_levels(shape, levels, 1, seed)
        changed = base.repeat(n + 1, 1, 1, 1).flatten(1)
        for i in range(n):
            changed[i, i] = (changed[i, i] + 1 + seed % (levels - 1)) % levels
        out = forward(changed.reshape(n + 1, *shape)).reshape(n + 1, -1, n)
        moved = (out[:n] - out[n:]).abs().amax(1)  # [in, out]
        seen |= (moved > 1e-11 * (1 + out[n:].abs().max())).T
    return seen.reshape(*shape, *shape)
