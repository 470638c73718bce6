"""The cpu engine's products at all widths: panels of two vectors, a last one of three or of one, and shares of them."""

import pytest
import torch

from genfast.models import PixelCNN, PixelCNNConfig
from genfast.ops import backends
from genfast.sampling import compile_sampler
from genfast.testing.instruction_sets import rerun_on

pytestmark = pytest.mark.skipif(bool(backends.NO_EXTENSION), reason=backends.NO_EXTENSION)


def network(hidden: int, blocks: int = 1, head: int = 20) -> PixelCNN:
    torch.manual_seed(hidden)
    model = PixelCNN(PixelCNNConfig((1, 4, 5), 3, hidden=hidden, blocks=blocks, head=head, first_kernel=3))
    with torch.no_grad():
        for p in model.parameters():
            p.normal_(0, 1 / max(1, p[0].numel()) ** 0.5)
    return model.eval()


def assert_exact(model: PixelCNN, n: int) -> None:
    images = torch.randint(0, 3, (n, *model.image_shape), dtype=torch.uint8)
    expected = compile_sampler(model, "eager").logits(images)
    rounded = compile_sampler(model, "eager", precision="bfloat16").logits(images)
    for precision, reference in (("float32", expected), ("bfloat16", rounded)):
        alone, shared = (compile_sampler(model, "cpu", threads=t, precision=precision) for t in (1, 3))
        logits = alone.logits(images)
        budget = 1e-5 if precision == "float32" else 0.1 * float((expected - rounded).abs().mean())
        assert float((logits - reference).abs().mean()) < budget
        assert torch.equal(alone.logits(images[:1]), logits[:1])
        assert torch.equal(shared.logits(images[:1]), logits[:1]), "Three members share the columns of one image."
        assert torch.equal(shared.logits(images), logits)


@pytest.mark.parametrize("hidden", [6, 10, 18, 34, 66, 86])
def test_widths(hidden: int) -> None:
    assert_exact(network(hidden, head=hidden // 2 + 31), 4)


def test_more_weights_than_stay_in_a_cache() -> None:
    assert_exact(network(160, blocks=3), 2)


def test_more_rows_than_a_tile_has() -> None:
    for n in (17, 130):
        assert_exact(network(34), n)


@pytest.mark.slow
@pytest.mark.parametrize("isa", ["generic", "avx2", "avx512", "avx512_bf16"])
def test_every_narrower_instruction_set(isa: str) -> None:
    rerun_on(isa, "not narrower", __file__)
