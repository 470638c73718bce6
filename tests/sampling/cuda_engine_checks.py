"""What the cuda engine must do, on the CPU: its kernel is built with tests/emulation, and the sampler runs on it as it
would on a GPU.

The tests run ``python cuda_engine_checks.py emulated library [barriers ...]`` (tests/kernels/apart.py). Caches start as
NaN, and all buffers have exactly their size. Models are tiny: a barrier costs the emulation a microsecond a thread.
"""

import ctypes
import json
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any
from unittest import mock

import pytest
import torch
from torch import Tensor

from genfast.compiler.evaluate import evaluate
from genfast.compiler.plan import Plan
from genfast.compiler.program import Program
from genfast.compiler.schedule import schedule
from genfast.errors import GenfastError, NotSupported
from genfast.likelihoods import Drawn, make_likelihood
from genfast.sampling import compile_sampler, incremental, naive, noise
from genfast.sampling.cuda import CudaEngine, CudaRun
from genfast.sampling.eager import EagerEngine
from genfast.sampling.request import Request
from genfast.sampling.sampler import Sampler
from tests.kernels.apart import attempt, prepare
from tests.kernels.needed import needed
from tests.sampling.conftest import TinyModel
from tests.sampling.cuda_engine_models import MODELS, PROGRAMS, N

THREADS = 16  # of a block; the numbers are the same with more


class EmulatedEngine(CudaEngine):
    """On the CPU, with the caches poisoned. images, residence: of every run, at most."""

    def __init__(
        self, plan: Plan, model: Any, precision: str, images: int | None, residence: int | None, threads: int
    ) -> None:
        library = ctypes.CDLL(LIBRARY)
        super().__init__(plan, model.likelihood, torch.device("cpu"), precision == "bfloat16", library, threads)
        self.how = {"images": images, "residence": residence}

    def start(self, request: Request, *_: Any) -> CudaRun:  # type: ignore[override]
        return super().start(request, poison=True, **self.how)


@contextmanager
def emulated(images: int | None = None, residence: int | None = None, threads: int = THREADS) -> Iterator[None]:
    """Within, samplers of the eager engine get the emulated one instead."""

    def make(model: Any, engine: str, _: int, plan: Plan, precision: str) -> EmulatedEngine:
        return EmulatedEngine(plan, model, precision, images, residence, threads)

    with mock.patch.object(incremental, "make_engine", make):
        yield


def sampler_of(model: Any, precision: str = "float32", condition: Any = None, **how: Any) -> Sampler:
    with emulated(**how):
        return compile_sampler(model, "eager", precision=precision, condition=condition)


# ---- checks ----


def images_like(model: Any) -> Tensor:
    generator = torch.Generator().manual_seed(5)
    return torch.randint(0, model.levels, (N, *model.image_shape), generator=generator, dtype=torch.uint8)


@torch.no_grad()
def check_model(name: str) -> None:
    """The loop's images, the forward pass's parameters and log-probabilities, and the same to the bit when scored."""
    case = MODELS[name]()
    model, given = case.model, case.condition
    sampler = sampler_of(model, condition=given)
    drawn = sampler.sample(N, seed=1, condition=given)
    assert torch.equal(drawn, naive.sample(model, N, seed=1, condition=given))
    said = sampler.last_log_prob
    assert said is not None
    assert torch.equal(sampler.log_prob(drawn, given), said)
    images = images_like(model)
    expected = model(images) if given is None else model(images, given)
    params = sampler.logits(images, given)
    assert float((params - expected).abs().max()) <= 4e-6 * float(1 + expected.abs().max())
    nats = model.likelihood.log_prob(expected, images).double()
    torch.testing.assert_close(sampler.log_prob(images, given), nats, rtol=1e-5, atol=1e-4)


def asked(program: Program, rows: slice = slice(N)) -> Request:
    """Some of N images, of which some pixels are known."""
    generator = torch.Generator().manual_seed(7)
    channels, height, width = program.image_shape
    images = torch.randint(0, program.levels, (N, *program.image_shape), generator=generator, dtype=torch.uint8)
    known = torch.rand(N, height * width, generator=generator) < 0.3
    conditions = tuple(torch.randn(N, program.values[v].channels, generator=generator) for v in program.conditions)
    shape = (len(images[rows]), channels, height * width)
    return Request(
        images[rows].clone(),
        known[rows],
        noise.uniforms(2, 0, N, program.image_shape)[rows],
        tuple(c[rows] for c in conditions),
        log_probs=torch.full(shape, torch.nan, dtype=torch.float64),
        params=torch.full((*shape, program.draws[0].params.width), torch.nan),
    )


def drawn_by(engine: Any, request: Request) -> list[Tensor]:
    engine.start(request).until_row(request.images.shape[2] - 1)
    assert request.log_probs is not None
    assert request.params is not None
    return [request.images, request.log_probs, request.params]


def engines_of(
    program: Program, precision: str = "float32", images: int | None = None, residence: int | None = None,
    threads: int = THREADS,
) -> tuple[EmulatedEngine, EagerEngine]:  # fmt: skip
    """The emulated engine and the eager one, of a program by hand."""
    likelihood = make_likelihood(program.likelihood, program.image_shape[0], program.levels)
    plan, cpu = schedule(program), torch.device("cpu")
    emulated = EmulatedEngine(plan, SimpleNamespace(likelihood=likelihood), precision, images, residence, threads)
    return emulated, EagerEngine(plan, likelihood, cpu, torch.float32, precision == "bfloat16")


def check_program(name: str, ways: Sequence[dict[str, Any]]) -> None:
    """Against evaluation in float64 and the eager engine's images; the same to the bit whatever the way, and alone."""
    program = PROGRAMS[name]()
    request = asked(program)
    engine, eager = engines_of(program)
    whole = drawn_by(engine, request)
    exact = torch.stack(evaluate(program, request.images, request.conditions), 1).transpose(2, 3)
    off = (whole[2] - exact).abs().max()
    assert off < 2e-5 * exact.abs().max(), f"{off} is not within float32 rounding of the float64 evaluation."
    assert torch.equal(whole[0], drawn_by(eager, asked(program))[0])
    for way in ways:
        assert all(map(torch.equal, drawn_by(engines_of(program, **way)[0], asked(program)), whole)), way
    last = slice(N - 1, N)
    assert all(map(torch.equal, drawn_by(engine, asked(program, last)), (t[last] for t in whole)))


def check_attention_is_not_rounded(name: str) -> None:
    """In bfloat16 only products with weights are, as in the eager engine."""
    program = PROGRAMS[name]()

    def scored(engine: Any) -> Tensor:
        request = asked(program)
        request.known |= True
        return drawn_by(engine, request)[2]

    exact = scored(engines_of(program)[0])
    rounded, expected = map(scored, engines_of(program, "bfloat16"))
    size = expected.abs().max()
    assert (rounded - expected).abs().max() <= 2e-5 * size
    assert (rounded - exact).abs().max() > 1e-3 * size


def check_options(name: str, options: dict[str, Any]) -> None:
    model = MODELS[name]().model
    sampler = sampler_of(model)
    drawn = sampler.sample(N, seed=3, **options)
    assert torch.equal(drawn, naive.sample(model, N, seed=3, **options))
    assert torch.equal(sampler.log_prob(drawn), sampler.last_log_prob)


def check_known(name: str) -> None:
    """Completion, rows as they come, and known pixels scored with those drawn."""
    model = MODELS[name]().model
    sampler = sampler_of(model)
    images, (height, width) = images_like(model), model.image_shape[1:]
    known = torch.rand(N, 1, height, width, generator=torch.Generator().manual_seed(4)) < 0.5
    done = sampler.complete(images, known, seed=4)
    assert torch.equal(done, naive.complete(model, images, known, seed=4))
    assert torch.equal(sampler.log_prob(done), sampler.last_log_prob)
    drawn = sampler.sample(N, seed=3)
    assert torch.equal(torch.stack(list(sampler.stream(N, seed=3)), 2), drawn)


WAYS: list[dict[str, Any]] = [
    {"images": 1}, {"images": 2, "residence": 1}, {"images": 3, "residence": 0, "threads": 33}, {"threads": 7},
]  # fmt: skip


def check_bits(name: str) -> None:
    """An image and its log-probability are the same to the bit whatever the batch and its place in it, the images and
    threads of a block, and what lies in shared memory."""
    case = MODELS[name]()
    whole: list[Tensor] = []
    for way in WAYS:
        sampler = sampler_of(case.model, condition=case.condition, **way)
        drawn = sampler.sample(N, seed=6, condition=case.condition)
        assert sampler.last_log_prob is not None
        whole = whole or [drawn, sampler.last_log_prob]
        assert torch.equal(drawn, whole[0])
        assert torch.equal(sampler.last_log_prob, whole[1]), f"{way}: the log-probabilities differ."
    part = None if case.condition is None else case.condition[2:]
    assert torch.equal(sampler.sample(1, seed=6, first=2, condition=part), whole[0][2:])
    assert sampler.last_log_prob is not None
    assert torch.equal(sampler.last_log_prob, whole[1][2:])


def check_bfloat16(name: str) -> None:
    """Close to the eager engine's, which rounds the same factors."""
    model = MODELS[name]().model
    images = images_like(model)
    expected = compile_sampler(model, "eager", precision="bfloat16").logits(images)
    params = sampler_of(model, "bfloat16").logits(images)
    exact = compile_sampler(model, "eager").logits(images)
    size = float(1 + expected.abs().max())
    assert float((params - expected).abs().max()) <= 1e-4 * size
    assert float((params - exact).abs().max()) > 1e-3 * size


def check_small_memory(name: str) -> None:
    """On GPUs whose blocks have just the shared memory that holds the caches, the weights, the scratch memory, or none
    of them: other chunks, the same images."""
    case = MODELS[name]()
    rooms = {}
    engine = engine_of(case.model)
    for room in (64, *range(8 << 10, 227 << 10, 1 << 10)):
        with emulated_gpu(room):
            rooms.setdefault(engine.start(request_for(case.model)).layout.residence, room)
    assert sorted(rooms) == [0, 1, 2, 3]
    expected = None
    for room in rooms.values():
        with emulated_gpu(room):
            drawn = sampler_of(case.model).sample(N, seed=2)
        expected = drawn if expected is None else expected
        assert torch.equal(drawn, expected)


def emulated_gpu(room: int) -> Any:
    """Of two multiprocessors, whose blocks can have so many bytes of shared memory."""
    return mock.patch.dict(os.environ, {"GENFAST_EMULATED_GPU": f"{room},2,0,80"})


def check_layout() -> None:
    """A block for each multiprocessor while images last, and not too many images in one; what is asked for fits."""
    engine = engine_of(TinyModel((1, 2, 2), 3).eval())
    for n, images, blocks in ((1, 1, 1), (132, 1, 132), (133, 2, 67), (1056, 8, 132), (20000, 64, 313)):
        layout = engine.start(request_for(engine.plan.program, n)).layout
        assert (layout.images, layout.blocks) == (images, blocks)
        assert layout.residence >= 2
        assert layout.shared <= 227 * 1024


def engine_of(model: Any) -> Any:
    return next(iter(sampler_of(model)._compiled.values())).engine


def request_for(model: Any, n: int = N) -> Request:
    channels, height, width = model.image_shape
    return Request(
        torch.zeros(n, *model.image_shape, dtype=torch.uint8),
        torch.zeros(n, height * width, dtype=torch.bool),
        torch.full((n, channels, height, width), 0.5, dtype=torch.float64),
    )


def check_refusals() -> None:
    model = TinyModel((1, 3, 3), 3).eval()
    with torch.no_grad():
        model.last.bias[0] = torch.inf
    broken = sampler_of(model)
    with pytest.raises(GenfastError, match="is not a distribution"):
        broken.sample(2)
    whole = TinyModel((1, 3, 3), 3).eval()
    engine = engine_of(whole)
    request = request_for(whole)
    request.images += 3
    request.known |= True
    with pytest.raises(GenfastError, match="has a level"):
        engine.start(request).until_row(2)
    request.temperature = -1.0
    with pytest.raises(GenfastError, match="temperature"):
        engine.start(request)
    whole.likelihood = Drawn(1, 3, lambda params, uniforms: uniforms[:, None])
    with pytest.raises(NotSupported, match="Python function"):
        sampler_of(whole)


OPTIONS: list[dict[str, Any]] = [
    {"temperature": 0.6}, {"temperature": 0.0}, {"top_k": 2}, {"top_p": 0.7, "temperature": 1.5},
    {"top_k": 3, "top_p": 0.9},
]  # fmt: skip


def checks(quick: bool = False) -> list[tuple[Any, ...]]:
    """Quick: each barrier is needed by one of these."""
    found: list[tuple[Any, ...]] = []
    for name in ("bernoulli", "oddities", "pixelcnn++") if quick else MODELS:
        found.append((name, check_model, name))
    for name, some in (("colours", OPTIONS), ("pixelcnn++", [OPTIONS[1], OPTIONS[3]])):
        for options in (some[0], some[-1]) if quick else some:
            found.append((f"{name}-{options}", check_options, name, options))
    for name in list(PROGRAMS)[-1:] if quick else PROGRAMS:
        found.append((name, check_program, name, () if quick else WAYS))
    if quick:
        return found
    for name in ("gated", "row", "pixelcnn++"):
        found.append((f"{name}-known", check_known, name))
    for name in ("oddities", "labels", "diagonal", "pixelcnn++", "pixelsnail"):
        found.append((f"{name}-bits", check_bits, name))
    for name in ("oddities", "pixelcnn++", "pixelsnail"):
        found.append((f"{name}-memory", check_small_memory, name))
    found.append(("bfloat16", check_bfloat16, "colours"))
    found.append(("bfloat16-attention", check_attention_is_not_rounded, list(PROGRAMS)[-1]))
    found.append(("layout", check_layout))
    found.append(("refusals", check_refusals))
    return found


def names(table: Sequence[tuple[Any, ...]]) -> list[str]:
    return [name for name, *_ in table]


def run_table(quick: bool = False) -> dict[str, str]:
    results: dict[str, str] = {}
    for name, check, *rest in checks(quick):
        attempt(results, name, check, *rest)
    return results


LIBRARY = ""


def main(arguments: list[str]) -> None:
    global LIBRARY
    prepare()
    LIBRARY = arguments[1]
    if "barriers" in arguments:
        print(json.dumps(needed(LIBRARY, arguments[3:], lambda: run_table(quick=True))))
    else:
        print(json.dumps(run_table()))


if __name__ == "__main__":
    main(sys.argv[1:])
