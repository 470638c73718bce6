"""row_lstm in plain PyTorch, pixel by pixel: any device, any floating dtype, differentiable by autograd.

bfloat16 and float16 follow the contract of every backend: h is stored narrow and read back so by the next row; gates, c
and sums are float32.
"""

import torch
from torch import Tensor

from genfast.kernels.lstm.reference import cell, cell_bwd, wide


def row_lstm(x: Tensor, weight: Tensor, h0: Tensor, c0: Tensor) -> Tensor:
    """x [B, 4h, H, W], weight [4h, h, k], h0 [h], c0 [h] -> h [B, h, H, W]."""
    return forward(x, weight, h0, c0)[0]


def forward(x: Tensor, weight: Tensor, h0: Tensor, c0: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """As ``row_lstm``, and what its derivative needs: h, gates [B, H, W, 4h] after their nonlinearity,
    c [B, H, W, h]."""
    batch, four_h, height, width = x.shape
    k, dtype = weight.shape[2], x.dtype
    x, weight, h0, c0 = (t.to(wide(dtype)) for t in (x, weight, h0, c0))
    h_above = [h0.expand(batch, -1)] * width
    c_above = [c0.expand(batch, -1)] * width
    rows: list[list[tuple[Tensor, Tensor, Tensor]]] = []
    for y in range(height):
        row = []
        for column in range(width):
            total = x[:, :, y, column]
            for tap in range(k):
                source = column + tap - k // 2
                if 0 <= source < width:
                    total = total + h_above[source] @ weight[:, :, tap].T
            h, gates, c = cell(total, c_above[column])
            row.append((h.to(dtype), gates, c))
        h_above = [h.to(wide(dtype)) for h, _, _ in row]
        c_above = [c for _, _, c in row]
        rows.append(row)
    h, gates, c = (
        torch.stack([torch.stack([pixel[part] for pixel in row], dim=1) for row in rows], dim=1) for part in range(3)
    )
    return h.permute(0, 3, 1, 2), gates, c


def backward(
    grad: Tensor, h: Tensor, gates: Tensor, c: Tensor, weight: Tensor, h0: Tensor, c0: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The gradient of h [B, h, H, W], and h, gates, c as ``forward`` returned them -> the gradients of x, weight, h0
    and c0."""
    batch, hidden, height, width = grad.shape
    k, dtype = weight.shape[2], grad.dtype
    grad, h, weight, h0, c0 = (t.to(wide(dtype)) for t in (grad, h, weight, h0, c0))
    dpre = torch.zeros_like(gates)  # gradients of the pre-activations, [B, H, W, 4h]
    dweight = torch.zeros_like(weight)
    dh0 = torch.zeros_like(h0)
    dc = [torch.zeros_like(c[:, 0, 0]) for _ in range(width)]  # of c(y, x), through c(y + 1, x)
    for y in reversed(range(height)):
        for column in range(width):
            dh = grad[:, :, y, column]
            for tap in range(k):
                reader = column - tap + k // 2
                if y + 1 < height and 0 <= reader < width:
                    dh = dh + dpre[:, y + 1, reader] @ weight[:, :, tap]
            c_prev = c[:, y - 1, column] if y > 0 else c0.expand(batch, -1)
            dpre[:, y, column], dc[column] = cell_bwd(dh, dc[column], gates[:, y, column], c[:, y, column], c_prev)
        for column in range(width):
            for tap in range(k):
                source = column + tap - k // 2
                if 0 <= source < width:
                    h_prev = h[:, :, y - 1, source] if y > 0 else h0.expand(batch, -1)
                    dweight[:, :, tap] += dpre[:, y, column].T @ h_prev
                    if y == 0:
                        dh0 += (dpre[:, y, column] @ weight[:, :, tap]).sum(0)
    dc0 = torch.stack(dc).sum((0, 1))
    return dpre.permute(0, 3, 1, 2).to(dtype), dweight.to(dtype), dh0.to(dtype), dc0.to(dtype)
