"""Incremental sampling: every model of the package, compiled, draws the naive loop's images and computes its logits."""

import warnings
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import genfast
from genfast.errors import GenfastError, NotCausal, NotSupported
from genfast.models import GatedPixelCNN, GatedPixelCNNConfig, ImageModel, PixelCNN, PixelCNNConfig
from genfast.ops import backends
from genfast.sampling import compile_sampler, naive

needs_extension = pytest.mark.skipif(bool(backends.NO_EXTENSION), reason=backends.NO_EXTENSION)
ENGINES = ["eager", pytest.param("cpu", marks=needs_extension)]

SIZES = {
    "binary": ((1, 6, 5), 2, "bernoulli"),
    "gray": ((1, 5, 7), 11, "categorical"),
    "rgb": ((3, 4, 5), 5, "categorical"),
    "two channels": ((2, 5, 4), 3, "categorical"),
    "rgb bits": ((3, 5, 4), 2, "bernoulli"),
    "one wide": ((1, 9, 1), 4, "categorical"),
    "one high": ((3, 1, 8), 4, "categorical"),
    "one pixel": ((3, 1, 1), 4, "categorical"),
}


def randomise(model: ImageModel, seed: int = 1) -> ImageModel:
    """Weights at which a pixel depends strongly on its context."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.mul_(1.7)
            if name.endswith("bias"):
                parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator))
    return model.eval()


def build(kind: str, size: str, **more: Any) -> ImageModel:
    shape, levels, likelihood = SIZES[size]
    torch.manual_seed(0)
    if kind == "pixelcnn":
        return randomise(
            PixelCNN(PixelCNNConfig(shape, levels, hidden=9, blocks=2, head=13, first_kernel=5, likelihood=likelihood))  # type: ignore[arg-type]
        )
    config = GatedPixelCNNConfig(
        shape,
        levels,
        hidden=6,
        layers=3,
        head=9,
        first_kernel=5,
        likelihood=likelihood,
        **more,  # type: ignore[arg-type]
    )
    return randomise(GatedPixelCNN(config))


def agree(model: ImageModel, engine: str, condition: Tensor | None = None, n: int = 5) -> None:
    """Images pixel for pixel, logits within rounding, and the log-probability of what was drawn."""
    sampler = compile_sampler(model, engine)
    assert sampler.engine == engine
    drawn = sampler.sample(n, seed=3, first=2, condition=condition)
    assert torch.equal(drawn, naive.sample(model, n, seed=3, first=2, condition=condition))
    with torch.no_grad():
        expected = model(drawn, condition)
        nats = model.log_prob(drawn, condition)
    logits = sampler.logits(drawn, condition)
    torch.testing.assert_close(logits, expected, rtol=1e-5, atol=2e-5 * float(expected.abs().max()))
    torch.testing.assert_close(sampler.log_prob(drawn, condition), nats.double(), rtol=1e-5, atol=1e-4)
    assert sampler.last_log_prob is not None
    torch.testing.assert_close(sampler.last_log_prob, sampler.log_prob(drawn, condition), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("kind", ["pixelcnn", "gated-pixelcnn"])
def test_every_model_draws_the_naive_images(kind: str, size: str, engine: str) -> None:
    agree(build(kind, size), engine)


@pytest.mark.parametrize("engine", ENGINES)
def test_conditions(engine: str) -> None:
    agree(build("gated-pixelcnn", "rgb", num_classes=4), engine, torch.tensor([3, 0, 1, 3, 2]))
    agree(build("gated-pixelcnn", "gray", condition_dim=3), engine, torch.randn(5, 3))


@pytest.mark.parametrize("engine", ENGINES)
def test_no_blocks_and_many_taps(engine: str) -> None:
    shape, levels, _ = SIZES["gray"]
    agree(randomise(PixelCNN(PixelCNNConfig(shape, levels, hidden=4, blocks=0, head=3, first_kernel=9))), engine)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("slope", ["smallest", "raster"])
def test_both_ends_of_the_wavefront(engine: str, slope: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A tight wavefront and raster order compute the same cells at other times."""
    from genfast.compiler import schedule as compiler_schedule
    from genfast.compiler.schedule import smallest_slope
    from genfast.sampling import incremental

    model = build("gated-pixelcnn", "gray")
    monkeypatch.setattr(
        incremental,
        "schedule",
        lambda program: compiler_schedule(program, smallest_slope(program) if slope == "smallest" else 7),
    )
    agree(model, engine)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(
    "options", [{"temperature": 0.0}, {"temperature": 0.7, "top_k": 2}, {"top_p": 0.8}, {"top_k": 1}]
)
def test_draw_options(engine: str, options: dict[str, Any]) -> None:
    for model in (build("pixelcnn", "gray"), build("pixelcnn", "binary")):
        sampler = compile_sampler(model, engine)
        assert torch.equal(sampler.sample(4, seed=5, **options), naive.sample(model, 4, seed=5, **options))


@pytest.mark.parametrize("engine", ENGINES)
def test_completion(engine: str) -> None:
    model = build("gated-pixelcnn", "rgb")
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 5, (6, 3, 4, 5), generator=generator)
    sampler = compile_sampler(model, engine)
    for known in (torch.rand(6, 1, 4, 5, generator=generator) < 0.5, torch.arange(5).expand(4, 5) < 2):
        done = sampler.complete(images, known, seed=4)
        assert torch.equal(done, naive.complete(model, images, known, seed=4))
        where = known.expand(6, 1, 4, 5).expand(6, 3, 4, 5)
        assert torch.equal(done[where].long(), images[where])


@pytest.mark.parametrize("engine", ENGINES)
def test_stream_gives_rows_as_they_are_drawn(engine: str) -> None:
    model = build("pixelcnn", "rgb")
    sampler = compile_sampler(model, engine)
    whole = sampler.sample(3, seed=9)
    stream = sampler.stream(3, seed=9)
    assert isinstance(stream, Iterator)
    rows = list(stream)
    assert len(rows) == 4
    assert torch.equal(torch.stack(rows, 2), whole)
    with pytest.raises(GenfastError, match="temperature must be"):
        next(sampler.stream(1, temperature=-1))


@pytest.mark.parametrize("engine", ["naive", "jacobi"])
def test_the_loops_stream_too(engine: str) -> None:
    model = build("pixelcnn", "gray")
    sampler = compile_sampler(model, engine)
    assert torch.equal(torch.stack(list(sampler.stream(2, seed=1)), 2), sampler.sample(2, seed=1))
    assert sampler.last_log_prob is None
    with pytest.raises(GenfastError, match="has no program"):
        _ = sampler.program


@pytest.mark.parametrize("engine", ["naive", "jacobi", *ENGINES])
def test_between_the_rows_of_a_stream_nothing_is_changed(engine: str) -> None:
    model = build("pixelcnn", "gray").train()
    for _ in compile_sampler(model, engine).stream(2):
        assert torch.is_grad_enabled()
        assert not torch.is_inference_mode_enabled()
        assert model.training


def test_work_is_counted() -> None:
    model = build("pixelcnn", "gray")
    sampler = compile_sampler(model, "eager")
    sampler.sample(3)
    one = sampler.stats
    assert one.images == 3
    assert one.passes == 0
    assert min(one.steps, one.cells, one.flops, one.cache_bytes) > 0
    sampler.sample(6)
    assert sampler.stats.flops == 2 * one.flops
    assert sampler.stats.cells == 2 * one.cells
    assert "GFLOP per image" in str(sampler.stats)


@pytest.mark.parametrize("engine", ENGINES)
def test_new_weights_are_noticed(engine: str) -> None:
    model, other = build("pixelcnn", "gray"), randomise(build("pixelcnn", "gray"), seed=7)
    sampler = compile_sampler(model, engine)
    before = sampler.sample(3)
    assert sampler.load_state_dict(other.state_dict()) == "replaced"
    after = sampler.sample(3)
    assert torch.equal(after, naive.sample(other, 3))
    assert not torch.equal(before, after)
    with torch.no_grad():  # as training does, behind the sampler's back
        next(model.parameters()).mul_(-1)
    assert torch.equal(sampler.sample(3), naive.sample(model, 3))
    pruned = {k: torch.zeros_like(v) if "blocks.1" in k else v for k, v in other.state_dict().items()}
    assert sampler.load_state_dict(pruned) == "recompiled"
    assert torch.equal(sampler.sample(3), naive.sample(model, 3))


@needs_extension
def test_bits_do_not_depend_on_batch_position_or_threads() -> None:
    model = build("gated-pixelcnn", "rgb", num_classes=3)
    labels = torch.arange(40) % 3
    one = compile_sampler(model, "cpu", threads=1)
    whole = one.sample(40, seed=1, condition=labels, batch_size=40)
    nats = one.last_log_prob
    logits = one.logits(whole, labels)
    assert nats is not None
    assert torch.equal(one.log_prob(whole, labels), nats)  # replay
    assert torch.equal(one.sample(40, seed=1, condition=labels, batch_size=40), whole)  # two runs
    for threads in (1, 2, 3, 5):
        sampler = compile_sampler(model, "cpu", threads=threads)
        for first, n, batch_size in ((0, 1, 1), (3, 2, 2), (0, 40, 7), (10, 13, 13), (39, 1, 4)):
            part = slice(first, first + n)
            drawn = sampler.sample(n, seed=1, first=first, condition=labels[part], batch_size=batch_size)
            assert torch.equal(drawn, whole[part])
            assert sampler.last_log_prob is not None
            assert torch.equal(sampler.last_log_prob, nats[part])
            assert torch.equal(sampler.logits(drawn, labels[part], batch_size=batch_size), logits[part])


class LooksAhead(nn.Module):
    """A PixelCNN whose second layer forgot its mask."""

    def __init__(self) -> None:
        super().__init__()
        self.model = build("pixelcnn", "gray")
        self.image_shape, self.levels, self.likelihood = (1, 5, 7), 11, self.model.likelihood
        self.bad = nn.Conv2d(18, 18, 3, padding=1)

    def forward(self, images: Tensor, condition: Tensor | None = None) -> Tensor:
        model = self.model
        assert isinstance(model, PixelCNN)
        x = self.bad(model.first(model.scale(images)))
        return model.likelihood.unpack(model.head(model.blocks(x)))


def test_a_model_that_looks_ahead_is_refused_by_name() -> None:
    for engine in ("auto", "eager"):
        with pytest.raises(NotCausal, match="layer bad is the first"):
            compile_sampler(LooksAhead(), engine)
    report = genfast.check_causality(LooksAhead())
    assert not report.ok
    assert report.layers == ("bad",)


class Sorts(LooksAhead):
    """A causal network with an operator that cannot be taken apart."""

    def forward(self, images: Tensor, condition: Tensor | None = None) -> Tensor:
        model = self.model
        assert isinstance(model, PixelCNN)
        x = model.first(model.scale(images)).sort(1).values
        return model.likelihood.unpack(model.head(model.blocks(x)))


def test_what_cannot_be_taken_is_refused_or_left_to_the_loops() -> None:
    with pytest.raises(NotSupported, match="sort"):
        compile_sampler(Sorts(), "eager")
    sampler = compile_sampler(Sorts())
    assert sampler.engine == "jacobi"
    assert "sort" in sampler.reason
    assert torch.equal(sampler.sample(2), naive.sample(Sorts(), 2))


@needs_extension
def test_the_cpu_engine_says_what_it_cannot_run() -> None:
    double = build("pixelcnn", "gray").double()
    with pytest.raises(NotSupported, match="float64"):
        compile_sampler(double, "cpu")
    assert compile_sampler(double).engine == "jacobi"
    assert "float64" in compile_sampler(double).reason
    agree(double, "eager")


def test_bad_requests() -> None:
    model = build("pixelcnn", "gray")
    with pytest.raises(GenfastError, match="threads must be"):
        compile_sampler(model, threads=0)
    with pytest.raises(GenfastError, match="Unknown precision 'float16': choose float32 or bfloat16"):
        compile_sampler(model, precision="float16")
    conditional = build("gated-pixelcnn", "gray", num_classes=3)
    for engine in ("eager", "auto"):
        sampler = compile_sampler(conditional, engine)
        with pytest.raises(GenfastError, match="needs a condition"):
            sampler.sample(2)
        with pytest.raises(GenfastError, match="Labels must be 0 to 2"):
            sampler.sample(2, condition=torch.tensor([1, 3]))
        with pytest.raises(GenfastError, match="unconditional"):
            compile_sampler(model, engine).sample(2, condition=torch.tensor([1, 1]))


def test_sampling_leaves_the_model_as_it_was() -> None:
    model = build("pixelcnn", "gray").train()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        compile_sampler(model, "eager").sample(1)
    assert model.training
    assert all(p.grad is None for p in model.parameters())


@needs_extension
def test_the_cpu_engine_tells_where_its_time_goes() -> None:
    model = build("gated-pixelcnn", "gray")
    parts = compile_sampler(model, "cpu").profile(3)
    assert set(parts) == {"gather", "gemm", "body", "store", "draws"}
    assert parts["gemm"] > 0
    with pytest.raises(GenfastError, match="does not measure itself"):
        compile_sampler(model, "naive").profile(3)
