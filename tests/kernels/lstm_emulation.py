"""The CUDA C++ scan of row_lstm and diagonal_lstm on a CPU: the launchers of kernels/lstm/cuda.cu, built with
tests/emulation, as the operators that csrc/ops/lstm_cuda.cpp registers for CUDA tensors."""

import ctypes
import os
from typing import Any, NamedTuple

import torch
from torch import Tensor

from genfast.kernels.lstm.reference import wide
from genfast.ops.layout import empty_as
from tests.kernels.apart import DTYPES, Strides, pointer, strided

SCHEMAS = (
    "row_lstm_cuda(Tensor x, Tensor weight, Tensor h0, Tensor c0, bool keep) -> (Tensor, Tensor, Tensor)",
    "row_lstm_bwd_cuda(Tensor grad, Tensor gates, Tensor c, Tensor weight, Tensor c0) -> (Tensor, Tensor)",
    "diagonal_lstm_cuda(Tensor x, Tensor weight, Tensor h0, Tensor c0, bool reverse, bool keep)"
    " -> (Tensor, Tensor, Tensor)",
    "diagonal_lstm_bwd_cuda(Tensor grad, Tensor gates, Tensor c, Tensor weight, Tensor c0, bool reverse)"
    " -> (Tensor, Tensor)",
)


LIBRARIES: list[torch.library.Library] = []  # what they registered is gone when they are


class GPU(NamedTuple):
    """What tests/emulation is told of the GPU."""

    name: str
    shared: int  # bytes that a block can have
    multiprocessors: int
    clusters: bool
    architecture: int = 90  # of the code that runs there

    @property
    def described(self) -> str:
        return f"{self.shared},{self.multiprocessors},{int(self.clusters)},{self.architecture}"


H100 = GPU("H100", 227 * 1024, 132, True)
A100 = GPU("A100", 163 * 1024, 108, False, 80)
NEWER = GPU("newer than the build", 227 * 1024, 148, True, 80)  # runs PTX for sm_80
NOTHING_FITS = GPU("nothing fits", 0, 132, True)


def only_weights_fit(taps: int, hidden: int, itemsize: int) -> tuple[GPU, GPU]:
    """A GPU of which a block holds the weights of all channels, and one of which each of two does those of a half, and
    not a byte more: for 32 channels and more."""
    vectors = taps * ((hidden + 3) // 4 * 4)
    whole, half = (vectors * channels * 4 * itemsize for channels in (hidden, (hidden + 1) // 2))
    return GPU("weights fit", whole, 132, False), GPU("half of the weights fits", half, 2, True)


class ScanStruct(ctypes.Structure):
    """Scan in kernels/lstm/scan.h."""

    _fields_ = (
        ("H", ctypes.c_int64),
        ("W", ctypes.c_int64),
        ("hidden", ctypes.c_int64),
        ("num_taps", ctypes.c_int64),
        ("reach", ctypes.c_int64),
        ("diagonal", ctypes.c_bool),
        ("reverse", ctypes.c_bool),
        ("zero_taps", ctypes.c_int64),
    )


class Shape(ctypes.Structure):
    """LstmShape in kernels/lstm/cuda.cuh."""

    _fields_ = (("dtype", ctypes.c_int), ("batch", ctypes.c_int64), ("scan", ScanStruct))


def shape_of(dtype: torch.dtype, sizes: tuple[int, int, int, int], taps: int, way: tuple[bool, ...]) -> Shape:
    """sizes: B, h, H, W. ``way`` is empty for rows, or (reverse,)."""
    batch, hidden, height, width = sizes
    diagonal = bool(way)
    reach = 1 if diagonal else taps // 2
    scan = ScanStruct(height, width, hidden, taps, reach, diagonal, diagonal and way[0], int(diagonal))
    return Shape(list(DTYPES.values()).index(dtype), batch, scan)


def load(library: str) -> ctypes.CDLL:
    lib = ctypes.CDLL(library)
    lib.lstm_scratch_cuda.restype = ctypes.c_int64
    return lib


class Planned(NamedTuple):
    """A launch: blocks, how many of them share an image, threads, and bytes of shared memory that each has."""

    blocks: int
    ranks: int
    threads: int
    shared: int


def planned(lib: ctypes.CDLL, shape: Shape, backward: bool) -> Planned:
    """What the launchers would start, on the GPU of GENFAST_EMULATED_GPU; with GENFAST_EMULATED_DRY nothing runs."""
    none, no_strides = ctypes.c_void_p(None), Strides()
    if backward:
        error = lib.lstm_bwd_cuda(ctypes.byref(shape), none, no_strides, *[none] * 8)
    else:
        pointers = (none, no_strides, none, none, none, none, no_strides, none, none, none, none)
        error = lib.lstm_fwd_cuda(ctypes.byref(shape), *pointers)
    assert error == 0
    launched = (ctypes.c_longlong * 4)()
    lib.genfast_emulated_launch(launched)
    return Planned(*launched)


def register_emulated(library: str) -> None:
    """Every buffer that the launchers get has exactly its size; two images are always on their way together."""
    os.environ["GENFAST_EMULATED_TOGETHER"] = "1"
    lib = load(library)

    def scratch(shape: Any, backward: int) -> Tensor:
        return torch.empty(lib.lstm_scratch_cuda(shape, backward), dtype=torch.uint8)

    def forward(x: Tensor, weight: Tensor, h0: Tensor, c0: Tensor, *way_and_keep: bool) -> tuple[Tensor, ...]:
        *way, keep = way_and_keep
        batch, four_h, height, width = x.shape
        h = empty_as(x, four_h // 4)
        kept_sizes = [(batch, height, width, n) if keep else (0,) for n in (four_h, four_h // 4)]
        gates, c = (x.new_empty(size, dtype=wide(x.dtype)) for size in kept_sizes)
        if h.numel():
            shape = ctypes.byref(shape_of(x.dtype, (batch, four_h // 4, height, width), weight.shape[2], tuple(way)))
            kept = (pointer(gates if keep else None), pointer(c if keep else None))
            weights = [t.contiguous() for t in (weight, h0, c0)]
            memory = scratch(shape, 0)
            inputs = (*strided(x), *(pointer(t) for t in weights))
            assert lib.lstm_fwd_cuda(shape, *inputs, *strided(h), *kept, pointer(memory), None) == 0
        return h, gates, c

    def backward(grad: Tensor, gates: Tensor, c: Tensor, weight: Tensor, c0: Tensor, *way: bool) -> tuple[Tensor, ...]:
        batch, hidden, height, width = grad.shape
        slots = (height if way else width) if grad.numel() else 0
        dgates, dc = torch.empty_like(gates), c.new_empty(batch, slots, hidden)
        if grad.numel():
            shape = ctypes.byref(shape_of(grad.dtype, (batch, hidden, height, width), weight.shape[2], way))
            weights = [t.contiguous() for t in (weight, c0)]
            memory = scratch(shape, 1)
            inputs = (*strided(grad), pointer(gates), pointer(c), *(pointer(t) for t in weights))
            assert lib.lstm_bwd_cuda(shape, *inputs, pointer(dgates), pointer(dc), pointer(memory), None) == 0
        return dgates, dc

    registry = torch.library.Library("genfast", "FRAGMENT")
    for schema in SCHEMAS:
        name = schema.partition("(")[0]
        if not hasattr(torch.ops.genfast, name):  # the extension was built without nvcc
            registry.define(schema)
        registry.impl(name, backward if "bwd" in name else forward, "CPU")
    LIBRARIES.append(registry)
