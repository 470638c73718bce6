"""What every GPU backend of logistic_mixture must do, as one function.

The tests run ``python logistic_mixture_checks.py triton|emulated [library] [barriers ...]`` (apart.py).
"""

import ctypes
import json
import math
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from genfast.ops.backends import BACKENDS
from genfast.testing import assert_close_to_reference, unit_roundoff
from genfast.testing.cases import arrange
from tests.kernels.apart import DTYPES, attempt, mostly_untouched, prepare, strided
from tests.kernels.needed import needed
from tests.ops.logistic_mixtures import CASES, is_log_scale, make_inputs, param_channels, run_reference

SMALL = [case for case in CASES if case[2] * case[3] < 200]


class Backend(NamedTuple):
    """What the operators take: (params, images, components, levels, min_log_scale), and grad before them."""

    forward: Callable[..., Tensor]
    backward: Callable[..., Tensor]


def both(backend: Backend, params: Tensor, images: Tensor, grad: Tensor, case: tuple, least: float = -7.0):
    """ln P and the gradient of params."""
    how = (case[4] or 0, case[5], least)
    return backend.forward(params, images, *how), backend.backward(grad, params, images, *how)


def check_case(backend: Backend, case: tuple, dtype: torch.dtype, device: str) -> None:
    """Both results against the reference. Of 16-bit parameters ln P is float32, and the gradient is rounded once."""
    params, images, grad = make_inputs(case, dtype)
    images, wide = arrange(images, "swapped"), torch.promote_types(dtype, torch.float32)
    inputs = (params.to(wide), images, grad.to(wide))
    on_device = arrange(params.to(device), case[6]), images.to(device), grad.to(wide).to(device)
    out, dparams = both(backend, *on_device, case)
    assert dparams.dtype == dtype
    assert_close_to_reference(out, lambda *args: run_reference(*args, case)[0], inputs, wide, names=("ln P",))
    assert_close_to_reference(
        dparams.to(wide),
        lambda *args: run_reference(*args, case)[1],
        inputs,
        wide,
        precision=unit_roundoff(dtype),
        names=("dparams",),
    )
    if case[6] == "channels_last":
        assert dparams.is_contiguous(memory_format=torch.channels_last)
    if dtype == torch.float32:  # the last image alone
        one = both(backend, *(t[-1:] for t in on_device), case)
        assert torch.equal(one[0][0], out[-1])
        assert torch.equal(one[1][0], dparams[-1])


def check_sum_to_one(backend: Backend, components: int | None, dtype: torch.dtype, device: str) -> None:
    """The probabilities of all 17 levels, for log-scales from -20 to 20 and means inside, on an edge and far out."""
    log_scales = torch.tensor([-20.0, -7, -5, -2, 0, 3, 20])
    means = torch.tensor([0.0, 1 / 16, -1, 1, 1.5, -50, 1e4, -1e10])
    grid = torch.stack(torch.meshgrid(means, log_scales, indexing="ij"))[None]  # [1, 2, 8, 7]
    if components:
        logits, spread = torch.randn(1, 3, 8, 7), torch.tensor([0.0, 0.03, -0.4])[None, :, None, None]
        grid = torch.cat([logits, grid[:, :1] + spread, grid[:, 1:] + spread], 1)
    every = torch.arange(17, dtype=torch.uint8)[:, None, None, None].expand(17, 1, 8, 7)
    params = grid.to(device, dtype).expand(17, -1, -1, -1)
    total = backend.forward(params, every.to(device), components or 0, 17, -math.inf).double().exp().sum(0)
    torch.testing.assert_close(total, torch.ones_like(total), rtol=0, atol=1e-5 if dtype == torch.float32 else 1e-13)


def check_extremes(backend: Backend, components: int | None, dtype: torch.dtype, device: str) -> None:
    """Every combination is finite, forward and backward, and what float64 says it is."""
    log_scales = torch.tensor([-1e4, -100.0, -20, -7, 7, 20, 100, 1e4])
    means = torch.tensor([0.0, 1, -1, 3, -1e3, 1e10, -1e30])
    params = torch.stack(torch.meshgrid(means, log_scales, indexing="ij"))[None].repeat(5, 1, 1, 1)
    if components:
        logits = torch.tensor([1e4, -1e4])[None, :, None, None].expand(5, 2, 7, 8)
        params = torch.cat([logits, params[:, :1], params[:, :1] / 2, params[:, 1:], params[:, 1:]], 1)
    params = params.to(dtype)
    images = torch.tensor([0, 1, 127, 254, 255], dtype=torch.uint8)[:, None, None, None].expand(5, 1, 7, 8)
    grad = torch.ones((5, 1, 7, 8) if components is None else (5, 7, 8), dtype=dtype)
    case = (5, 1, 7, 8, components, 256, "contiguous")
    actual = both(backend, params.to(device), images.to(device), grad.to(device), case, -math.inf)
    truth = run_reference(params.double(), images, grad.double(), case, -math.inf)
    assert all(bool(t.isfinite().all()) for t in actual)
    tolerance = {"rtol": 1e-4, "atol": 1e-5} if dtype == torch.float32 else {"rtol": 1e-9, "atol": 1e-12}
    torch.testing.assert_close(actual[0].double().cpu(), truth[0], **tolerance)


def check_nan_stays(backend: Backend, components: int | None, device: str) -> None:
    """A NaN in any parameter of a pixel makes that pixel's ln P NaN, and changes no other pixel."""
    channels = param_channels(3, components)
    case = (channels + 1, 3, 2, 3, components, 256, "contiguous")
    params, images, grad = (t[:1].expand(channels + 1, *t.shape[1:]).clone() for t in make_inputs(case, torch.float32))
    for channel in range(channels):
        params[channel, channel, 1, 2] = math.nan
    out, dparams = both(backend, params.to(device), images.to(device), grad.to(device), case)
    bad = out.isnan().flatten(1, -3).any(1) if components is None else out.isnan()
    expected = torch.zeros(channels + 1, 2, 3, dtype=torch.bool)
    expected[:channels, 1, 2] = True
    assert torch.equal(bad.cpu(), expected)
    assert not bool(dparams.cpu().movedim(1, -1)[~expected].isnan().any())


def check_raised_log_scales(backend: Backend, device: str) -> None:
    """A log-scale below the least counts as that, and has gradient zero."""
    case = (2, 3, 3, 4, 2, 256, "contiguous")
    params, images, grad = (t.to(device) for t in make_inputs(case, torch.float32))
    low = params.clone()
    logs = is_log_scale(3, 2).to(device)[None, :, None, None] & (torch.rand_like(params) < 0.5)
    low[logs], params[logs] = -9.0, -3.0
    out, dparams = both(backend, low, images, grad, case, -3.0)
    assert torch.equal(out, both(backend, params, images, grad, case, -3.0)[0])
    assert bool((dparams[logs] == 0).all())


def check_far_offsets(backend: Backend, dtype: torch.dtype, device: str) -> None:
    """Images more than 2**31 elements apart."""
    for components in (2, None):
        case = (2, 3, 2, 3, components, 256, "contiguous")
        params, images, grad = make_inputs(case, dtype)
        params, images, grad = params.to(device), images.to(device), grad.float().to(device)
        far = 2**31 + 64
        memory = mostly_untouched(far + params[0].numel(), dtype, device)
        away = memory.as_strided(params.shape, (far, *params.stride()[1:])).copy_(params)
        near = both(backend, params, images, grad, case)
        assert all(torch.equal(a, b) for a, b in zip(both(backend, away, images, grad, case), near, strict=True))


def check_empty(backend: Backend, device: str) -> None:
    for shape in ((0, 3, 4, 5), (2, 3, 0, 5), (2, 3, 4, 0)):
        params, images = torch.randn(shape[0], 20, *shape[2:]), torch.zeros(shape, dtype=torch.uint8)
        grad = torch.zeros(shape[0], *shape[2:])
        out, dparams = both(backend, params.to(device), images.to(device), grad.to(device), (*shape, 2, 256))
        assert out.shape == grad.shape
        assert dparams.shape == params.shape


def checks(device: str) -> list[tuple[Any, ...]]:
    """(name, check, its arguments after the backend). Every case in float32, some in the other dtypes: what differs
    there is types, not indices."""
    wanted = {"float32": SMALL, "float64": SMALL[5:7], "bfloat16": SMALL[3:5], "float16": SMALL[7:9]}
    found: list[tuple[Any, ...]] = []
    for name, cases in wanted.items():
        found += [(f"{'-'.join(map(str, case))}-{name}", check_case, case, DTYPES[name], device) for case in cases]
    for components in (None, 3):
        for name in ("float32", "float64"):
            found.append((f"sum-{components}-{name}", check_sum_to_one, components, DTYPES[name], device))
    for components in (None, 2):
        for name in ("float32", "float64"):
            found.append((f"extremes-{components}-{name}", check_extremes, components, DTYPES[name], device))
        found.append((f"nan-{components}", check_nan_stays, components, device))
    found.append(("raised", check_raised_log_scales, device))
    found.append(("far-float16", check_far_offsets, torch.float16, device))
    found.append(("empty", check_empty, device))
    return found


def run_table(backend: Backend, device: str = "cpu", quick: bool = False) -> dict[str, str]:
    """Every check (quick: a few in float32): its name -> what failed, or nothing."""
    results: dict[str, str] = {}
    for name, check, *arguments in checks(device)[2:4] if quick else checks(device):
        torch.manual_seed(0)
        attempt(results, name, check, backend, *arguments)
    return results


def case_names() -> list[str]:
    """The keys of run_table, without running anything."""
    return [name for name, *_ in checks("cpu")]


def gpu_backend(name: str) -> Backend:
    """What the operators run on CUDA tensors for a backend asked for by name; Triton's kernels take CPU tensors too
    where they are interpreted."""
    from genfast.ops import logistic_mixture_gpu as gpu

    how = BACKENDS.index(name)
    return Backend(lambda *args: gpu.forward(*args, how), lambda *args: gpu.backward(*args, how))


class Shape(ctypes.Structure):
    """LogisticMixtureShape in cuda.cuh."""

    _fields_ = (
        ("dtype", ctypes.c_int),
        ("batch", ctypes.c_int64),
        ("height", ctypes.c_int64),
        ("width", ctypes.c_int64),
        ("channels", ctypes.c_int),
        ("components", ctypes.c_int),
        ("levels", ctypes.c_int),
        ("min_log_scale", ctypes.c_double),
    )


def emulated_backend(library: str) -> Backend:
    """The launchers of cuda.cu, built for the CPU with tests/emulation; every buffer has exactly its size."""
    lib = ctypes.CDLL(library)

    def shape(params: Tensor, images: Tensor, components: int, levels: int, least: float) -> Any:
        code = list(DTYPES.values()).index(params.dtype)
        s = Shape(code, params.shape[0], *params.shape[2:], images.shape[1], components, levels, least)
        assert lib.logistic_mixture_fits_cuda(ctypes.byref(s)), "one pixel does not fit in shared memory."
        return ctypes.byref(s)

    def forward(params: Tensor, images: Tensor, components: int, *how: Any) -> Tensor:
        results = 1 if components else images.shape[1]
        size = (images.shape[0], results, *images.shape[2:])
        out = torch.empty(size, dtype=torch.promote_types(params.dtype, torch.float32))
        if out.numel():
            s = shape(params, images, components, *how)
            arguments = (*strided(params), *strided(images), *strided(out), None)
            assert lib.logistic_mixture_fwd_cuda(s, *arguments) == 0
        return out[:, 0] if components else out

    def backward(grad: Tensor, params: Tensor, images: Tensor, components: int, *how: Any) -> Tensor:
        last = not params.is_contiguous() and params.is_contiguous(memory_format=torch.channels_last)
        memory_format = torch.channels_last if last else torch.contiguous_format
        dparams = torch.empty(params.shape, dtype=params.dtype, memory_format=memory_format)
        if dparams.numel():
            s = shape(params, images, components, *how)
            grad = grad[:, None] if components else grad
            arguments = (*strided(grad), *strided(params), *strided(images), *strided(dparams), None)
            assert lib.logistic_mixture_bwd_cuda(s, *arguments) == 0
        return dparams

    return Backend(forward, backward)


def main(arguments: list[str]) -> None:
    prepare()
    backend = gpu_backend("triton") if arguments[0] == "triton" else emulated_backend(arguments[1])
    if "barriers" in arguments:
        print(json.dumps(needed(arguments[1], arguments[3:], lambda: run_table(backend, quick=True))))
    else:
        print(json.dumps(run_table(backend)))


if __name__ == "__main__":
    main(sys.argv[1:])
