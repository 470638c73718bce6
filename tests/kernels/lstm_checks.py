"""What every GPU backend of row_lstm and diagonal_lstm must do, as one function, through the operators themselves.

The tests run ``python lstm_checks.py triton|emulated [library] [barriers ...]`` (apart.py). Sizes are tiny, for an
interpreter that takes a fifth of a second a line; on a GPU the sizes of real models come on top. CUDA C++ is emulated
on several GPUs, which differ in what fits in the shared memory of a block (lstm_emulation.py).
"""

import json
import os
import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from genfast.ops.backends import BACKENDS
from genfast.testing import assert_close_to_reference
from genfast.testing.cases import arrange
from tests.kernels.apart import DTYPES, attempt, mostly_untouched, prepare
from tests.kernels.lstm_emulation import A100, GPU, H100, NOTHING_FITS, only_weights_fit, register_emulated
from tests.kernels.needed import needed
from tests.ops.lstm_scans import DIAGONAL, REVERSE, ROW, SCANS, Scan, gradients, make_inputs

ONE_TAP, FIVE_TAPS = (replace(ROW, label=f"row {taps} taps", taps=taps) for taps in (1, 5))
FAKES = ("test_schema", "test_faketensor")
CASES = [  # scan, (B, h, H, W), layout, dtype
    (ROW, (2, 5, 3, 3), "sliced", "float32"),
    (ROW, (1, 33, 2, 2), "channels_last", "float32"),  # more hidden channels than one tile has
    (ROW, (1, 3, 2, 40), "contiguous", "float32"),  # more slots than one tile has
    (ROW, (1, 3, 3, 2), "contiguous", "float16"),
    (ONE_TAP, (1, 3, 2, 3), "swapped", "float64"),
    (FIVE_TAPS, (1, 2, 2, 1), "contiguous", "float32"),  # taps beyond both ends
    (DIAGONAL, (2, 5, 3, 2), "sliced", "float32"),
    (DIAGONAL, (1, 33, 2, 2), "channels_last", "bfloat16"),
    (DIAGONAL, (1, 4, 1, 1), "contiguous", "float32"),
    (REVERSE, (1, 3, 3, 2), "swapped", "float32"),
    (REVERSE, (1, 2, 1, 2), "contiguous", "float64"),
    (REVERSE, (1, 2, 2, 1), "contiguous", "float64"),
]
MANY_TURNS = [  # of every thread, unless several blocks share the image
    (ROW, (1, 70, 2, 33), "contiguous", "float32"),
    (REVERSE, (1, 33, 34, 2), "contiguous", "float64"),
]
MORE_CASES = [  # odd sizes; clusters of eight blocks
    *MANY_TURNS,
    *((scan, (3, 5, *size), "contiguous", "float32") for scan in SCANS for size in ((1, 1), (1, 7), (6, 1), (5, 7))),
    *((scan, (1, 128, 2, 3), "channels_last", "float32") for scan in (ROW, DIAGONAL)),
    (DIAGONAL, (1, 128, 2, 2), "channels_last", "bfloat16"),
]
SHARED_OUT = [  # what of them fits where makes a difference
    (ROW, (2, 33, 3, 5), "channels_last", "float32"),
    (DIAGONAL, (1, 34, 4, 5), "contiguous", "bfloat16"),
    (REVERSE, (1, 33, 5, 4), "sliced", "float64"),
]
REAL = [
    (scan, shape, "channels_last", dtype)
    for scan in SCANS
    for shape in ((3, 16, 28, 28), (2, 64, 32, 32), (2, 128, 33, 65))
    for dtype in DTYPES
]
# Many images, and one alone; weights that no multiprocessor holds.
REAL += [(scan, (200, 64, 9, 7), "channels_last", "float32") for scan in SCANS]
REAL += [(scan, (2, 512, 3, 5), "contiguous", "float32") for scan in SCANS]


def operator(scan: Scan, backend: str, keep: bool = True) -> Callable[..., Tensor]:
    """The operator as a function of x, weight, h0 and c0, on whatever tensors: Triton's kernels take CPU tensors where
    they are interpreted."""
    op, how = getattr(torch.ops.genfast, scan.name), BACKENDS.index(backend)
    return lambda *inputs: op(*inputs, *scan.way, keep, how)[0]


def on_device(inputs: Any, layout: str, device: str) -> list[Tensor]:
    """The same tensors there; .to() makes a slice dense."""
    x, *states, grad = inputs
    return [arrange(x.to(device), layout), *(t.to(device) for t in states), arrange(grad.to(device), layout)]


def check_case(backend: str, scan: Scan, shape: Any, layout: str, dtype_name: str, device: str) -> None:
    """h and every gradient in the budget, the memory format of x, and the same bits again and from an image alone."""
    dtype = DTYPES[dtype_name]
    cpu_inputs = make_inputs(shape, scan.taps, dtype, layout)
    *inputs, grad = on_device(cpu_inputs, layout, device)
    actual = gradients(operator(scan, backend), inputs, grad)
    names = ("h", "dx", "dweight", "dh0", "dc0")
    budget = {}
    if dtype == torch.float32 and torch.backends.cuda.matmul.fp32_precision == "tf32":
        budget = {"precision": 2.0**-11}

    def run_reference(*args: Tensor) -> list[Tensor]:
        return gradients(scan.reference, args[:4], args[4])

    assert_close_to_reference(actual, run_reference, cpu_inputs, dtype, names=names, **budget)
    last = layout == "channels_last" and not inputs[0].is_contiguous()
    assert actual[0].is_contiguous(memory_format=torch.channels_last if last else torch.contiguous_format)
    with torch.no_grad():
        alone = operator(scan, backend, keep=False)(inputs[0][-1:], *inputs[1:])
    assert torch.equal(alone[0], actual[0][-1]), "an image alone gave other numbers, or keep changed them."
    if device != "cpu":
        again = gradients(operator(scan, backend), inputs, grad)
        assert all(torch.equal(a, b) for a, b in zip(actual, again, strict=True)), "equal inputs gave other numbers."


def check_huge_inputs(backend: str, scan: Scan, device: str) -> None:
    """Pre-activations up to the largest number there is saturate the gates; outputs and gradients stay finite."""
    *inputs, grad = (t.to(device) for t in make_inputs((1, 3, 1, 2), scan.taps, torch.float32))
    inputs[0] = (inputs[0].sign() * torch.finfo(torch.float32).max / 2).contiguous()
    inputs[0][:, :, 0, 0] = 100
    assert all(bool(t.isfinite().all()) for t in gradients(operator(scan, backend), inputs, grad))


def check_nan_stays(backend: str, scan: Scan, device: str) -> None:
    """A NaN in x reaches the pixels after it in its own image, and no other."""
    *inputs, grad = (t.to(device) for t in make_inputs((2, 2, 2, 2), scan.taps, torch.float32))
    x = inputs[0]
    x[0, :, 0, 1] = float("nan")
    h = operator(scan, backend)(*inputs).cpu()
    expected = scan.reference(*(t.cpu() for t in inputs))
    assert torch.equal(h.isnan(), expected.isnan())
    assert 0 < int(h.isnan().sum()) < h[0].numel()


def check_far_offsets(backend: str, scan: Scan, device: str) -> None:
    """Images more than 2**31 elements apart."""
    x, weight, h0, c0, grad = (t.to(device) for t in make_inputs((2, 2, 1, 2), scan.taps, torch.float16))
    far = 2**31 + 64
    near = gradients(operator(scan, backend), (x, weight, h0, c0), grad)
    away = []
    for image in (x, grad):
        memory = mostly_untouched(far + image[0].numel(), image.dtype, device)
        away.append(memory.as_strided(image.shape, (far, *image.stride()[1:])).copy_(image))
    other = gradients(operator(scan, backend), (away[0], weight, h0, c0), away[1])
    assert all(torch.equal(a, b) for a, b in zip(near, other, strict=True))


def check_opcheck(backend: str, scan: Scan, device: str) -> None:
    """Shapes and strides as PyTorch's compiler wants them."""
    x, weight, h0, c0, grad = make_inputs((2, 2, 1, 2), scan.taps, torch.float32, "channels_last")
    how = (*scan.way, True, BACKENDS.index(backend))
    leaves = [t.to(device).requires_grad_() for t in (x, weight, h0, c0)]
    forward, backward = getattr(torch.ops.genfast, scan.name), getattr(torch.ops.genfast, f"{scan.name}_bwd")
    torch.library.opcheck(forward, (*leaves, *how), test_utils=FAKES)
    kept = [t.detach() for t in (*forward(*leaves, *how), *leaves[1:])]
    torch.library.opcheck(backward, (grad.to(device), *kept, *scan.way, BACKENDS.index(backend)), test_utils=FAKES)


def check_gpus_agree(backend: str, scan: Scan, device: str) -> None:
    """The same bits, however many blocks share an image and whatever of it fits in their shared memory."""
    *inputs, grad = make_inputs((2, 33, 3, 5), scan.taps, torch.float32)
    results = []
    for gpu in (H100, A100, NOTHING_FITS, *only_weights_fit(scan.taps, 33, 4)):
        os.environ["GENFAST_EMULATED_GPU"] = gpu.described
        results.append(gradients(operator(scan, backend), inputs, grad))
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(other, results[0], strict=True))


def check_emulated(backend: str, gpu: GPU, check: Callable[..., None], *args: Any) -> None:
    os.environ["GENFAST_EMULATED_GPU"] = gpu.described
    check(backend, *args)


def check_empty(backend: str, scan: Scan, device: str) -> None:
    for shape in ((0, 3, 4, 5), (2, 3, 0, 5), (2, 3, 4, 0)):
        *inputs, grad = (t.to(device) for t in make_inputs(shape, scan.taps, torch.float32))
        h, dx, *others = gradients(operator(scan, backend), inputs, grad)
        assert h.shape == grad.shape
        assert dx.shape == inputs[0].shape
        assert not any(bool(t.any()) for t in others)


def checks(device: str) -> list[tuple[Any, ...]]:
    """(name, check, its arguments after the backend)."""
    found: list[tuple[Any, ...]] = []
    for scan, shape, layout, dtype in CASES + (MORE_CASES + REAL if device != "cpu" else []):
        found.append((f"{scan}-{shape}-{layout}-{dtype}", check_case, scan, shape, layout, dtype, device))
    for scan in (ROW, DIAGONAL):
        found.append((f"{scan}-nan", check_nan_stays, scan, device))
        found.append((f"{scan}-empty", check_empty, scan, device))
    found.append(("huge", check_huge_inputs, ROW, device))
    found.append(("far", check_far_offsets, ROW, device))
    found.append(("opcheck", check_opcheck, ROW, device))
    return found


def emulated_checks(quick: bool = False) -> list[tuple[Any, ...]]:
    """The same on an emulated H100, and some of it on other GPUs. Quick: each barrier is needed by one of these."""
    found: list[tuple[Any, ...]] = []
    for scan, shape, layout, dtype in SHARED_OUT[:2] if quick else SHARED_OUT:
        fits = only_weights_fit(scan.taps, shape[1], DTYPES[dtype].itemsize)
        for gpu in (H100, A100) if quick else (H100, A100, NOTHING_FITS, *fits):
            case = (scan, shape, layout, dtype, "cpu")
            found.append((f"{scan}-{shape}-{dtype}-{gpu.name}", check_emulated, gpu, check_case, *case))
    if quick:
        return found
    found += [(f"{scan}-agree", check_gpus_agree, scan, "cpu") for scan in (ROW, REVERSE)]
    for scan, shape, layout, dtype in MORE_CASES:
        case = (scan, shape, layout, dtype, "cpu")
        found.append((f"{scan}-{shape}-{dtype}", check_emulated, H100, check_case, *case))
    for scan, shape, layout, dtype in MANY_TURNS:
        case = (scan, shape, layout, dtype, "cpu")
        found.append((f"{scan}-{shape}-{dtype}-{A100.name}", check_emulated, A100, check_case, *case))
    return found + [(name, check_emulated, H100, *rest) for name, *rest in checks("cpu")]


def run_table(backend: str, table: list[tuple[Any, ...]]) -> dict[str, str]:
    results: dict[str, str] = {}
    for name, check, *arguments in table:
        attempt(results, name, check, backend, *arguments)
    return results


def names(table: list[tuple[Any, ...]]) -> list[str]:
    """The keys of run_table, without running anything."""
    return [name for name, *_ in table]


def main(arguments: list[str]) -> None:
    prepare()
    results: dict[str, Any]
    if arguments[0] == "emulated":
        register_emulated(arguments[1])
    if "barriers" in arguments:
        results = needed(arguments[1], arguments[3:], lambda: run_table("cuda", emulated_checks(quick=True)))
    elif arguments[0] == "emulated":
        results = run_table("cuda", emulated_checks())
    else:
        results = run_table(arguments[0], checks("cpu"))
    print(json.dumps(results))


if __name__ == "__main__":
    main(sys.argv[1:])
