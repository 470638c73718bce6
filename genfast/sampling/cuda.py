"""The cuda engine: a Plan carried out on a GPU by one persistent kernel (csrc/engine/cuda), the whole image loop in one
launch.

Each block of threads owns a few images and never waits for another block. Here a Plan is copied to the device, memory
is asked of PyTorch, and the launch goes to its current stream. In float32; the order in which numbers are added up is
fixed by the plan, so images and log-probabilities depend neither on the batch nor on the GPU's size, to the bit.
"""

import ctypes
import functools
from contextlib import AbstractContextManager, nullcontext

import numpy as np
import torch
from torch import Tensor

from genfast.compiler.evaluate import condition_table
from genfast.compiler.plan import Plan
from genfast.errors import GenfastError, NotSupported
from genfast.likelihoods import Drawn, Likelihood, check_draw_options
from genfast.likelihoods.draw import NO_DISTRIBUTION, check_uniforms
from genfast.sampling.cpu import refusing, specification
from genfast.sampling.request import Request

WRONG = {1: NO_DISTRIBUTION, 2: "A known pixel has a level that the images do not have."}


class Asked(ctypes.Structure):
    """GenfastCudaRequest in csrc/engine/cuda/engine.cuh."""

    _fields_ = (
        ("header", ctypes.c_void_p),
        ("n", ctypes.c_int64),
        ("temperature", ctypes.c_double),
        ("top_k", ctypes.c_int64),
        ("top_p", ctypes.c_double),
    )


class Layout(ctypes.Structure):
    """GenfastCudaLayout."""

    images: int
    blocks: int
    residence: int
    shared: int
    block_bytes: int
    cache_floats: int
    _fields_ = tuple(
        (name, ctypes.c_int64)
        for name in ("images", "blocks", "residence", "shared", "places", "scratch", "block_bytes", "cache_floats")
    )


class Launch(ctypes.Structure):
    """GenfastCudaRun."""

    first_tick: int
    last_tick: int
    _fields_ = (
        ("request", Asked),
        ("layout", Layout),
        *(
            (name, ctypes.c_void_p)
            for name in (
                "program", "caches", "memory", "images", "known", "uniforms", "log_probs", "params", "wrong"
            )
        ),
        ("threads", ctypes.c_int64),
        ("first_tick", ctypes.c_int64),
        ("last_tick", ctypes.c_int64),
    )  # fmt: skip


@functools.cache
def compiled_library() -> ctypes.CDLL:
    """The functions of csrc/engine/cuda/engine.cuh, in an extension that was built with nvcc."""
    from genfast import _C

    return ctypes.CDLL(_C.__file__)


class CudaEngine:
    """Runs a plan on a CUDA device in float32. Made once for a plan; ``start`` makes a run over a batch.

    bfloat16: the factors of products are rounded to bfloat16; their sums, and all else, stay float32.
    library: where the functions of engine.cuh are, if not in the extension: tests emulate them on the CPU, and give the
    device "cpu". threads: of a block; 0: as many as its registers allow. Results do not depend on it, to the bit.

    Raises NotSupported for a likelihood that is a function, GenfastError for a plan that makes no sense.
    """

    def __init__(
        self,
        plan: Plan,
        likelihood: Likelihood,
        device: torch.device,
        bfloat16: bool = False,
        library: ctypes.CDLL | None = None,
        threads: int = 0,
    ) -> None:
        from genfast import _C

        if isinstance(likelihood, Drawn):
            raise NotSupported(
                "The cuda engine cannot draw by a Python function, which would have to be called for every pixel: "
                "use engine='eager', or a likelihood of this package."
            )
        self.plan, self.device, self.threads = plan, device, threads
        self.library = library if library is not None else compiled_library()
        flat = refusing(lambda: _C.Engine(specification(plan, bfloat16, likelihood)).flat())
        self.header: np.ndarray = flat["header"]
        self.offsets: list[int] = flat["offsets"]
        self.program = torch.from_numpy(flat["program"]).to(device)

    def start(
        self, request: Request, poison: bool = False, images: int | None = None, residence: int | None = None
    ) -> "CudaRun":
        """poison: caches start as NaN. images: of a block; residence: at most (see engine.cuh); by default what suits
        the device."""
        return CudaRun(self, request, poison, images, residence)

    def on_device(self) -> AbstractContextManager[object]:
        """What is launched within goes to the engine's device."""
        return torch.cuda.device(self.device) if self.device.type == "cuda" else nullcontext()

    def stream(self) -> ctypes.c_void_p:
        current = torch.cuda.current_stream(self.device).cuda_stream if self.device.type == "cuda" else None
        return ctypes.c_void_p(current)


class CudaRun:
    """One batch on its way. until_row(y) draws all sub-pixels of rows 0 .. y in one launch, and waits for it."""

    def __init__(
        self, engine: CudaEngine, request: Request, poison: bool, images: int | None, residence: int | None
    ) -> None:
        channels, height, width = engine.plan.program.image_shape
        n, pixels = len(request.images), height * width
        check_draw_options(request.temperature, request.top_k, request.top_p)
        check_uniforms(request.uniforms)
        self.engine, self.next_tick, self.stopped = engine, -1, False
        self.results: list[tuple[Tensor, Tensor]] = []  # tensors of the request, and what the kernel writes

        def result(tensor: Tensor | None, dtype: torch.dtype, *shape: int) -> Tensor | None:
            """The tensor's own memory where the kernel can write to it, or else a copy that until_row copies back."""
            if tensor is None:
                return None
            plain = tensor.detach().to(engine.device, dtype).contiguous()
            if plain.data_ptr() != tensor.data_ptr():
                self.results.append((tensor, plain))
            return plain.view(shape)

        asked = Asked(
            engine.header.ctypes.data,
            n,
            float(request.temperature),
            request.top_k or 0,
            1.0 if request.top_p is None else float(request.top_p),
        )
        layout = Layout()
        with engine.on_device():
            failed = engine.library.genfast_cuda_layout(
                ctypes.byref(asked),
                ctypes.c_int64(-1 if images is None else images),
                ctypes.c_int64(-1 if residence is None else residence),
                ctypes.byref(layout),
            )
        if failed:
            raise GenfastError(f"The CUDA device {engine.device} does not answer (error {failed}).")
        self.layout = layout
        self.caches = torch.empty(layout.blocks, layout.cache_floats, dtype=torch.float32, device=engine.device)
        if poison:
            self.caches.fill_(torch.nan)
        for value, condition in zip(engine.plan.program.conditions, request.conditions, strict=True):
            self._fill(value, condition, n)
        self.wrong = torch.zeros(1, dtype=torch.int32, device=engine.device)
        self.tensors = {
            "program": engine.program,
            "caches": self.caches,
            "memory": torch.empty(layout.blocks * layout.block_bytes, dtype=torch.uint8, device=engine.device),
            "images": result(request.images, torch.int32, n, channels, pixels),
            "known": request.known.to(engine.device, torch.uint8).reshape(n, pixels).contiguous(),
            "uniforms": request.uniforms.to(engine.device, torch.float64).flatten(2).contiguous(),
            "log_probs": result(request.log_probs, torch.float64, n, channels, pixels),
            "params": result(
                request.params, torch.float32, n, channels, pixels, engine.plan.program.draws[0].params.width
            ),
            "wrong": self.wrong,
        }
        pointers = (None if t is None else t.data_ptr() for t in self.tensors.values())
        self.launch = Launch(asked, layout, *pointers, engine.threads, 0, 0)

    def _fill(self, value: int, condition: Tensor, n: int) -> None:
        """Puts a condition into the caches."""
        engine, layout, plan = self.engine, self.layout, self.engine.plan
        channels, positions, count = plan.values[value].channels, plan.values[value].positions, plan.slot_count[value]
        cells = condition_table(condition)
        if cells.shape[1:] != (positions, channels):
            raise GenfastError(f"The model was not compiled for a condition of the shape {list(condition.shape)}.")
        padded = torch.zeros(layout.blocks * layout.images, positions, channels, device=engine.device)
        padded[:n] = cells.detach().to(padded)
        there = torch.from_numpy(np.flatnonzero(plan.slots[value] >= 0)).to(engine.device)
        slots = torch.from_numpy(plan.slots[value]).long().to(engine.device)[there]
        begin = engine.offsets[value] * layout.images
        cache = self.caches[:, begin : begin + count * layout.images * channels]
        cache = cache.view(layout.blocks, count, layout.images, channels)
        cache[:, slots] = padded.view(layout.blocks, layout.images, positions, channels).transpose(1, 2)[:, there]

    def until_row(self, row: int) -> None:
        if self.stopped:
            raise GenfastError("This run was stopped: start another.")
        engine = self.engine
        width = engine.plan.program.image_shape[2]
        last = int(engine.plan.draw_tick[:, : (row + 1) * width].max())
        if last < self.next_tick or self.layout.blocks == 0:
            return
        self.launch.first_tick, self.launch.last_tick = self.next_tick, last
        with engine.on_device():
            failed = engine.library.genfast_cuda_run(ctypes.byref(self.launch), engine.stream())
        if failed:
            self.stopped = True
            raise GenfastError(f"The cuda engine could not start its kernel (error {failed}).")
        self.next_tick = last + 1
        wrong = int(self.wrong)  # waits for the device
        if wrong:
            self.stopped = True
            raise GenfastError(WRONG[wrong])
        for tensor, plain in self.results:
            tensor.copy_(plain.view(tensor.shape))
