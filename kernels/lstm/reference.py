"""One LSTM cell in plain PyTorch, and its derivative: what row_lstm and diagonal_lstm do at every pixel."""

import torch
from torch import Tensor


def wide(dtype: torch.dtype) -> torch.dtype:
    """The dtype of gates and cells: 16-bit floats are stored, never computed in."""
    return torch.float32 if dtype.itemsize == 2 else dtype


def cell(preactivations: Tensor, c_prev: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """preactivations [.., 4h] in blocks i, f, g, o and c_prev [.., h] -> h [.., h], gates [.., 4h] after their
    nonlinearity, c [.., h]."""
    i, f, g, o = preactivations.chunk(4, dim=-1)
    i, f, g, o = torch.sigmoid(i), torch.sigmoid(f), torch.tanh(g), torch.sigmoid(o)
    c = f * c_prev + i * g
    return o * torch.tanh(c), torch.cat([i, f, g, o], dim=-1), c


def cell_bwd(dh: Tensor, dc: Tensor, gates: Tensor, c: Tensor, c_prev: Tensor) -> tuple[Tensor, Tensor]:
    """The gradients of h and c [.., h] (dc: what reaches c through later cells alone), and gates and c as ``cell``
    returned them -> the gradients of preactivations [.., 4h] and of c_prev [.., h]."""
    i, f, g, o = gates.chunk(4, dim=-1)
    tanh_c = torch.tanh(c)
    dc = dc + dh * o * (1 - tanh_c * tanh_c)
    di, df, dg, do = dc * g, dc * c_prev, dc * i, dh * tanh_c
    return torch.cat([di * i * (1 - i), df * f * (1 - f), dg * (1 - g * g), do * o * (1 - o)], dim=-1), dc * f
