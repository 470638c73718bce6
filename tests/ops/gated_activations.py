"""What the tests of gated_activation share: cases, inputs, and the reference with its gradient."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from genfast.kernels.gated_activation.reference import gated_activation as reference
from genfast.testing.cases import arrange

# (B, h, H, W), colour groups, layout: runs shorter than a vector, ends of runs within one, a single pixel
CASES = [
    ((1, 1, 1, 1), 1, "contiguous"),
    ((2, 5, 3, 7), 1, "contiguous"),
    ((2, 5, 3, 7), 1, "channels_last"),
    ((3, 6, 5, 4), 3, "channels_last"),
    ((3, 6, 5, 4), 3, "contiguous"),
    ((2, 33, 4, 3), 3, "channels_last"),
    ((1, 32, 8, 8), 1, "channels_last"),
    ((2, 4, 1, 9), 2, "sliced"),
    ((2, 3, 9, 1), 1, "swapped"),
    ((0, 4, 3, 3), 1, "contiguous"),
]
Case = tuple[tuple[int, int, int, int], int, str]


def make_inputs(case: Case, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """x [B, 2h, H, W] and a gradient of the result, both in the case's layout; some gates are saturated."""
    (batch, hidden, height, width), _, layout = case
    generator = torch.Generator().manual_seed(hidden)

    def normal(channels: int, scale: float) -> Tensor:
        values = scale * torch.randn(batch, channels, height, width, generator=generator, dtype=torch.float64)
        return arrange(values.to(dtype), layout)

    return normal(2 * hidden, 3.0), normal(hidden, 1.0)


def gradients(function: Callable[..., Tensor], x: Tensor, grad: Tensor, color_groups: int) -> list[Tensor]:
    """The result and the gradient of x."""
    leaf = x.detach().requires_grad_()
    out = function(leaf, color_groups)
    return [out, *torch.autograd.grad(out, leaf, grad)]


def run_reference(x: Tensor, grad: Tensor, color_groups: int) -> Sequence[Tensor]:
    return gradients(reference, x, grad, color_groups)
