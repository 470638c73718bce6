"""Gated PixelCNN: its size counted by hand, its gates, its condition, its first steps of training."""

import math

import pytest
import torch

from genfast.errors import GenfastError
from genfast.models import GatedPixelCNN, GatedPixelCNNConfig
from genfast.models.gated_pixelcnn import PRESETS


def tiny(levels: int = 2, **values: object) -> GatedPixelCNN:
    torch.manual_seed(0)
    sizes = {"image_shape": (1, 5, 4), "hidden": 6, "layers": 2, "head": 6, **values}
    return GatedPixelCNN(GatedPixelCNNConfig(levels=levels, **sizes))


def test_mnist_preset_by_hand():
    """Weights are counted with their masked taps, as the state dict holds them."""
    h = 128
    first = (49 * 2 * h + 2 * h) + (7 * 2 * h + 2 * h)
    other = (9 * h * 2 * h + 2 * h) + (3 * h * 2 * h + 2 * h)
    link = 2 * h * 2 * h + 2 * h
    square = h * h + h
    head = square + (h + 1)
    expected = first + 9 * other + 10 * link + 9 * square + 10 * square + head  # 9 residuals, 10 skips
    assert sum(p.numel() for p in GatedPixelCNN(PRESETS["mnist"]).parameters()) == expected


def test_mnist_preset_reaches_twelve_rows():
    """7x7 sees 3 rows up, and each of the 9 layers after it one more: a rectangle, with no blind spot."""
    torch.manual_seed(0)
    model = GatedPixelCNN(PRESETS["mnist"]).double()
    x = torch.randn(2, 1, 28, 28, dtype=torch.float64, requires_grad=True)
    model(x)[:, 0, 20, 14].sum().backward()
    assert x.grad is not None
    seen = (x.grad != 0).any(0)[0]
    expected = torch.zeros(28, 28, dtype=torch.bool)
    expected[8:20, 2:27] = True
    expected[20, 2:14] = True
    assert torch.equal(seen, expected)


@pytest.mark.parametrize("name", PRESETS)
def test_presets_are_built(name):
    model = GatedPixelCNN(PRESETS[name])
    assert model.image_shape == PRESETS[name].image_shape
    assert model.likelihood.levels == PRESETS[name].levels


@pytest.mark.parametrize(("levels", "likelihood", "shape"), [
    (2, "bernoulli", (2, 3, 5, 4)), (2, "categorical", (2, 2, 3, 5, 4)), (7, "auto", (2, 7, 3, 5, 4)),
])  # fmt: skip
def test_output_shapes(levels, likelihood, shape):
    model = tiny(levels, image_shape=(3, 5, 4), likelihood=likelihood)
    images = torch.randint(0, levels, (2, 3, 5, 4))
    assert model(images).shape == shape
    assert model.log_prob(images).shape == (2,)


@pytest.mark.parametrize("layers", [1, 2])
def test_every_parameter_learns(layers):
    model = tiny(layers=layers, image_shape=(3, 5, 4), num_classes=2)
    model.log_prob(torch.randint(0, 2, (4, 3, 5, 4)), torch.tensor([0, 1, 1, 0])).sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())


@pytest.mark.parametrize(("shape", "levels"), [((1, 12, 12), 2), ((3, 8, 8), 256), ((1, 8, 8), 17)])
def test_at_first_it_knows_nothing(shape, levels):
    model = tiny(levels, image_shape=shape, hidden=33, layers=4, head=64)
    nats = -model.log_prob(torch.randint(0, levels, (4, *shape))).mean().item() / math.prod(shape)
    assert nats == pytest.approx(math.log(levels), rel=0.05)


def test_features_keep_their_size():
    """The vertical stack has no residual connection: with PyTorch's own initial weights it would soon be constant."""
    model = tiny(image_shape=(1, 12, 12), hidden=32, layers=6)
    sizes = []
    for layer in model.layers:
        layer.register_forward_hook(lambda _, __, out: sizes.append([x.std().item() for x in out[:2]]))
    model(torch.randint(0, 2, (4, 1, 12, 12)))
    for stack in zip(*sizes, strict=True):
        assert max(stack) < 4 * min(stack)


@pytest.mark.parametrize("condition", [{}, {"num_classes": 4}, {"condition_dim": 4}])
def test_a_few_steps_reduce_the_loss(condition):
    """Each image is of one level, which is soon learned, and sooner by a model that is told which."""
    model = tiny(4, image_shape=(3, 6, 5), hidden=12, head=12, **condition)
    levels = torch.arange(4).repeat(2)
    images = levels[:, None, None, None].expand(8, 3, 6, 5).contiguous()
    told = {"num_classes": levels, "condition_dim": torch.eye(4)[levels]}[next(iter(condition))] if condition else None
    optimizer = torch.optim.Adam(model.parameters(), lr=4e-2)
    losses = []
    for _ in range(60):
        loss = -model.log_prob(images, told).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < (0.1 if condition else 0.4) * losses[0]


def test_the_condition_matters():
    images = torch.randint(0, 2, (2, 1, 5, 4))
    labelled = tiny(num_classes=3)
    zero, one = labelled(images, torch.tensor([0, 0])), labelled(images, torch.tensor([0, 1], dtype=torch.uint8))
    torch.testing.assert_close(zero[0], one[0])
    assert (zero[1] != one[1]).all()  # at every pixel, the first one too
    vector = tiny(condition_dim=3)
    assert (vector(images, torch.zeros(2, 3)) != vector(images, torch.ones(2, 3))).all()


@pytest.mark.parametrize(("model", "condition", "sentence"), [
    ({}, torch.tensor([0, 1]), "This model is unconditional: leave the condition out."),
    ({"num_classes": 3}, None, "This model needs a condition: a label 0 to 2 for each image."),
    ({"num_classes": 3}, torch.tensor([0, 3]), "Labels must be 0 to 2, but these are 0 to 3."),
    ({"num_classes": 3}, torch.tensor([-1, 2]), "Labels must be 0 to 2, but these are -1 to 2."),
    ({"num_classes": 3}, torch.tensor([0]),
     "The condition must be 2 integer labels, one per image, not torch.int64 of shape [1]."),
    ({"num_classes": 3}, torch.tensor([0.0, 1.0]),
     "The condition must be 2 integer labels, one per image, not torch.float32 of shape [2]."),
    ({"condition_dim": 3}, None, "This model needs a condition: a vector of 3 floats for each image."),
    ({"condition_dim": 3}, torch.zeros(2, 4),
     "The condition must be floats of shape [2, 3], not torch.float32 of shape [2, 4]."),
    ({"condition_dim": 3}, torch.zeros(2, 3).long(),
     "The condition must be floats of shape [2, 3], not torch.int64 of shape [2, 3]."),
    ({"condition_dim": 3}, torch.tensor([[0.0, 1.0, math.nan]] * 2), "The condition holds NaN or infinite values."),
])  # fmt: skip
def test_wrong_conditions_are_refused(model, condition, sentence):
    with pytest.raises(GenfastError) as error:
        tiny(**model)(torch.zeros(2, 1, 5, 4, dtype=torch.uint8), condition)
    assert str(error.value) == sentence


@pytest.mark.parametrize(("values", "sentence"), [
    ({"layers": 0}, "layers must be an integer of at least 1, not 0."),
    ({"hidden": True}, "hidden must be an integer of at least 1, not True."),
    ({"hidden": 7}, "hidden must be a multiple of the image's 3 channels, not 7."),
    ({"head": 2}, "head must be an integer of at least 3, not 2."),
    ({"kernel": 2}, "kernel must be odd, so that a convolution keeps the image size, not 2."),
    ({"num_classes": 0}, "num_classes must be an integer of at least 1, not 0."),
    ({"condition_dim": "4"}, "condition_dim must be an integer of at least 1, not '4'."),
    ({"num_classes": 3, "condition_dim": 3}, "Set num_classes or condition_dim, not both: a model has one condition."),
])  # fmt: skip
def test_bad_sizes_are_refused(values, sentence):
    with pytest.raises(GenfastError) as error:
        GatedPixelCNNConfig(**{"image_shape": (3, 8, 8), **values})
    assert str(error.value) == sentence
