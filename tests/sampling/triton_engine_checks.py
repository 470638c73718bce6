"""What the triton engine must do, in a process where Triton's kernels are interpreted: ``python
triton_engine_checks.py`` prints a line of JSON, check -> what failed or "" (tests/kernels/apart.py)."""

import dataclasses
import json
import math
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import genfast
from genfast.compiler import compile_module, model_target, schedule
from genfast.compiler.evaluate import evaluate
from genfast.compiler.plan import Plan
from genfast.errors import GenfastError, NotSupported
from genfast.kernels.common.triton_launch import Launch
from genfast.likelihoods import Likelihood, make_likelihood
from genfast.models import (
    GatedPixelCNN,
    GatedPixelCNNConfig,
    PixelCNN,
    PixelCNNConfig,
    PixelCNNPP,
    PixelCNNPPConfig,
    PixelRNN,
    PixelRNNConfig,
    PixelSNAIL,
    PixelSNAILConfig,
)
from genfast.nn import MaskedConv2d
from genfast.sampling import noise
from genfast.sampling.eager import EagerEngine
from genfast.sampling.request import Request
from genfast.sampling.sampler import example_conditions
from genfast.sampling.task import evaluation_mode
from genfast.sampling.triton_engine import TritonEngine
from tests.kernels.apart import attempt, hasten_interpreter, prepare
from tests.sampling.conftest import TinyModel
from tests.sampling.programs import every_kind
from tests.sampling.triton_kernel_checks import check_mixture_draws, check_pointwise, check_ties

CPU = torch.device("cpu")


def request(
    plan: Plan, likelihood: Likelihood, n: int, first: int = 0, conditions: Sequence[Tensor] = (), **options: Any
) -> Request:
    channels, height, width = plan.program.image_shape
    return Request(
        torch.zeros(n, channels, height, width, dtype=torch.uint8),
        torch.zeros(n, height * width, dtype=torch.bool),
        noise.uniforms(3, first, n, plan.program.image_shape),
        tuple(c[first : first + n] for c in conditions),
        log_probs=torch.full((n, channels, height * width), torch.nan, dtype=torch.float64),
        params=torch.full((n, channels, height * width, plan.draws[0].params.width), torch.nan),
        **options,
    )


def draw(engine: TritonEngine | EagerEngine, r: Request) -> Request:
    """A whole batch; the caches of the triton engine start as NaN."""
    run = engine.start(r) if isinstance(engine, EagerEngine) else engine.start(r, poison=True)
    run.until_row(r.images.shape[2] - 1)
    return r


def assert_same(got: Request, expected: Request, tolerance: float = 3e-5) -> None:
    """The same levels; parameters and log-probabilities up to rounding."""
    assert got.params is not None
    assert expected.params is not None
    scale = float(expected.params.abs().max())
    off = float((got.params - expected.params).abs().max())
    assert off <= tolerance * scale, f"parameters are off by {off} of {scale}."
    assert torch.equal(got.images, expected.images)
    torch.testing.assert_close(got.log_probs, expected.log_probs, rtol=0, atol=10 * tolerance * max(1.0, scale))


def bits(r: Request, rows: slice = slice(None)) -> list[bytes]:
    assert r.log_probs is not None
    assert r.params is not None
    return [t[rows].contiguous().numpy().tobytes() for t in (r.images, r.log_probs, r.params)]


class Foreign(nn.Module):
    """Somebody else's network: labels, instance-free normalisation over channels, a softmax gate and a residual."""

    def __init__(self) -> None:
        super().__init__()
        self.label = nn.Embedding(3, 8)
        self.first, self.middle = MaskedConv2d(1, 8, 3, "A"), MaskedConv2d(8, 8, 3, "B")
        self.norm, self.last = nn.LayerNorm(8), nn.Conv2d(8, 4, 1)

    def forward(self, x: Tensor, label: Tensor) -> Tensor:
        h = self.first(x) + self.label(label)[:, :, None, None]
        normal = self.norm(h.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        h = h + self.middle(torch.nn.functional.gelu(normal)) * torch.softmax(h, 1)
        out: Tensor = self.last(h)
        return out


def louder(model: nn.Module, gain: float = 3.0) -> nn.Module:
    """With weights large enough that levels depend on what came before."""
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.mul_(gain)
    return model.eval()


def mixture() -> PixelCNNPP:
    model = PixelCNNPP(PixelCNNPPConfig((3, 2, 2), filters=4, resnets=1, scales=2, components=2, num_classes=3))
    model.initialize(torch.randint(0, 256, (8, 3, 2, 2)), torch.arange(8) % 3)
    return model.eval()


def snail() -> PixelSNAIL:
    """Two heads, whose keys are three numbers each."""
    sizes: dict[str, Any] = {"filters": 8, "blocks": 1, "resnets": 1, "key_channels": 6, "value_channels": 8}
    model = PixelSNAIL(PixelSNAILConfig((1, 3, 3), levels=2, heads=2, **sizes))
    model.initialize(torch.randint(0, 2, (8, 1, 3, 3)))
    return louder(model)  # type: ignore[return-value]


FAMILIES: dict[str, Callable[[], Any]] = {
    "pixelcnn": lambda: louder(PixelCNN(PixelCNNConfig((3, 2, 2), levels=5, hidden=12, blocks=1, head=20))),
    "gated": lambda: louder(GatedPixelCNN(GatedPixelCNNConfig((1, 3, 3), levels=2, hidden=8, layers=2))),
    "row": lambda: louder(PixelRNN(PixelRNNConfig((1, 2, 3), levels=2, variant="row", hidden=8, layers=1, head=20))),
    "diagonal": lambda: louder(
        PixelRNN(PixelRNNConfig((1, 2, 3), levels=2, variant="diagonal", hidden=8, layers=1, head=20))
    ),
    "pixelcnn++": mixture,
    "pixelsnail": snail,
}


def check_family(name: str) -> None:
    """As the eager engine, pixel for pixel."""
    model = FAMILIES[name]()
    given = example_conditions(model)
    with evaluation_mode(model):
        plan = schedule(compile_module(model_target(model, *given)))
    given = tuple(c[[0, 1, 0]] for c in given)
    expected = draw(
        EagerEngine(plan, model.likelihood, CPU, torch.float32), request(plan, model.likelihood, 3, 0, given)
    )
    got = draw(TritonEngine(plan, model.likelihood, CPU), request(plan, model.likelihood, 3, 0, given))
    assert_same(got, expected)
    assert len(got.images.unique()) > 1


def check_program(shape: tuple[int, int, int], levels: int, likelihood: str, seed: int) -> None:
    """Every kind of step, against evaluation in float64; known pixels; replay to the bit."""
    program = every_kind(seed, shape, levels, likelihood)
    plan, made = schedule(program), make_likelihood(likelihood, shape[0], levels)
    given = (torch.from_numpy(np.random.default_rng(0).standard_normal((9, 3))).float(),)
    engine = TritonEngine(plan, made, CPU)
    r = request(plan, made, 3, 0, given)
    r.known = torch.rand(r.known.shape) < 0.3
    r.images = torch.randint(0, levels, r.images.shape, dtype=torch.uint8)
    before = r.images.clone()
    draw(engine, r)
    known = r.known.view(3, 1, *shape[1:]).expand_as(before)
    assert torch.equal(r.images[known], before[known])
    assert r.params is not None
    exact = torch.stack(evaluate(program, r.images, r.conditions), 1).transpose(2, 3)
    off = (r.params - exact).abs().max()
    assert off < 2e-5 * exact.abs().max(), f"{off} is not within float32 rounding of the float64 evaluation."
    expected = draw(EagerEngine(plan, made, CPU, torch.float32), dataclasses.replace(
        request(plan, made, 3, 0, given), images=before.clone(), known=r.known
    ))  # fmt: skip
    assert_same(r, expected)
    scored = request(plan, made, 2, 1, given)
    scored.images, scored.known = r.images[1:].clone(), torch.ones_like(scored.known)
    assert bits(draw(engine, scored)) == bits(r, slice(1, 3))


def check_sampler() -> None:
    """The public interface: a foreign network with labels, completion, stream, scores, chunks."""
    module = louder(Foreign(), 2.0)
    labels = torch.tensor([0, 1, 2])
    how: dict[str, Any] = {"likelihood": "categorical", "levels": 4, "condition": labels}
    sampler = genfast.accelerate(module, (1, 2, 3), engine="triton", **how)
    eager = genfast.accelerate(module, (1, 2, 3), engine="eager", **how)
    drawn = sampler.sample(3, seed=2, condition=labels)
    assert torch.equal(drawn, eager.sample(3, seed=2, condition=labels))
    assert sampler.last_log_prob is not None
    assert torch.equal(sampler.last_log_prob, sampler.log_prob(drawn, labels))
    torch.testing.assert_close(sampler.log_prob(drawn, labels), eager.log_prob(drawn, labels), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(sampler.logits(drawn, labels), eager.logits(drawn, labels), rtol=1e-4, atol=1e-4)
    assert torch.equal(sampler.sample(3, seed=2, condition=labels, batch_size=2), drawn)
    two, other = (sampler.stream(3, seed=2, condition=labels) for _ in range(2))  # at the same time
    rows = [(a, b) for a, b in zip(two, other, strict=True)]
    assert torch.equal(torch.stack([a for a, _ in rows], 2), drawn)
    assert torch.equal(torch.stack([b for _, b in rows], 2), drawn)
    known = torch.tensor([[True, False, True], [False, True, False]])
    filled = sampler.complete(drawn.flip(0), known, seed=5, condition=labels)
    assert torch.equal(filled, eager.complete(drawn.flip(0), known, seed=5, condition=labels))
    assert sampler.log_prob(drawn[:0], labels[:0]).shape == (0,)


def check_bfloat16() -> None:
    """Factors of products are rounded as the eager engine rounds them."""
    model = TinyModel((1, 2, 3), 4)
    eager, sampler = (genfast.compile_sampler(model, e, precision="bfloat16") for e in ("eager", "triton"))
    plain = genfast.compile_sampler(model, "eager")
    images = torch.randint(0, 4, (3, 1, 2, 3), dtype=torch.uint8)
    labels = torch.tensor([0, 1, 2])
    rounded, expected = sampler.logits(images, labels), eager.logits(images, labels)
    rounding, apart = (expected - plain.logits(images, labels)).abs().mean(), (rounded - expected).abs().mean()
    assert apart < 0.1 * rounding, f"{apart} apart, where rounding makes {rounding}."  # sums seldom round differently
    assert torch.isfinite(genfast.compile_sampler(model, "triton", precision="tf32").log_prob(images, labels)).all()


def check_recorded() -> None:
    """As on a GPU: the launches are recorded once, without being run, and replayed for another request."""

    def record(launches: Sequence[Launch], device: torch.device) -> Callable[[], None]:
        recorded.append(len(launches))
        return lambda: [launch.run(device) for launch in launches] and None

    recorded: list[int] = []
    model = TinyModel((1, 2, 2), 4)
    labels = torch.tensor([0, 1, 2, 3, 4])
    with evaluation_mode(model):
        plan = schedule(compile_module(model_target(model, labels)))
    engine = TritonEngine(plan, model.likelihood, CPU)
    engine.record = record
    whole = draw(engine, request(plan, model.likelihood, 5, 0, (labels,)))
    assert len(recorded) == 2
    fewer = draw(engine, request(plan, model.likelihood, 3, 1, (labels,)))
    assert len(recorded) == 2, "five images' buffers have room for three."
    assert bits(fewer) == bits(whole, slice(1, 4))
    cold = draw(engine, request(plan, model.likelihood, 5, 0, (labels,), temperature=0.0))
    expected = request(plan, model.likelihood, 5, 0, (labels,), temperature=0.0)
    assert_same(cold, draw(EagerEngine(plan, model.likelihood, CPU, torch.float32), expected))
    assert bits(draw(engine, request(plan, model.likelihood, 5, 0, (labels,)))) == bits(whole)
    assert len(recorded) == 2
    draw(engine, request(plan, model.likelihood, 1, 0, (labels,)))
    assert len(recorded) == 4, "one image would leave most of five images' buffers idle."


def check_wrong_weights() -> None:
    """NaN is one sentence, and the engine goes on with the next request."""
    model = TinyModel((1, 2, 2), 3)
    labels = torch.tensor([0, 1])
    sampler = genfast.compile_sampler(model, "triton")
    before = sampler.sample(2, condition=labels)
    state = {name: t.clone() for name, t in model.state_dict().items()}
    with torch.no_grad():
        model.last.bias[0] = math.nan  # type: ignore[index]
    with pytest.raises(GenfastError, match="holds NaN or infinity; check that"):
        sampler.sample(2, condition=labels)
    with pytest.raises(GenfastError, match="holds NaN"):
        sampler.log_prob(before, labels)
    sampler.load_state_dict(state)
    assert torch.equal(sampler.sample(2, condition=labels), before)


def check_refusals() -> None:
    """What the engine cannot do is one sentence that says what to do."""
    network = MaskedConv2d(1, 4, 3, "A").eval()
    levels = lambda params, u: (u[:, :1] * 4).long()  # noqa: E731
    with pytest.raises(NotSupported, match=r"triton engine draws from .* use engine='eager'"):
        genfast.accelerate(network, (1, 2, 2), levels, levels=4, engine="triton")
    with pytest.raises(NotSupported, match=r"the model is float64; use engine='eager', or model.float\(\)"):
        genfast.compile_sampler(TinyModel((1, 2, 2), 3).double(), "triton")
    with pytest.raises(NotSupported, match="eager engine has no tf32: use engine='triton'"):
        genfast.compile_sampler(TinyModel((1, 2, 2), 3), "eager", precision="tf32")
    program = every_kind(0, (1, 2, 2), 3)
    plan = schedule(program)

    class Sort:
        out = 0

    kernels = (dataclasses.replace(plan.kernels[-1], head=Sort()), *plan.kernels[1:])  # type: ignore[arg-type]
    strange = dataclasses.replace(plan, kernels=kernels)
    with pytest.raises(NotSupported, match="no kernel for the step Sort of .* use engine='eager'"):
        TritonEngine(strange, make_likelihood("categorical", 1, 3), CPU)


def checks() -> list[tuple[Any, ...]]:
    found: list[tuple[Any, ...]] = [(name, check_family, name) for name in FAMILIES]
    found += [
        ("program-2x2x2", check_program, (2, 2, 2), 7, "categorical", 2),
        ("program-1x3x1", check_program, (1, 3, 1), 2, "bernoulli", 0),
        ("ties", check_ties),
        ("mixture-draws", check_mixture_draws),
        ("pointwise", check_pointwise),
        ("sampler", check_sampler),
        ("bfloat16", check_bfloat16),
        ("recorded", check_recorded),
        ("wrong-weights", check_wrong_weights),
        ("refusals", check_refusals),
    ]
    return found


def names() -> list[str]:
    return [name for name, *_ in checks()]


def main(arguments: list[str]) -> None:
    prepare()
    hasten_interpreter()
    results: dict[str, str] = {}
    for name, check, *values in checks():
        if arguments and name not in arguments:
            continue
        torch.manual_seed(0)
        began = time.process_time()
        attempt(results, name, check, *values)
        print(f"{name}: {time.process_time() - began:.1f} s of the processor", file=sys.stderr, flush=True)
    print(json.dumps(results))


if __name__ == "__main__":
    main(sys.argv[1:])
