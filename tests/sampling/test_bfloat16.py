"""Sampling with precision="bfloat16": factors of products rounded, everything else in float32."""

import pytest
import torch

from genfast.errors import GenfastError, NotSupported
from genfast.models import (
    GatedPixelCNN,
    GatedPixelCNNConfig,
    ImageModel,
    PixelCNN,
    PixelCNNConfig,
    PixelRNN,
    PixelRNNConfig,
)
from genfast.ops import backends
from genfast.sampling import compile_sampler

MODELS = ["pixelcnn", "gated", "row", "diagonal"]
needs_extension = pytest.mark.skipif(bool(backends.NO_EXTENSION), reason=backends.NO_EXTENSION)


def build(kind: str) -> ImageModel:
    torch.manual_seed(0)
    shape = (3, 5, 6) if kind == "pixelcnn" else (1, 6, 5)
    model: ImageModel
    if kind == "pixelcnn":
        model = PixelCNN(PixelCNNConfig(shape, 7, hidden=9, blocks=2, head=13, first_kernel=5))
    elif kind == "gated":
        model = GatedPixelCNN(GatedPixelCNNConfig(shape, 4, hidden=6, layers=3, head=9, first_kernel=5, num_classes=3))
    else:
        model = PixelRNN(PixelRNNConfig(shape, 4, variant=kind, hidden=6, layers=2, head=9, first_kernel=5))  # type: ignore[arg-type]
    with torch.no_grad():
        for p in model.parameters():
            p.normal_(0, 0.4)
    return model.eval()


@needs_extension
@pytest.mark.parametrize("kind", MODELS)
def test_engines_agree_far_better_with_each_other_than_with_float32(kind: str) -> None:
    model = build(kind)
    condition = torch.arange(8) % 3 if kind == "gated" else None
    images = torch.randint(0, model.levels, (8, *model.image_shape), dtype=torch.uint8)
    logits = {
        (engine, precision): compile_sampler(model, engine, precision=precision).logits(images, condition)
        for engine in ("eager", "cpu")
        for precision in ("float32", "bfloat16")
    }
    rounding = (logits["eager", "bfloat16"] - logits["eager", "float32"]).abs()
    apart = (logits["eager", "bfloat16"] - logits["cpu", "bfloat16"]).abs()
    scale = logits["eager", "float32"].abs().mean()
    assert 1e-4 * scale < rounding.mean() < 3e-2 * scale, "bfloat16 has 8 bits."
    # A sum that ends a float32 rounding away may be rounded to another bfloat16 number: seldom.
    assert apart.mean() < 0.05 * rounding.mean()


@needs_extension
@pytest.mark.parametrize("kind", MODELS)
def test_bit_contracts(kind: str) -> None:
    model = build(kind)
    condition = torch.arange(7) % 3 if kind == "gated" else None
    sampler = compile_sampler(model, "cpu", threads=1, precision="bfloat16")
    images = sampler.sample(7, seed=5, condition=condition)
    drawn = sampler.last_log_prob
    assert drawn is not None
    assert torch.equal(sampler.log_prob(images, condition), drawn)
    other = compile_sampler(model, "cpu", threads=3, precision="bfloat16")
    assert torch.equal(other.sample(7, seed=5, condition=condition, batch_size=2), images)
    last = None if condition is None else condition[6:]
    assert torch.equal(other.sample(1, seed=5, first=6, condition=last), images[6:])
    assert torch.equal(other.log_prob(images[6:], last), drawn[6:])


def test_the_eager_engine_rounds_factors_in_float64_too() -> None:
    model = build("pixelcnn").double()
    images = torch.randint(0, 7, (2, 3, 5, 6), dtype=torch.uint8)
    exact, rounded = (
        compile_sampler(model, "eager", precision=precision).logits(images) for precision in ("float32", "bfloat16")
    )
    assert rounded.dtype == torch.float64
    assert 1e-4 < (exact - rounded).abs().mean() / exact.abs().mean() < 3e-2


def test_who_cannot_says_so() -> None:
    model = build("pixelcnn")
    for engine in ("naive", "jacobi"):
        with pytest.raises(NotSupported, match=f"The {engine} engine runs the model as it is: for bfloat16, use"):
            compile_sampler(model, engine, precision="bfloat16")
    with pytest.raises(NotSupported, match="auto has only the cpu engine for bfloat16, and"):
        compile_sampler(model.double(), precision="bfloat16")
    with pytest.raises(GenfastError, match="Unknown precision"):
        compile_sampler(model, precision="half")
    assert "bfloat16" in repr(compile_sampler(build("row"), "eager", precision="bfloat16"))
