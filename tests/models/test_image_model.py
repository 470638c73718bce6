"""What all models share: encoding levels, and refusing images that do not fit."""

import math

import pytest
import torch

from genfast.errors import GenfastError
from genfast.models import GatedPixelCNN, GatedPixelCNNConfig, PixelCNN, PixelCNNConfig


def tiny(shape: tuple[int, int, int] = (1, 3, 4), levels: int = 5) -> PixelCNN:
    torch.manual_seed(0)
    return PixelCNN(PixelCNNConfig(shape, levels, hidden=4, blocks=1, head=4))


@pytest.mark.parametrize("levels", [2, 5, 17, 256])
def test_levels_become_minus_one_to_one(levels):
    images = torch.arange(levels)[:, None, None, None].expand(levels, 1, 3, 4)
    x = tiny(levels=levels).scale(images)
    torch.testing.assert_close(x[:, 0, 0, 0], torch.linspace(-1, 1, levels))
    assert x.dtype == torch.float32
    assert x.is_contiguous(memory_format=torch.channels_last)


def test_encoding_follows_the_parameters_and_not_the_images():
    images = torch.randint(0, 5, (2, 1, 3, 4))
    for dtype in (torch.float64, torch.bfloat16):
        model = tiny().to(dtype)
        assert model.scale(images).dtype == dtype
        assert model.scale(images.to(torch.uint8)).dtype == dtype
        assert model.scale(torch.zeros(2, 1, 3, 4)).dtype == dtype
    torch.testing.assert_close(tiny().scale(images), tiny().scale(images.to(torch.uint8)), rtol=0, atol=0)


@pytest.mark.parametrize("shape", [(1, 3, 4), (3, 4, 3), (1, 1, 1), (2, 1, 5)])
def test_encoded_images_give_the_same_output(shape):
    model = tiny(shape)
    images = torch.randint(0, 5, (3, *shape))
    torch.testing.assert_close(model(images), model(model.scale(images)), rtol=0, atol=0)


def test_log_prob_sums_the_likelihood():
    model = tiny((3, 4, 3))
    images = torch.randint(0, 5, (2, 3, 4, 3))
    logp = model(images).log_softmax(1).gather(1, images[:, None]).flatten(1).sum(1)
    torch.testing.assert_close(model.log_prob(images), logp)


def test_all_images_of_two_pixels_have_probability_one():
    images = torch.cartesian_prod(*[torch.arange(3)] * 4).reshape(-1, 2, 1, 2)
    gated = GatedPixelCNN(GatedPixelCNNConfig((2, 1, 2), 3, hidden=4, layers=2, head=4))
    for model in (PixelCNN(PixelCNNConfig((2, 1, 2), 3, hidden=4, blocks=1, head=4)), gated):
        assert model.double().log_prob(images).exp().sum().item() == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize(("images", "sentence"), [
    (torch.zeros(2, 3, 3, 4).long(), "This model takes images of shape [B, 1, 3, 4], not [2, 3, 3, 4]."),
    (torch.zeros(2, 1, 4, 3).long(), "This model takes images of shape [B, 1, 3, 4], not [2, 1, 4, 3]."),
    (torch.zeros(1, 3, 4).long(), "This model takes images of shape [B, 1, 3, 4], not [1, 3, 4]."),
    (torch.zeros(2, 1, 4, 3), "This model takes images of shape [B, 1, 3, 4], not [2, 1, 4, 3]."),
    (torch.zeros(0, 1, 3, 4).long(), "The batch of images is empty; give at least one image."),
])  # fmt: skip
def test_wrong_shapes_are_refused(images, sentence):
    with pytest.raises(GenfastError) as error:
        tiny()(images)
    assert str(error.value) == sentence


@pytest.mark.parametrize("images", [
    torch.full((2, 1, 3, 4), 5), torch.full((2, 1, 3, 4), -1), torch.full((2, 1, 3, 4), 255, dtype=torch.uint8),
    torch.zeros(2, 1, 3, 4, dtype=torch.bool),
])  # fmt: skip
def test_wrong_levels_are_refused(images):
    with pytest.raises(GenfastError, match="levels"):
        tiny()(images)


def test_log_prob_needs_levels():
    with pytest.raises(GenfastError, match="integer levels"):
        tiny().log_prob(torch.zeros(2, 1, 3, 4))


@pytest.mark.parametrize(("values", "sentence"), [
    ({"image_shape": (28, 28)}, "image_shape must be three positive integers (channels, height, width), not (28, 28)."),
    ({"image_shape": [1, 0]}, "image_shape must be three positive integers (channels, height, width), not [1, 0]."),
    ({"image_shape": "1x4"}, "image_shape must be three positive integers (channels, height, width), not '1x4'."),
    ({"image_shape": (1, 0, 4)}, "image_shape must be three positive integers (channels, height, width), "
     "not (1, 0, 4)."),
    ({"image_shape": 28}, "image_shape must be three positive integers (channels, height, width), not 28."),
    ({"levels": 1}, "levels must be an integer from 2 to 256, not 1."),
    ({"levels": 257}, "levels must be an integer from 2 to 256, not 257."),
    ({"likelihood": "gauss"}, "likelihood must be auto, bernoulli or categorical, not 'gauss'."),
    ({"likelihood": "bernoulli"}, "A bernoulli likelihood needs levels = 2, not 256: use categorical."),
])  # fmt: skip
def test_bad_configs_are_refused(values, sentence):
    with pytest.raises(GenfastError) as error:
        PixelCNNConfig(**{"image_shape": (1, 8, 8), **values})
    assert str(error.value) == sentence


def test_auto_likelihood():
    assert tiny(levels=2).likelihood.name == "bernoulli"
    assert tiny(levels=3).likelihood.name == "categorical"
    assert tiny(levels=3).likelihood.param_channels == math.prod((1, 3))
