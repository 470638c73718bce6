"""What row_lstm and diagonal_lstm share: the checks of their inputs, and all that PyTorch asks of an operator."""

import importlib
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from genfast.kernels.lstm import scan
from genfast.kernels.lstm.reference import wide
from genfast.ops.autocast import without_autocast
from genfast.ops.backends import BACKENDS
from genfast.ops.layout import empty_as

Outputs = tuple[Tensor, Tensor, Tensor]  # h, and for backward the gates after their nonlinearity and the cells
Gradients = tuple[Tensor, Tensor, Tensor, Tensor]  # of x, weight, h0, c0


def check_inputs(x: Tensor, weight: Tensor, h0: Tensor, c0: Tensor) -> None:
    """Raises ValueError unless x is [B, 4h, H, W], weight [4h, h, taps], h0 and c0 [h], all of one floating dtype and
    on one device."""
    if x.dim() != 4:
        raise ValueError(f"x must be [B, 4h, H, W], but has {x.dim()} dimensions.")
    if weight.dim() != 3:
        raise ValueError(f"weight must be [4h, h, taps], but has {weight.dim()} dimensions.")
    hidden = weight.shape[1]
    if hidden == 0 or weight.shape[0] != 4 * hidden:
        raise ValueError(f"weight must be [4h, h, taps] with h at least 1, but is {list(weight.shape)}.")
    if x.shape[1] != 4 * hidden:
        raise ValueError(f"x has {x.shape[1]} channels, but weight needs 4h = {4 * hidden}.")
    for name, state in (("h0", h0), ("c0", c0)):
        if state.shape != (hidden,):
            raise ValueError(f"{name} must be [{hidden}], but is {list(state.shape)}.")
    for name, other in (("weight", weight), ("h0", h0), ("c0", c0)):
        if other.dtype != x.dtype or other.device != x.device:
            raise ValueError(
                f"{name} must have the dtype and device of x, {x.dtype} on {x.device}, but has {other.dtype} on "
                f"{other.device}."
            )
    if not x.is_floating_point():
        raise ValueError(f"x must hold floating-point numbers, not {x.dtype}.")


def keep_for_backward(*inputs: Tensor) -> bool:
    """Whether forward must keep its gates and cells: five numbers a hidden channel, which inference does without."""
    return torch.is_grad_enabled() and any(t.requires_grad for t in inputs)


def fake_outputs(x: Tensor, keep: bool) -> Outputs:
    """The shapes of an operator's outputs."""
    batch, four_h, height, width = x.shape
    h = empty_as(x, four_h // 4)
    if not keep:
        return h, x.new_empty(0, dtype=wide(x.dtype)), x.new_empty(0, dtype=wide(x.dtype))
    gates = x.new_empty((batch, height, width, four_h), dtype=wide(x.dtype))
    return h, gates, x.new_empty((batch, height, width, four_h // 4), dtype=wide(x.dtype))


def fake_gradients(gates: Tensor, weight: Tensor, h0: Tensor, c0: Tensor) -> Gradients:
    """The shapes of a backward operator's outputs: the gradient of x is channels_last, whatever x was."""
    dx = weight.new_empty(gates.shape).permute(0, 3, 1, 2)
    return dx, weight.new_empty(weight.shape), h0.new_empty(h0.shape), c0.new_empty(c0.shape)


def register(library: torch.library.Library, name: str, reference: Any, scan_of: Callable[..., scan.Scan]) -> None:
    """Implements genfast::NAME and genfast::NAME_bwd: kernels, shapes, gradients. ``library`` has their schemas, which
    take whatever tells how the scan goes (``way``) before keep and backend; ``reference`` is the module that computes
    them in plain PyTorch; ``scan_of(taps, *way)`` is the scan itself."""
    ops, backward = torch.ops.genfast, f"{name}_bwd"

    def run(x: Tensor, *rest: Any) -> Outputs:
        *inputs_and_way, keep, backend = rest
        out: Outputs
        if BACKENDS[backend] in ("cpu", "cuda"):  # in C++: csrc/ops
            out = getattr(ops, f"{name}_{BACKENDS[backend]}")(x, *inputs_and_way, keep)
            return out
        if BACKENDS[backend] == "triton":
            with without_autocast(x.device.type):
                out = triton_launch(name).forward(x, *inputs_and_way, keep)
            return out
        return reference_outputs(reference.forward, x, *inputs_and_way, keep=keep)

    def run_backward(grad: Tensor, *rest: Any) -> Gradients:
        *kept_inputs_and_way, backend = rest
        out: Gradients
        if BACKENDS[backend] == "cpu":
            out = getattr(ops, f"{backward}_cpu")(grad, *kept_inputs_and_way)
            return out
        if BACKENDS[backend] == "triton":
            with without_autocast(grad.device.type):
                out = triton_launch(name).backward(grad, *kept_inputs_and_way)
            return out
        if BACKENDS[backend] == "cuda":
            h, gates, c, weight, h0, c0, *way = kept_inputs_and_way
            with without_autocast(grad.device.type):
                dgates, dc = getattr(ops, f"{backward}_cuda")(grad, gates, c, weight, c0, *way)
                return scan.gradients(scan_of(weight.shape[2], *way), dgates, dc, h, weight, h0)
        return reference_gradients(reference.backward, grad, *kept_inputs_and_way)

    def fake(x: Tensor, *rest: Any) -> Outputs:
        return fake_outputs(x, keep=rest[-2])

    def fake_backward(grad: Tensor, h: Tensor, gates: Tensor, c: Tensor, *rest: Any) -> Gradients:
        return fake_gradients(gates, *rest[:3])

    def differentiate(ctx: Any, grad: Tensor | None, *_: Any) -> tuple[Any, ...]:
        return gradients(ctx, getattr(ops, backward), grad)

    def refuse(ctx: Any, *_: Any) -> tuple[Any, ...]:
        raise RuntimeError(
            f"{name} has first derivatives only: for higher ones, on small maps, use "
            f"genfast.kernels.{name}.reference.{name}, which is plain PyTorch."
        )

    library.impl(name, run, "CompositeExplicitAutograd")
    library.impl(backward, run_backward, "CompositeExplicitAutograd")
    torch.library.register_fake(f"genfast::{name}", fake, lib=library)
    torch.library.register_fake(f"genfast::{backward}", fake_backward, lib=library)
    torch.library.register_autograd(f"genfast::{name}", differentiate, setup_context=setup_context, lib=library)
    torch.library.register_autograd(f"genfast::{backward}", refuse, lib=library)


def triton_launch(name: str) -> Any:
    """The module of an operator's Triton launchers, imported when they are first wanted: it imports triton."""
    return importlib.import_module(f"genfast.kernels.{name}.triton_launch")


def reference_outputs(forward: Any, x: Tensor, *args: Any, keep: bool) -> Outputs:
    """What the reference's ``forward(x, *args)`` computes, in the memory formats of every backend."""
    with without_autocast(x.device.type):
        computed = forward(x, *args)
    out = fake_outputs(x, keep)
    for to, value in zip(out if keep else out[:1], computed, strict=keep):
        to.copy_(value)
    return out


def reference_gradients(backward: Any, grad: Tensor, *args: Any) -> Gradients:
    with without_autocast(grad.device.type):
        dx, *others = backward(grad, *args)
    return dx.contiguous(memory_format=torch.channels_last), others[0], others[1], others[2]


def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Outputs) -> None:
    """inputs: x, weight, h0, c0, whatever tells how, keep, backend."""
    _, weight, h0, c0, *how, keep, backend = inputs
    ctx.keep, ctx.how = keep, (*how, backend)
    ctx.mark_non_differentiable(*output[1:])
    ctx.set_materialize_grads(False)  # zeros as large as the gates and cells, a tenth of a training step
    ctx.save_for_backward(*output, weight, h0, c0)


def gradients(ctx: Any, operator: Any, grad: Tensor | None) -> tuple[Any, ...]:
    """One gradient for each input of the operator: x, weight, h0, c0, and None for the rest. ``operator`` is its
    _bwd."""
    if not ctx.keep:
        raise RuntimeError("There is nothing to go backward from: call the operator with keep=True.")
    if grad is None:  # nothing that was asked for depends on h
        return (None,) * (5 + len(ctx.how))
    computed = operator(grad, *ctx.saved_tensors, *ctx.how)
    return *computed, *[None] * (len(ctx.how) + 1)
