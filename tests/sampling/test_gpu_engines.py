"""The triton and the cuda engine on a GPU: each family's images, pixel for pixel those of the cpu engine; bits that
depend on no batch; options, streams, devices, precisions, memory. Without a GPU only the models are tested.

The kernels alone, interpreted and emulated, are in test_triton_engine.py and test_cuda_engine.py.
"""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

import genfast
from genfast.compiler.products import float32_products
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
from genfast.ops.backends import why_not
from genfast.testing import require_cuda

pytest.importorskip("genfast._C")
ENGINES = ("triton", "cuda")
N = 16


def mixture() -> PixelCNNPP:
    model = PixelCNNPP(PixelCNNPPConfig((3, 5, 6), filters=8, resnets=1, scales=2, components=3, num_classes=3))
    model.initialize(torch.randint(0, 256, (32, 3, 5, 6)), torch.arange(32) % 3)
    return model


def snail() -> PixelSNAIL:
    sizes: dict[str, Any] = {"filters": 8, "blocks": 2, "resnets": 1, "key_channels": 4, "value_channels": 12}
    model = PixelSNAIL(PixelSNAILConfig((1, 6, 7), levels=2, heads=2, num_classes=3, **sizes))
    model.initialize(torch.randint(0, 2, (32, 1, 6, 7)), torch.arange(32) % 3)
    return model


MODELS: dict[str, Callable[[], Any]] = {
    "pixelcnn": lambda: PixelCNN(PixelCNNConfig((3, 6, 5), levels=17, hidden=12, blocks=2, head=24)),
    "gated": lambda: GatedPixelCNN(GatedPixelCNNConfig((1, 7, 6), levels=2, hidden=16, layers=3, head=16)),
    "gated, labels": lambda: GatedPixelCNN(
        GatedPixelCNNConfig((3, 4, 5), levels=5, hidden=12, layers=2, head=12, num_classes=4)
    ),
    "gated, vectors": lambda: GatedPixelCNN(
        GatedPixelCNNConfig((1, 5, 4), levels=9, hidden=8, layers=2, head=8, condition_dim=3)
    ),
    "row": lambda: PixelRNN(PixelRNNConfig((1, 6, 7), levels=2, variant="row", hidden=8, layers=2, head=16)),
    "diagonal": lambda: PixelRNN(PixelRNNConfig((1, 6, 7), levels=2, variant="diagonal", hidden=8, layers=2, head=16)),
    "pixelcnn++": mixture,
    "pixelsnail": snail,
}
each_engine = pytest.mark.parametrize("engine", ENGINES)
each_model = pytest.mark.parametrize("name", MODELS)


def made(name: str) -> Any:
    """With weights large enough that levels depend on what came before."""
    torch.manual_seed(0)
    model = MODELS[name]()
    if name not in ("pixelcnn++", "pixelsnail"):  # whose layers are normalised
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.dim() > 1:
                    parameter.mul_(2)
    return model.eval()


def condition_of(model: Any, n: int) -> Tensor | None:
    if model.num_classes is not None:
        return torch.arange(n) % model.num_classes
    if model.condition_dim is not None:
        return torch.randn(n, model.condition_dim, generator=torch.Generator().manual_seed(1))
    return None


def on_gpu(model: Any, engine: str, precision: str = "float32", device: str = "cuda") -> Any:
    require_cuda()
    assert not why_not(engine), f"{engine}: {why_not(engine)}"
    return genfast.compile_sampler(copy.deepcopy(model).to(device), engine, precision=precision)


@each_model
def test_images_depend_on_what_came_before(name: str) -> None:
    """Else equal images would say little: with the first row changed, the rows after it change."""
    model = made(name)
    given = condition_of(model, N)
    sampler = genfast.compile_sampler(model, "cpu")
    drawn = sampler.sample(N, condition=given)
    known = torch.zeros(drawn.shape[2:], dtype=torch.bool)
    known[0] = True
    other = sampler.complete(model.levels - 1 - drawn, known, condition=given)
    assert not torch.equal(other[:, :, 1:], drawn[:, :, 1:])
    assert len(drawn.unique()) > 1


@each_engine
@each_model
def test_draws_the_images_of_the_cpu_engine(name: str, engine: str) -> None:
    model = made(name)
    given = condition_of(model, N)
    cpu, gpu = genfast.compile_sampler(model, "cpu"), on_gpu(model, engine)
    expected = cpu.sample(N, seed=3, condition=given)
    drawn = gpu.sample(N, seed=3, condition=given)
    assert torch.equal(drawn.cpu(), expected)
    torch.testing.assert_close(gpu.last_log_prob.cpu(), cpu.last_log_prob, rtol=1e-5, atol=1e-4)
    torch.testing.assert_close(gpu.logits(drawn, given).cpu(), cpu.logits(expected, given), rtol=1e-4, atol=1e-4)
    known = torch.rand(expected.shape[2:], generator=torch.Generator().manual_seed(2)) < 0.4
    wanted = cpu.complete(expected.flip(0), known, seed=5, condition=given)
    assert torch.equal(gpu.complete(expected.flip(0), known, seed=5, condition=given).cpu(), wanted)
    rows = torch.stack(list(gpu.stream(N, seed=3, condition=given)), 2)
    assert torch.equal(rows.cpu(), expected)


@each_engine
@pytest.mark.parametrize("name", ["pixelcnn", "gated", "pixelcnn++"])
@pytest.mark.parametrize("options", [{"temperature": 0.7}, {"temperature": 0.0}, {"top_k": 2}, {"top_p": 0.6}], ids=str)
def test_options_of_drawing(options: dict[str, Any], name: str, engine: str) -> None:
    model = made(name)
    given = condition_of(model, N)
    expected = genfast.compile_sampler(model, "cpu").sample(N, condition=given, **options)
    assert torch.equal(on_gpu(model, engine).sample(N, condition=given, **options).cpu(), expected)


@each_engine
@each_model
def test_bits_do_not_depend_on_the_batch(name: str, engine: str) -> None:
    """Nor on whether an image is drawn or scored."""
    model = made(name)
    given = condition_of(model, N)
    sampler = on_gpu(model, engine)
    drawn = sampler.sample(N, condition=given)
    nats = sampler.last_log_prob
    for size in (1, 5, N):
        assert torch.equal(sampler.sample(N, condition=given, batch_size=size), drawn)
        assert torch.equal(sampler.last_log_prob, nats)
        assert torch.equal(sampler.log_prob(drawn, given, batch_size=size), nats)
    part = None if given is None else given[7:9]
    assert torch.equal(sampler.sample(2, first=7, condition=part), drawn[7:9])


@each_engine
def test_more_images_than_run_at_once(engine: str) -> None:
    """The digits preset, more of them than the GPU has room for at a time; the last block is not full."""
    torch.manual_seed(0)
    model = GatedPixelCNN(genfast.models.MODELS["gated-pixelcnn"].presets["digits"]).eval()
    sampler = on_gpu(model, engine)
    n = 8 * 2 * torch.cuda.get_device_properties(0).multi_processor_count + 3
    drawn = sampler.sample(n, batch_size=n)
    expected = genfast.compile_sampler(model, "cpu").sample(n)
    assert torch.equal(drawn.cpu(), expected)


@pytest.mark.parametrize(("engine", "precision"), [("triton", "tf32"), ("triton", "bfloat16"), ("cuda", "bfloat16")])
@pytest.mark.parametrize("name", ["pixelcnn", "gated", "row"])
def test_rounded_factors(name: str, engine: str, precision: str) -> None:
    """Logits are off by what rounding does, and not by nothing; what is drawn is scored to the bit."""
    model = made(name)
    plain, rounded = on_gpu(model, engine), on_gpu(model, engine, precision)
    drawn = rounded.sample(N)
    assert torch.equal(rounded.log_prob(drawn), rounded.last_log_prob)
    exact = plain.logits(drawn)
    off = float((rounded.logits(drawn) - exact).abs().max() / exact.abs().max())
    assert 0 < off < (0.01 if precision == "tf32" else 0.1)
    if precision == "bfloat16":  # as the cpu engine rounds them
        cpu = genfast.compile_sampler(model, "cpu", precision=precision).logits(drawn.cpu())
        apart = float((rounded.logits(drawn).cpu() - cpu).abs().mean())
        assert apart < 0.2 * float((cpu - exact.cpu()).abs().mean())  # sums seldom round differently


@each_engine
def test_a_stream_of_the_users(engine: str) -> None:
    """A sampler waits for what its stream has queued, and its results are there for what follows."""
    model = made("gated, labels")
    given = condition_of(model, N)
    assert given is not None
    sampler = on_gpu(model, engine)
    expected = sampler.sample(N, condition=given)
    known = torch.zeros(expected.shape[2:], dtype=torch.bool)
    known[:2] = True
    filled = sampler.complete(expected.flip(0), known, condition=given)
    late, images = torch.zeros_like(given, device="cuda"), torch.zeros_like(expected)
    torch.cuda.synchronize()
    with torch.cuda.stream(torch.cuda.Stream()):
        torch.cuda._sleep(100_000_000)
        late.copy_(given, non_blocking=True)
        images.copy_(expected.flip(0), non_blocking=True)
        doubled = 2 * sampler.complete(images, known, condition=late)
        nats = 2 * sampler.log_prob(images, late)
    torch.cuda.synchronize()
    assert torch.equal(doubled, 2 * filled)
    assert torch.equal(nats, 2 * sampler.log_prob(expected.flip(0), given))


@each_engine
def test_any_device_whichever_is_the_current_one(engine: str) -> None:
    require_cuda()
    model = made("gated")
    expected = genfast.compile_sampler(model, "cpu").sample(N)
    for index in range(torch.cuda.device_count()):
        with torch.cuda.device(0):
            drawn = on_gpu(model, engine, device=f"cuda:{index}").sample(N)
        assert drawn.device.index == index
        assert torch.equal(drawn.cpu(), expected)


@each_engine
def test_runs_at_the_same_time(engine: str) -> None:
    """Two streams of rows of one sampler, read in turns, and a third that nobody reads to the end."""
    model = made("row")
    sampler = on_gpu(model, engine)
    expected = [sampler.sample(N, seed=seed) for seed in (1, 2)]
    one, two, left = (sampler.stream(N, seed=seed) for seed in (1, 2, 3))
    next(left)
    rows = list(zip(one, two, strict=True))
    for k in (0, 1):
        assert torch.equal(torch.stack([pair[k] for pair in rows], 2), expected[k])


@each_engine
def test_memory_does_not_grow(engine: str) -> None:
    sampler = on_gpu(made("pixelcnn"), engine)
    for _ in range(3):
        sampler.sample(N)
    before = torch.cuda.memory_allocated()
    for _ in range(5):
        sampler.sample(N)
    assert torch.cuda.memory_allocated() == before


@each_engine
def test_default_settings_of_pytorch(engine: str) -> None:
    """With convolutions in TF32, as PyTorch has them, a model compiles all the same, and the engine is exact."""
    model = made("gated")
    with float32_products("tf32"):
        drawn = on_gpu(model, engine).sample(N)
    assert torch.equal(drawn.cpu(), genfast.compile_sampler(model, "cpu").sample(N))


def test_auto_takes_triton_and_says_nothing() -> None:
    require_cuda()
    sampler = genfast.compile_sampler(made("gated").cuda())
    assert (sampler.engine, sampler.reason) == ("triton", "")
