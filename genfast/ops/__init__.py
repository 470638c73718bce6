"""Operators: the kernels as PyTorch operators, under autograd, autocast, torch.compile and torch.export."""

from genfast.ops.diagonal_lstm import diagonal_lstm
from genfast.ops.gated_activation import gated_activation
from genfast.ops.logistic_mixture import logistic_mixture
from genfast.ops.masked_conv2d import masked_conv2d
from genfast.ops.row_lstm import row_lstm

__all__ = ["diagonal_lstm", "gated_activation", "logistic_mixture", "masked_conv2d", "row_lstm"]
