"""What the cuda engine must do, on the CPU: its kernel is built with tests/emulation, and the sampler runs on it as it
would on a GPU.

The tests run ``python cuda_engine_checks.py emulated library [barriers ...]`` (tests/kernels/apart.py). Caches start as
NaN, and all buffers have exactly their size. Models are tiny: a barrier costs the emulation a microsecond a thread.
"""

import ctypes
import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from unittest import mock

import pytest
import torch
from torch import Tensor, nn

from genfast.compiler.plan import Plan
from genfast.errors import GenfastError, NotSupported
from genfast.likelihoods import Drawn, make_likelihood
from genfast.models import (
    GatedPixelCNN,
    GatedPixelCNNConfig,
    PixelCNN,
    PixelCNNConfig,
    PixelCNNPP,
    PixelCNNPPConfig,
    PixelRNN,
    PixelRNNConfig,
)
from genfast.nn import MaskedConv2d
from genfast.sampling import compile_sampler, incremental, naive
from genfast.sampling.cuda import CudaEngine, CudaRun
from genfast.sampling.request import Request
from genfast.sampling.sampler import Sampler
from tests.kernels.apart import attempt, prepare
from tests.kernels.needed import needed
from tests.sampling.conftest import TinyModel

THREADS = 16  # of a block; the numbers are the same with more
N = 3


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


# ---- models ----


class Oddities(nn.Module):
    """All kinds of heads and phases: an embedding of levels, normalised channels, a softmax, concatenation, a constant
    for every place; widths that are no multiple of four, and one that takes several slices."""

    def __init__(self, shape: tuple[int, int, int], levels: int) -> None:
        super().__init__()
        self.image_shape, self.levels = shape, levels
        self.likelihood = make_likelihood("categorical", shape[0], levels)
        self.table = nn.Embedding(levels, 5)
        self.first = MaskedConv2d(5 * shape[0], 7, 3, "A")
        self.place = nn.Parameter(torch.randn(1, 7, *shape[1:]))
        self.norm = nn.LayerNorm(7)
        self.middle = MaskedConv2d(14, 8, 3, "B")
        self.last = MaskedConv2d(8, levels * shape[0], 3, "B")
        for parameter in self.parameters():
            nn.init.normal_(parameter, std=0.8)

    def forward(self, images: Tensor, condition: None = None) -> Tensor:
        x = self.table(images.long()).permute(0, 1, 4, 2, 3).flatten(1, 2)
        x = self.first(x) + self.place
        x = self.norm(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        x = self.middle(torch.cat([x, x.softmax(1)], 1))
        left, right = x.chunk(2, 1)
        x = torch.cat([left.tanh() * right.sigmoid(), torch.maximum(left, right[:, :1])], 1)
        return self.likelihood.unpack(self.last(x) + x.amax(1, keepdim=True))


class Plain(TinyModel):
    """A convolution reads the levels as they are, as soon as they are drawn."""

    def forward(self, images: Tensor, condition: None = None) -> Tensor:
        return self.likelihood.unpack(self.last(torch.tanh(self.first(images.float()))))


@dataclass
class Case:
    model: Any
    condition: Tensor | None = None


def seeded(build: Callable[[], Any]) -> Any:
    torch.manual_seed(0)
    return build().eval()


def sharpened(model: Any) -> Any:
    """Fresh models are nearly uniform whatever they have seen: larger weights make every number count."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(2)
    return model


def plus_plus(shape: tuple[int, int, int] = (3, 2, 3)) -> Any:
    model = PixelCNNPP(PixelCNNPPConfig(shape, 256, filters=4, resnets=1, components=3, scales=2))
    model.initialize(torch.randint(0, 256, (16, *shape)))
    return model


def vectors() -> Tensor:
    return torch.randn(N, 4, generator=torch.Generator().manual_seed(1))


def pixelrnn(variant: str, shape: tuple[int, int, int]) -> Case:
    return Case(seeded(lambda: PixelRNN(PixelRNNConfig(shape, 4, variant=variant, hidden=3, layers=1))))


def gated() -> Any:
    return sharpened(GatedPixelCNN(GatedPixelCNNConfig((1, 3, 4), 4, hidden=8, layers=2)))


MODELS: dict[str, Callable[[], Case]] = {
    "bernoulli": lambda: Case(Plain((1, 4, 5), 2, "bernoulli").eval()),
    "colours": lambda: Case(TinyModel((3, 3, 4), 5).eval()),
    "labels": lambda: Case(TinyModel((1, 3, 4), 4).eval(), torch.tensor([4, 0, 2])),
    "vectors": lambda: Case(TinyModel((1, 3, 4), 4).eval(), vectors()),
    "pixelcnn": lambda: Case(seeded(lambda: sharpened(PixelCNN(PixelCNNConfig((3, 3, 3), 4, hidden=6, blocks=1))))),
    "gated": lambda: Case(seeded(gated)),
    "row": lambda: pixelrnn("row", (1, 3, 4)),
    "diagonal": lambda: pixelrnn("diagonal", (1, 4, 3)),
    "pixelcnn++": lambda: Case(seeded(plus_plus)),
    "oddities": lambda: Case(seeded(lambda: Oddities((2, 3, 4), 5))),
    "many levels": lambda: Case(TinyModel((1, 2, 3), 100).eval()),
}


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
    if quick:
        return found
    for name in ("gated", "row", "pixelcnn++"):
        found.append((f"{name}-known", check_known, name))
    for name in ("oddities", "labels", "diagonal", "pixelcnn++"):
        found.append((f"{name}-bits", check_bits, name))
    for name in ("oddities", "pixelcnn++"):
        found.append((f"{name}-memory", check_small_memory, name))
    found.append(("bfloat16", check_bfloat16, "colours"))
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
