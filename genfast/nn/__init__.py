"""Modules over the operators: drop-in twins of what PyTorch users already write."""

from genfast.nn.masked_conv2d import MaskedConv2d

__all__ = ["MaskedConv2d"]
