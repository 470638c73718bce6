"""diagonal_lstm in plain PyTorch, pixel by pixel: any device, any floating dtype, differentiable by autograd.

bfloat16 and float16 follow the contract of every backend: h is stored narrow and read back so by its neighbours; gates,
c and sums are float32.
"""

import torch
from torch import Tensor

from genfast.kernels.lstm.reference import cell, cell_bwd, wide


def diagonal_lstm(x: Tensor, weight: Tensor, h0: Tensor, c0: Tensor, reverse: bool = False) -> Tensor:
    """x [B, 4h, H, W], weight [4h, h, 2] (taps up, left), h0 [h], c0 [h] -> h [B, h, H, W]."""
    return forward(x, weight, h0, c0, reverse)[0]


def forward(x: Tensor, weight: Tensor, h0: Tensor, c0: Tensor, reverse: bool = False) -> tuple[Tensor, Tensor, Tensor]:
    """As ``diagonal_lstm``, and what its derivative needs: h, gates [B, H, W, 4h] after their nonlinearity,
    c [B, H, W, h]."""
    if reverse:  # the mirror image
        h, gates, c = forward(x.flip(3), weight, h0, c0)
        return h.flip(3), gates.flip(2), c.flip(2)
    batch, four_h, height, width = x.shape
    dtype = x.dtype
    x, weight, h0, c0 = (t.to(wide(dtype)) for t in (x, weight, h0, c0))
    up, left = weight.unbind(2)
    h_above = [torch.zeros_like(h0).expand(batch, -1)] * width
    rows: list[list[tuple[Tensor, Tensor, Tensor]]] = []
    for y in range(height):
        row = []
        h_left, c_left = h0.expand(batch, -1), c0.expand(batch, -1)
        for column in range(width):
            total = x[:, :, y, column] + h_above[column] @ up.T + h_left @ left.T
            h, gates, c = cell(total, c_left)
            h = h.to(dtype)
            row.append((h, gates, c))
            h_left, c_left = h.to(wide(dtype)), c
        h_above = [h.to(wide(dtype)) for h, _, _ in row]
        rows.append(row)
    h, gates, c = (
        torch.stack([torch.stack([pixel[part] for pixel in row], dim=1) for row in rows], dim=1) for part in range(3)
    )
    return h.permute(0, 3, 1, 2), gates, c


def backward(
    grad: Tensor,
    h: Tensor,
    gates: Tensor,
    c: Tensor,
    weight: Tensor,
    h0: Tensor,
    c0: Tensor,
    reverse: bool = False,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The gradient of h [B, h, H, W], and h, gates, c as ``forward`` returned them -> the gradients of x, weight, h0
    and c0."""
    if reverse:
        dx, *others = backward(grad.flip(3), h.flip(3), gates.flip(2), c.flip(2), weight, h0, c0)
        return dx.flip(3), others[0], others[1], others[2]
    batch, hidden, height, width = grad.shape
    dtype = grad.dtype
    grad, h, weight, h0, c0 = (t.to(wide(dtype)) for t in (grad, h, weight, h0, c0))
    up, left = weight.unbind(2)
    dpre = torch.zeros_like(gates)  # gradients of the pre-activations, [B, H, W, 4h]
    dweight = torch.zeros_like(weight)
    dh0, dc0 = torch.zeros_like(h0), torch.zeros_like(c0)
    for y in reversed(range(height)):
        dc = torch.zeros_like(c[:, 0, 0])  # of c(y, x), through c(y, x + 1)
        for column in reversed(range(width)):
            dh = grad[:, :, y, column]
            if y + 1 < height:
                dh = dh + dpre[:, y + 1, column] @ up
            if column + 1 < width:
                dh = dh + dpre[:, y, column + 1] @ left
            c_prev = c[:, y, column - 1] if column > 0 else c0.expand(batch, -1)
            h_left = h[:, :, y, column - 1] if column > 0 else h0.expand(batch, -1)
            here, dc = cell_bwd(dh, dc, gates[:, y, column], c[:, y, column], c_prev)
            dpre[:, y, column] = here
            dweight[:, :, 1] += here.T @ h_left
            if y > 0:
                dweight[:, :, 0] += here.T @ h[:, :, y - 1, column]
        dh0 += (dpre[:, y, 0] @ left).sum(0)
        dc0 += dc.sum(0)
    return dpre.permute(0, 3, 1, 2).to(dtype), dweight.to(dtype), dh0.to(dtype), dc0.to(dtype)
