"""The engines by name: what each may be asked for, which of them auto tries first, what they are on this machine."""

import torch

from genfast.errors import GenfastError, NotSupported
from genfast.ops import backends
from genfast.sampling import jacobi, naive
from genfast.sampling.task import CausalModel, Rows, device_of

LOOPS: dict[str, Rows] = {"naive": naive.rows, "jacobi": jacobi.rows}
INCREMENTAL = ("eager", "cpu", "triton", "cuda")
ENGINES = (*LOOPS, *INCREMENTAL)
PRECISIONS = ("float32", "bfloat16", "tf32")
IMAGES_PER_THREAD = 32  # enough rows for the matrix products to run at full speed, few enough for the caches
IMAGES_PER_MULTIPROCESSOR = 8  # of the cuda engine: as many share each look at the weights in registers
IMAGES_ON_GPU = 256  # of the triton engine


def check_options(engine: str, threads: int | None, precision: str) -> None:
    """Raises GenfastError, in one sentence, for an engine, threads or precision that there is not."""
    if engine != "auto" and engine not in ENGINES:
        raise GenfastError(f"Unknown engine {engine!r}: choose auto, {', '.join(ENGINES[:-1])} or {ENGINES[-1]}.")
    if precision not in PRECISIONS:
        raise GenfastError(f"Unknown precision {precision!r}: choose {' or '.join(PRECISIONS)}.")
    if precision != "float32" and engine in LOOPS:
        raise NotSupported(
            f"The {engine} engine runs the model as it is: for {precision}, use engine='cpu' or 'eager'."
        )
    if precision == "tf32" and engine not in ("auto", "triton"):
        raise NotSupported(f"The {engine} engine has no tf32: use engine='triton', or precision='bfloat16'.")
    if threads is not None and (not isinstance(threads, int) or isinstance(threads, bool) or threads < 1):
        raise GenfastError(f"threads must be a whole number, at least 1, not {threads!r}.")


def preferred(model: CausalModel, precision: str) -> str:
    """The engine that auto tries first: the one made for the model's device, or the only one that has the precision."""
    return "triton" if device_of(model).type == "cuda" or precision == "tf32" else "cpu"


def images_at_a_time(engine: str, threads: int, device: torch.device) -> int:
    """Images in a chunk of work, if nobody says how many."""
    if engine == "cpu":
        return IMAGES_PER_THREAD * threads
    if engine == "cuda":
        return IMAGES_PER_MULTIPROCESSOR * torch.cuda.get_device_properties(device).multi_processor_count
    return IMAGES_ON_GPU if engine == "triton" else 2 * IMAGES_PER_THREAD


def engine_table() -> list[tuple[str, str]]:
    """(engine, state) for every engine, for `genfast info`."""
    native = backends.isa() in ("avx512_bf16", "amx_bf16")
    products = "bfloat16 by its own instructions" if native else "bfloat16 made of float32 products, no faster"
    return [
        ("cpu", backends.NO_EXTENSION or f"present, {backends.isa()}; auto takes it for models on the CPU; {products}"),
        ("eager", "present: the same steps in PyTorch, on any device"),
        ("jacobi", "present; auto takes it for all other models"),
        ("naive", "present: the definition"),
        ("triton", triton_state()),
        ("cuda", cuda_state()),
    ]


def triton_state() -> str:
    """What `genfast info` says of the triton engine."""
    if not backends.HAS_TRITON:
        return backends.why_not("triton")
    usable = "" if torch.cuda.is_available() else f"; {backends.NO_DEVICE}"
    return (
        f"interpreted and compiled in tests, {backends.NEVER_RUN}; auto takes it for models on a GPU where it agrees "
        f"with a forward pass{usable}"
    )


def cuda_state() -> str:
    """What it says of the cuda engine, which the extension has where it has CUDA kernels."""
    reason = backends.why_not("cuda")
    if reason and reason != backends.NO_DEVICE:
        return reason
    checked = f"compiled for {', '.join('sm_' + a for a in backends.ARCHITECTURES)}, emulated in tests"
    return f"{checked}, {backends.NEVER_RUN}, so auto does not take it" + (f"; {reason}" if reason else "")
