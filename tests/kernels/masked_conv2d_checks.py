"""What every GPU backend of masked_conv2d must do, as one function, and a way to run it in a process of its own.

The tests run ``python masked_conv2d_checks.py triton|emulated [library] [barriers ...]`` (apart.py).
"""

import ctypes
import json
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from genfast.kernels.masked_conv2d.mask import causal_mask, num_taps
from genfast.kernels.masked_conv2d.reference import masked_conv2d as reference
from genfast.testing import MASKED_CONV2D_CASES, MaskedConv2dCase, assert_close_to_reference
from tests.kernels.apart import DTYPES, attempt, mostly_untouched, pointer, prepare, strided
from tests.kernels.needed import needed


class Backend(NamedTuple):
    """The three launchers, with the signatures of triton_launch.py."""

    forward: Callable[..., Tensor]
    bwd_input: Callable[..., Tensor]
    bwd_weight: Callable[..., tuple[Tensor, Tensor]]


def reference_with_gradients(
    x: Tensor, weight: Tensor, bias: Tensor | None, grad: Tensor, mask_type: str, color_groups: int
) -> list[Tensor]:
    """y, dx, dweight, dbias of the reference, by autograd."""
    bias = weight.new_zeros(weight.shape[0]) if bias is None else bias
    leaves = [t.detach().requires_grad_() for t in (x, weight, bias)]
    y = reference(*leaves, mask_type, color_groups)
    return [y, *torch.autograd.grad(y, leaves, grad)]


def check_case(backend: Backend, case: MaskedConv2dCase, dtype: torch.dtype, device: str = "cpu") -> None:
    """All four results against the reference; masked weights hold NaN and get gradients of exactly zero."""
    x, weight, bias, grad = case.inputs(dtype)
    masked = causal_mask(case.out_channels, case.in_channels, case.kernel_size, case.mask_type, case.color_groups) == 0
    poisoned = weight.masked_fill(masked, float("nan")).to(device)
    on_device = [None if t is None else t.to(device) for t in (x, bias, grad)]
    if case.layout == "sliced" and device != "cpu":  # .to() makes a slice dense
        sliced = case.inputs(dtype, device)
        on_device = [sliced[0], sliced[2], sliced[3]]
    x_d, bias_d, grad_d = on_device
    mask = (case.mask_type, case.color_groups)
    y = backend.forward(x_d, poisoned, bias_d, *mask)
    dx = backend.bwd_input(grad_d, poisoned, *mask)
    dweight, dbias = backend.bwd_weight(grad_d, x_d, case.kernel_size, *mask)
    assert_close_to_reference(
        [y, dx, dweight, dbias],
        reference_with_gradients,
        (x, weight, bias, grad, *mask),
        dtype,
        names=("y", "dx", "dweight", "dbias"),
    )
    assert bool((dweight.cpu()[masked] == 0).all()), "the gradient of a masked weight is not exactly zero."
    if dtype == torch.float32:
        again, _ = backend.bwd_weight(grad_d, x_d, case.kernel_size, *mask)
        assert torch.equal(again, dweight), "the same inputs gave another dweight."
    if case.layout == "channels_last":
        assert y.is_contiguous(memory_format=torch.channels_last), "y is not channels_last although x is."


def check_unread_pixels(backend: Backend, dtype: torch.dtype, device: str = "cpu") -> None:
    """A NaN in x reaches only the outputs whose taps cover it: nothing is read and multiplied by zero."""
    case = MaskedConv2dCase(1, 3, 5, 6, 5, (3, 3), "A")
    x, weight, bias, _ = case.inputs(dtype, device)
    x[:, :, 3, 2] = float("nan")
    y = backend.forward(x, weight, bias, "A", 1)
    touched = torch.zeros(6, 5, dtype=torch.bool)
    touched[3, 3] = True
    touched[4, 1:4] = True
    assert torch.equal(y.isnan().any(dim=1)[0].cpu(), touched), "a NaN spread to pixels that do not depend on it."


def check_far_offsets(backend: Backend, dtype: torch.dtype, device: str = "cpu") -> None:
    """Images more than 2**31 elements apart, in memory of which only the touched pages exist."""
    case = MaskedConv2dCase(2, 3, 4, 3, 3, (3, 3), "B")
    x, weight, bias, grad = case.inputs(dtype, device)
    far = 2**31 + 64
    memory = mostly_untouched(far + 64, dtype, device)

    def spread(image: Tensor) -> Tensor:
        view = memory.as_strided(image.shape, (far, 9, 3, 1))
        return view.copy_(image)

    far_x = spread(x)
    near = [backend.forward(x, weight, bias, "B", 1), *backend.bwd_weight(grad, x, (3, 3), "B", 1)]
    away = [backend.forward(far_x, weight, bias, "B", 1), *backend.bwd_weight(grad, far_x, (3, 3), "B", 1)]
    near.append(backend.bwd_input(grad, weight, "B", 1))
    away.append(backend.bwd_input(spread(grad), weight, "B", 1))
    for a, b in zip(near, away, strict=True):
        assert torch.equal(a, b), "images far apart in memory gave other numbers."


def run_table(backend: Backend, device: str = "cpu", quick: bool = False) -> dict[str, str]:
    """Every case of the table (quick: a few in float32): its name -> what failed, or nothing."""
    results: dict[str, str] = {}
    if quick:
        for case in MASKED_CONV2D_CASES[4:7]:
            attempt(results, f"{case.id}-float32", check_case, backend, case, torch.float32, device)
        return results
    for dtype_name, cases in table().items():
        dtype = DTYPES[dtype_name]
        for case in cases:
            attempt(results, f"{case.id}-{dtype_name}", check_case, backend, case, dtype, device)
        attempt(results, f"unread-{dtype_name}", check_unread_pixels, backend, dtype, device)
    attempt(results, "far-float16", check_far_offsets, backend, torch.float16, device)
    return results


def table() -> dict[str, tuple[MaskedConv2dCase, ...]]:
    """Every case in float32, and in the other dtypes a half of them each: what differs there is types, not indices."""
    even, odd = MASKED_CONV2D_CASES[::2], MASKED_CONV2D_CASES[1::2]
    return {"float32": MASKED_CONV2D_CASES, "float64": odd, "bfloat16": even, "float16": odd}


def case_names() -> list[str]:
    """The keys of run_table, without running anything."""
    names = [name for d, cases in table().items() for name in [*(f"{case.id}-{d}" for case in cases), f"unread-{d}"]]
    return [*names, "far-float16"]


def triton_backend() -> Backend:
    from genfast.kernels.masked_conv2d import triton_launch as k

    return Backend(k.masked_conv2d, k.masked_conv2d_bwd_input, k.masked_conv2d_bwd_weight)


def operator_backend() -> Backend:
    """The CUDA operators as csrc/ops/masked_conv2d_cuda.cpp registers them."""
    ops = torch.ops.genfast

    def taps(kernel_size: Any, mask_type: str, color_groups: int) -> tuple[int, int, bool]:
        return num_taps(tuple(kernel_size), mask_type, color_groups), color_groups, mask_type == "A"

    return Backend(
        lambda x, w, b, m, g: ops.masked_conv2d_cuda(x, w, b, *taps(w.shape[2:], m, g)),
        lambda grad, w, m, g: ops.masked_conv2d_bwd_input_cuda(grad, w, *taps(w.shape[2:], m, g)),
        lambda grad, x, k, m, g: ops.masked_conv2d_bwd_weight_cuda(grad, x, *k, *taps(k, m, g)),
    )


class Shape(ctypes.Structure):
    """MaskedConv2dShape in cuda.cuh."""

    _fields_ = (
        ("dtype", ctypes.c_int),
        ("batch", ctypes.c_int64),
        ("height", ctypes.c_int64),
        ("width", ctypes.c_int64),
        ("in_channels", ctypes.c_int),
        ("out_channels", ctypes.c_int),
        ("kernel_height", ctypes.c_int),
        ("kernel_width", ctypes.c_int),
        ("num_taps", ctypes.c_int),
        ("color_groups", ctypes.c_int),
        ("strict", ctypes.c_int),
    )


def emulated_backend(library: str) -> Backend:
    """The launchers of cuda.cu, built for the CPU with tests/emulation; every buffer has exactly its size."""
    lib = ctypes.CDLL(library)
    lib.masked_conv2d_packed_elements.restype = ctypes.c_int64
    lib.masked_conv2d_partial_elements.restype = ctypes.c_int64

    def shape(image: Tensor, o: int, i: int, kernel_size: Any, mask_type: str, color_groups: int) -> Any:
        b, _, h, w = image.shape
        taps = num_taps(tuple(kernel_size), mask_type, color_groups)
        code = list(DTYPES.values()).index(image.dtype)
        return ctypes.byref(Shape(code, b, h, w, i, o, *kernel_size, taps, color_groups, mask_type == "A"))

    def image_like(x: Tensor, channels: int) -> Tensor:
        last = not x.is_contiguous() and x.is_contiguous(memory_format=torch.channels_last)
        size = (x.shape[0], channels, *x.shape[2:])
        return torch.empty(size, dtype=x.dtype, memory_format=torch.channels_last if last else torch.contiguous_format)

    def conv(launcher: Any, x: Tensor, weight: Tensor, bias: tuple[Any, ...], written: int, mask: Any) -> Tensor:
        out = image_like(x, written)
        s = shape(x, weight.shape[0], weight.shape[1], weight.shape[2:], *mask)
        packed = torch.empty(lib.masked_conv2d_packed_elements(s), dtype=x.dtype)
        if out.numel():
            assert launcher(s, *strided(x), *strided(weight), *bias, *strided(out), pointer(packed), None) == 0
        return out

    def bwd_weight(grad: Tensor, x: Tensor, k: tuple[int, int], *mask: Any) -> tuple[Tensor, Tensor]:
        o, i = grad.shape[1], x.shape[1]
        if grad.numel() == 0:
            return grad.new_zeros(o, i, *k), grad.new_zeros(o)
        s = shape(x, o, i, k, *mask)
        dweight, dbias = grad.new_empty(o, i, *k), grad.new_empty(o)
        sum_dtype = torch.float64 if x.dtype == torch.float64 else torch.float32
        partials = torch.empty(lib.masked_conv2d_partial_elements(s), dtype=sum_dtype)
        outputs = (pointer(dweight), pointer(dbias), pointer(partials))
        assert lib.masked_conv2d_bwd_weight_cuda(s, *strided(grad), *strided(x), *outputs, None) == 0
        return dweight, dbias

    return Backend(
        lambda x, w, b, *mask: conv(lib.masked_conv2d_fwd_cuda, x, w, (pointer(b),), w.shape[0], mask),
        lambda grad, w, *mask: conv(lib.masked_conv2d_bwd_input_cuda, grad, w, (), w.shape[1], mask),
        bwd_weight,
    )


def main(arguments: list[str]) -> None:
    prepare()
    backend = triton_backend() if arguments[0] == "triton" else emulated_backend(arguments[1])
    if "barriers" in arguments:
        print(json.dumps(needed(arguments[1], arguments[3:], lambda: run_table(backend, quick=True))))
    else:
        print(json.dumps(run_table(backend)))


if __name__ == "__main__":
    main(sys.argv[1:])
