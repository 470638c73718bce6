"""The work of a call of one of our operators, from its arguments: the formulas are in kernels/*/work.py."""

from collections.abc import Callable, Sequence
from typing import Any

from genfast.kernels.common.work import Work
from genfast.kernels.gated_activation import work as gate
from genfast.kernels.logistic_mixture import work as mixture
from genfast.kernels.lstm import work as lstm
from genfast.kernels.masked_conv2d import work as conv
from genfast.kernels.masked_conv2d.mask import MASK_TYPES


def _pixels(x: Any) -> int:
    return int(x.shape[0] * x.shape[2] * x.shape[3])


def _conv(x: Any, weight: Any, bias: Any, mask: int, groups: int, backend: int) -> Work:
    out_channels, in_channels, kh, kw = weight.shape
    return conv.work(_pixels(x), out_channels, in_channels, (kh, kw), MASK_TYPES[mask], groups)


def _conv_bwd_input(grad: Any, weight: Any, mask: int, groups: int, backend: int) -> Work:
    return _conv(grad, weight, None, mask, groups, backend)


def _conv_bwd_weight(grad: Any, x: Any, kh: int, kw: int, mask: int, groups: int, backend: int) -> Work:
    return conv.work(_pixels(x), grad.shape[1], x.shape[1], (kh, kw), MASK_TYPES[mask], groups)


def _gate(x: Any, groups: int, backend: int) -> Work:
    return gate.work(x.numel() // 2)


def _gate_bwd(grad: Any, x: Any, groups: int, backend: int) -> Work:
    return gate.work(grad.numel())


def _lstm(x: Any, weight: Any, *rest: Any) -> Work:
    return lstm.forward(_pixels(x), weight.shape[1], weight.shape[2])


def _lstm_bwd(grad: Any, h: Any, gates: Any, c: Any, weight: Any, *rest: Any) -> Work:
    return lstm.backward(_pixels(grad), weight.shape[1], weight.shape[2])


def _mixture(params: Any, images: Any, components: int, *rest: Any) -> Work:
    return mixture.work(_pixels(images), images.shape[1], components)


def _mixture_bwd(grad: Any, params: Any, images: Any, components: int, *rest: Any) -> Work:
    return _mixture(params, images, components)


FORMULAS: dict[str, Callable[..., Work]] = {
    "genfast::masked_conv2d": _conv,
    "genfast::masked_conv2d_bwd_input": _conv_bwd_input,
    "genfast::masked_conv2d_bwd_weight": _conv_bwd_weight,
    "genfast::gated_activation": _gate,
    "genfast::gated_activation_bwd": _gate_bwd,
    "genfast::row_lstm": _lstm,
    "genfast::row_lstm_bwd": _lstm_bwd,
    "genfast::diagonal_lstm": _lstm,
    "genfast::diagonal_lstm_bwd": _lstm_bwd,
    "genfast::logistic_mixture": _mixture,
    "genfast::logistic_mixture_bwd": _mixture_bwd,
}


def work(operator: str, args: Sequence[Any]) -> Work:
    """FLOPs and exponentials of a call; args as the schema has them. Raises KeyError for an operator not of ours."""
    return FORMULAS[operator](*args)
