"""Modules over the operators: drop-in twins of what PyTorch users already write."""

from genfast.nn.lstm import DiagonalBiLSTM, RowLSTM
from genfast.nn.masked_conv2d import MaskedConv2d
from genfast.nn.shifted_conv2d import ShiftedConv2d, initialized_by_data

__all__ = ["DiagonalBiLSTM", "MaskedConv2d", "RowLSTM", "ShiftedConv2d", "initialized_by_data"]
