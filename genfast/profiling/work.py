"""The work of any operator call that PyTorch dispatches: ours by their own formulas, ATen's products by PyTorch's."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from genfast.kernels.common.work import Work
from genfast.ops import work as ours

# Operators of ATen with an exponential, a logarithm or a tanh for each number that comes out.
EXPONENTIALS = {
    *("exp", "exp_", "expm1", "log", "log_", "log1p", "tanh", "tanh_", "sigmoid", "sigmoid_"),
    *("softplus", "elu", "elu_", "gelu", "silu", "erf", "log_sigmoid_forward"),
    *("_softmax", "_log_softmax", "_log_softmax_backward_data", "logsumexp"),
}
WRITE_ONLY = {"copy_", "zero_", "fill_", "normal_", "uniform_", "bernoulli_", "random_", "exponential_"}
GATHERS = {"embedding", "index", "index_select", "gather", "take", "index_put_"}  # of which only what is chosen is read


def call_work(func: Any, args: Sequence[Any], kwargs: dict[str, Any], out: Any) -> Work:
    """FLOPs, exponentials and bytes of one call. func: a torch._ops.OpOverload, called with these arguments."""
    name = func._schema.name
    moved = moved_bytes(func, args, kwargs, out)
    if name in ours.FORMULAS:
        return ours.work(name, args) + Work(bytes=moved)
    short = name.rpartition("::")[2]
    exponentials = 0
    if short in EXPONENTIALS:
        first = next((leaf for leaf in tree_leaves(out) if isinstance(leaf, Tensor)), None)
        exponentials = 0 if first is None else first.numel()
        if short in ("_softmax", "_log_softmax", "logsumexp") and isinstance(args[0], Tensor):
            exponentials = args[0].numel()
    return Work(_aten_flops(func, args, kwargs, out), exponentials, moved)


def _aten_flops(func: Any, args: Sequence[Any], kwargs: dict[str, Any], out: Any) -> int:
    from torch.utils.flop_counter import flop_registry

    formula: Any = flop_registry.get(func._overloadpacket)
    return 0 if formula is None else int(formula(*args, **kwargs, out_val=out))


def moved_bytes(func: Any, args: Sequence[Any], kwargs: dict[str, Any], out: Any) -> int:
    """Every tensor that goes in or comes out, once; one that is changed in place, twice, unless it is only written.

    A view moves nothing. Of a tensor from which an index chooses, only what is chosen counts.
    """
    if func.is_view or func._schema.name in ("aten::_unsafe_view", "aten::_reshape_alias", "aten::lift_fresh"):
        return 0
    short = func._schema.name.rpartition("::")[2]
    if short.startswith("empty") or short.startswith("new_empty"):
        return 0
    given = [t for t in tree_leaves((args, kwargs)) if isinstance(t, Tensor)]
    made = [t for t in tree_leaves(out) if isinstance(t, Tensor) and not any(t is g for g in given)]
    changed: list[Tensor] = []
    for i, argument in enumerate(func._schema.arguments):
        if argument.alias_info is not None and argument.alias_info.is_write:
            value = args[i] if i < len(args) else kwargs.get(argument.name)
            changed += [t for t in tree_leaves(value) if isinstance(t, Tensor)]
    total = sum(map(tensor_bytes, made)) + sum(map(tensor_bytes, changed))
    if short in GATHERS:
        indices = sum(tensor_bytes(t) for t in given if not t.is_floating_point())
        return total + indices + sum(map(tensor_bytes, made))
    if short in WRITE_ONLY:
        given = [t for t in given if not any(t is c for c in changed)]
    return total + sum(map(tensor_bytes, given))


def tensor_bytes(tensor: Tensor) -> int:
    """What lies behind a tensor: numbers that ``expand`` repeats count once."""
    if tensor.layout != torch.strided:
        return tensor.numel() * tensor.element_size()
    numbers = 1
    for size, stride in zip(tensor.shape, tensor.stride(), strict=True):
        numbers *= size if stride or size == 0 else 1
    return numbers * tensor.element_size()
