"""Plain PyTorch: the gate, and the gradients of its gradient, which no kernel needs to be quick at."""

import torch
from torch import Tensor


def gated_activation(x: Tensor, color_groups: int = 1) -> Tensor:
    """x [B, 2h, H, W] -> [B, h, H, W]; each colour group of x holds its f, then its g."""
    f, g = halves(x, color_groups)
    return (torch.tanh(f) * torch.sigmoid(g)).flatten(1, 2)


def second_derivative(v: Tensor, grad: Tensor, x: Tensor, color_groups: int) -> tuple[Tensor, Tensor]:
    """The gradient of x is (grad s t', grad t s'), with t = tanh(f), s = sigmoid(g); its own gradient is v.

    v [B, 2h, H, W], grad [B, h, H, W], x [B, 2h, H, W] -> the gradients of grad and of x.
    """
    f, g = halves(x, color_groups)
    for_f, for_g = halves(v, color_groups)
    t, s = torch.tanh(f), torch.sigmoid(g)
    dt, ds, grad = 1 - t * t, s * (1 - s), grad.unflatten(1, (color_groups, -1))
    dgrad = for_f * s * dt + for_g * t * ds
    df = grad * dt * (for_g * ds - 2 * for_f * s * t)
    dg = grad * ds * (for_f * dt + for_g * t * (1 - 2 * s))
    return dgrad.flatten(1, 2), torch.stack((df, dg), 2).flatten(1, 3)


def halves(x: Tensor, color_groups: int) -> tuple[Tensor, Tensor]:
    """f and g of every colour group, as views.  # [B, 2h, H, W] -> [B, G, h / G, H, W] each"""
    f, g = x.unflatten(1, (color_groups, 2, -1)).unbind(2)
    return f, g
