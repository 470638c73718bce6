"""Operators: the kernels as PyTorch operators, under autograd, autocast, torch.compile and torch.export."""

from genfast.ops.masked_conv2d import masked_conv2d

__all__ = ["masked_conv2d"]
