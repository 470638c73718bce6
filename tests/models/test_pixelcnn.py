"""PixelCNN: its size counted by hand, its configs, its first steps of training."""

import math

import pytest
import torch

from genfast.errors import GenfastError
from genfast.models import PixelCNN, PixelCNNConfig
from genfast.models.pixelcnn import PRESETS


def parameters(model: torch.nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


def test_mnist_preset_by_hand():
    """Weights are counted with their masked taps, as the state dict holds them."""
    first = 7 * 7 * 1 * 32 + 32
    block = (32 * 16 + 16) + (3 * 3 * 16 * 16 + 16) + (16 * 32 + 32)
    head = (32 * 32 + 32) + (32 * 32 + 32) + (32 * 1 + 1)
    assert parameters(PixelCNN(PRESETS["mnist"])) == first + 7 * block + head


def test_cifar10_preset_by_hand():
    first = 7 * 7 * 3 * 256 + 256
    block = (256 * 128 + 128) + (3 * 3 * 128 * 128 + 128) + (128 * 256 + 256)
    head = (256 * 1024 + 1024) + (1024 * 1024 + 1024) + (1024 * 768 + 768)
    assert parameters(PixelCNN(PRESETS["cifar10"])) == first + 15 * block + head


def test_mnist_preset_reaches_ten_rows():
    """7x7 sees 3 rows up, and each of the 7 blocks one more; to the right of the pixel above, it is blind after 3."""
    torch.manual_seed(0)
    model = PixelCNN(PRESETS["mnist"]).double()
    x = torch.randn(4, 1, 28, 28, dtype=torch.float64, requires_grad=True)
    model(x)[:, 0, 20, 14].sum().backward()
    assert x.grad is not None
    seen = (x.grad != 0).any(0)[0]
    assert seen.any(1).nonzero().flatten().tolist() == list(range(10, 21))
    assert seen[20].nonzero().flatten().tolist() == list(range(4, 14))
    assert seen[19].nonzero().flatten().tolist() == list(range(4, 18))
    assert seen[10].nonzero().flatten().tolist() == list(range(4, 25))


@pytest.mark.parametrize("name", PRESETS)
def test_presets_are_built(name):
    model = PixelCNN(PRESETS[name])
    assert model.image_shape == PRESETS[name].image_shape
    assert model.likelihood.levels == PRESETS[name].levels


@pytest.mark.parametrize(("levels", "likelihood", "shape"), [
    (2, "bernoulli", (2, 3, 5, 4)), (2, "categorical", (2, 2, 3, 5, 4)), (7, "auto", (2, 7, 3, 5, 4)),
])  # fmt: skip
def test_output_shapes(levels, likelihood, shape):
    model = PixelCNN(PixelCNNConfig((3, 5, 4), levels, hidden=8, blocks=1, head=8, likelihood=likelihood))
    images = torch.randint(0, levels, (2, 3, 5, 4))
    assert model(images).shape == shape
    assert model.log_prob(images).shape == (2,)


@pytest.mark.parametrize(("shape", "levels"), [((1, 12, 12), 2), ((3, 8, 8), 256), ((1, 8, 8), 17)])
def test_at_first_it_knows_nothing(shape, levels):
    torch.manual_seed(0)
    model = PixelCNN(PixelCNNConfig(shape, levels, hidden=32, blocks=3, head=64))
    nats = -model.log_prob(torch.randint(0, levels, (4, *shape))).mean().item() / math.prod(shape)
    assert nats == pytest.approx(math.log(levels), rel=0.05)


def test_a_few_steps_reduce_the_loss():
    torch.manual_seed(0)
    model = PixelCNN(PixelCNNConfig((3, 6, 5), 4, hidden=12, blocks=2, head=12))
    images = torch.arange(4)[:, None, None, None].expand(4, 3, 6, 5).contiguous()  # each image of one level
    optimizer = torch.optim.Adam(model.parameters(), lr=4e-2)
    losses = []
    for _ in range(60):
        loss = -model.log_prob(images).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.4 * losses[0]
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())


@pytest.mark.parametrize(("values", "sentence"), [
    ({"hidden": 0}, "hidden must be an integer of at least 1, not 0."),
    ({"image_shape": (3, 8, 8), "hidden": 2}, "hidden must be an integer of at least 3, not 2."),
    ({"image_shape": (3, 8, 8), "head": 2}, "head must be an integer of at least 3, not 2."),
    ({"blocks": -1}, "blocks must be an integer of at least 0, not -1."),
    ({"blocks": 1.5}, "blocks must be an integer of at least 0, not 1.5."),
    ({"kernel": 4}, "kernel must be odd, so that a convolution keeps the image size, not 4."),
    ({"first_kernel": 1}, "first_kernel must be an integer of at least 3, not 1."),
])  # fmt: skip
def test_bad_sizes_are_refused(values, sentence):
    with pytest.raises(GenfastError) as error:
        PixelCNNConfig(**{"image_shape": (1, 8, 8), **values})
    assert str(error.value) == sentence


def test_it_has_no_condition():
    model = PixelCNN(PixelCNNConfig((1, 3, 3), 2, hidden=2, blocks=1, head=2))
    with pytest.raises(GenfastError, match="unconditional"):
        model(torch.zeros(2, 1, 3, 3, dtype=torch.uint8), torch.tensor([0, 1]))
