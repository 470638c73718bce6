"""PixelRNN: its size counted by hand, its configs, its scale through twelve layers, its first steps of training."""

import math

import pytest
import torch

from genfast.errors import GenfastError
from genfast.models import PixelRNN, PixelRNNConfig
from genfast.models.pixelrnn import PRESETS

VARIANTS = ["row", "diagonal"]


def tiny(levels: int = 2, **values: object) -> PixelRNN:
    torch.manual_seed(0)
    sizes = {"image_shape": (1, 5, 4), "hidden": 6, "layers": 2, "head": 6, "first_kernel": 3, **values}
    return PixelRNN(PixelRNNConfig(levels=levels, **sizes))


def row_layer(h: int) -> int:
    """1x3 from 2h maps to 4h gates, 1x3 from h to 4h, one bias, h0 and c0; 1x1 back to 2h. Masked taps are counted."""
    return (3 * 2 * h * 4 * h + 4 * h) + 3 * h * 4 * h + 2 * h + (h * 2 * h + 2 * h)


def diagonal_layer(h: int) -> int:
    """Twice (1x1 from 2h maps to 4h gates, 2x1 from h to 4h, one bias, h0 and c0); 1x1 back to 2h."""
    return 2 * ((2 * h * 4 * h + 4 * h) + 2 * h * 4 * h + 2 * h) + (h * 2 * h + 2 * h)


@pytest.mark.parametrize(("name", "layers"), [
    ("mnist-row", 7 * row_layer(16)), ("mnist-diagonal", 7 * diagonal_layer(16)),
    ("mnist-diagonal-1", diagonal_layer(32)),
])  # fmt: skip
def test_mnist_presets_by_hand(name, layers):
    h = PRESETS[name].hidden
    first = 7 * 7 * 1 * 2 * h + 2 * h
    head = (2 * h * 32 + 32) + (32 * 32 + 32) + (32 * 1 + 1)
    assert sum(p.numel() for p in PixelRNN(PRESETS[name]).parameters()) == first + layers + head


@pytest.mark.parametrize(
    ("name", "layer"), [("cifar10-row", row_layer(128)), ("cifar10-diagonal", diagonal_layer(128))]
)
def test_cifar10_presets_by_hand(name, layer):
    first = 7 * 7 * 3 * 256 + 256
    head = (256 * 1024 + 1024) + (1024 * 1024 + 1024) + (1024 * 768 + 768)
    assert sum(p.numel() for p in PixelRNN(PRESETS[name]).parameters()) == first + 12 * layer + head


@pytest.mark.parametrize("name", PRESETS)
def test_presets_are_built(name):
    model = PixelRNN(PRESETS[name])
    assert model.image_shape == PRESETS[name].image_shape
    assert model.likelihood.levels == PRESETS[name].levels
    assert PRESETS[name].variant in name or name == "digits"


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize(("levels", "likelihood", "shape"), [
    (2, "bernoulli", (2, 3, 5, 4)), (2, "categorical", (2, 2, 3, 5, 4)), (7, "auto", (2, 7, 3, 5, 4)),
])  # fmt: skip
def test_output_shapes(variant, levels, likelihood, shape):
    model = tiny(levels, image_shape=(3, 5, 4), likelihood=likelihood, variant=variant)
    images = torch.randint(0, levels, (2, 3, 5, 4))
    assert model(images).shape == shape
    assert model.log_prob(images).shape == (2,)


@pytest.mark.parametrize("variant", VARIANTS)
def test_all_images_of_four_sub_pixels_have_probability_one(variant):
    images = torch.cartesian_prod(*[torch.arange(3)] * 4).reshape(-1, 2, 1, 2)
    model = tiny(3, image_shape=(2, 1, 2), variant=variant).double()
    assert model.log_prob(images).exp().sum().item() == pytest.approx(1, abs=1e-12)


def test_the_extra_column_gives_sight_of_one_pixel_more():
    """Without it, the diagonal variant at the left misses the last pixel of the row above, and only that one."""
    model = tiny(image_shape=(1, 4, 7), variant="diagonal", layers=1).double()
    x = torch.randn(8, 1, 4, 7, dtype=torch.float64)

    def seen(network) -> torch.Tensor:
        image = x.clone().requires_grad_()
        network(image)[:, 0, 2, 1].sum().backward()
        assert image.grad is not None
        return (image.grad != 0).any(0)[0].flatten().nonzero().flatten()

    assert seen(lambda image: model.network(image, None)).tolist() == list(range(15))
    assert seen(lambda image: model.head(model.layers(model.first(image)))).tolist() == [*range(13), 14]


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize(("shape", "levels"), [((1, 12, 12), 2), ((3, 8, 8), 256), ((1, 8, 8), 17)])
def test_at_first_it_knows_nothing(variant, shape, levels):
    model = tiny(levels, image_shape=shape, variant=variant, hidden=32, layers=3, head=64)
    nats = -model.log_prob(torch.randint(0, levels, (4, *shape))).mean().item() / math.prod(shape)
    assert nats == pytest.approx(math.log(levels), rel=0.05)


@pytest.mark.parametrize("variant", VARIANTS)
def test_twelve_layers_keep_their_scale(variant):
    """Each layer adds something to what runs between the layers and drowns nothing, forwards and backwards."""
    model = tiny(image_shape=(1, 8, 8), variant=variant, hidden=32, layers=12, head=64)
    maps, added, gradients = [], [], []
    for layer in model.layers:

        def watch(_, inputs, out):
            maps.append(out.std().item())
            added.append((out - inputs[0]).std().item())
            out.register_hook(lambda grad: gradients.append(grad.norm().item()))

        layer.register_forward_hook(watch)
    model.log_prob(torch.randint(0, 2, (4, 1, 8, 8))).sum().backward()
    assert len(maps) == len(added) == len(gradients) == 12
    assert max(maps) < 4 * min(maps)
    assert max(gradients) < 4 * min(gradients)
    assert all(0.1 * size < new < size for size, new in zip(maps, added, strict=True))


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_few_steps_reduce_the_loss_and_every_parameter_learns(variant):
    model = tiny(4, image_shape=(3, 6, 5), variant=variant, hidden=12, head=12)
    images = torch.arange(4)[:, None, None, None].expand(4, 3, 6, 5).contiguous()  # each image of one level
    optimizer = torch.optim.Adam(model.parameters(), lr=4e-2)
    losses = []
    for _ in range(40):
        loss = -model.log_prob(images).mean()
        optimizer.zero_grad()
        loss.backward()
        if not losses:
            assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.4 * losses[0]


@pytest.mark.parametrize("variant", VARIANTS)
def test_state_dicts_go_round(variant):
    model, other = tiny(variant=variant), tiny(variant=variant)
    torch.nn.init.normal_(model.first.bias)
    images = torch.randint(0, 2, (2, 1, 5, 4))
    assert not torch.equal(model(images), other(images))
    other.load_state_dict(model.state_dict())
    assert torch.equal(model(images), other(images))


@pytest.mark.parametrize("variant", VARIANTS)
def test_autocast(variant):
    model, images = tiny(variant=variant), torch.randint(0, 2, (2, 1, 5, 4))
    with torch.autocast("cpu", torch.bfloat16):
        nats = -model.log_prob(images).mean()
    nats.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    torch.testing.assert_close(nats.float(), -model.log_prob(images).mean(), rtol=0.02, atol=0)


@pytest.mark.parametrize(("values", "sentence"), [
    ({"variant": "column"}, "variant must be row or diagonal, not 'column'."),
    ({"variant": ["row"]}, "variant must be row or diagonal, not ['row']."),
    ({"hidden": 0}, "hidden must be an integer of at least 1, not 0."),
    ({"image_shape": (3, 8, 8), "hidden": 2}, "hidden must be an integer of at least 3, not 2."),
    ({"image_shape": (3, 8, 8), "head": 2}, "head must be an integer of at least 3, not 2."),
    ({"layers": 0}, "layers must be an integer of at least 1, not 0."),
    ({"kernel": 4}, "kernel must be odd, so that a convolution keeps the image size, not 4."),
    ({"first_kernel": 1}, "first_kernel must be an integer of at least 3, not 1."),
])  # fmt: skip
def test_bad_sizes_are_refused(values, sentence):
    with pytest.raises(GenfastError) as error:
        PixelRNNConfig(**{"image_shape": (1, 8, 8), **values})
    assert str(error.value) == sentence


def test_it_has_no_condition():
    with pytest.raises(GenfastError, match="unconditional"):
        tiny()(torch.zeros(2, 1, 5, 4, dtype=torch.uint8), torch.tensor([0, 1]))
