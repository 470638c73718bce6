"""PixelCNN++: its size, its initialisation by data, its likelihood, its first steps of training. Causality is tested in
test_causality.py."""

import math

import pytest
import torch
import torch.nn.functional as F

from genfast.errors import GenfastError
from genfast.models import PixelCNNPP, PixelCNNPPConfig
from genfast.models.gated_resnet import concat_elu, shift_down, shift_right
from genfast.models.pixelcnn_pp import PRESETS
from tests.models.initialized import assert_initialized


def tiny(levels: int = 256, **values: object) -> PixelCNNPP:
    torch.manual_seed(0)
    sizes = {"image_shape": (3, 5, 6), "filters": 6, "resnets": 1, "components": 3, "dropout": 0.0, **values}
    return PixelCNNPP(PixelCNNPPConfig(levels=levels, **sizes))


def layer(taps: int, inputs: int, outputs: int) -> int:
    """g and bias for each output, and v."""
    return taps * inputs * outputs + 2 * outputs


def test_cifar10_preset_by_hand():
    """53.66 million: as many as the PyTorch implementation of pclucas14 has for nr_resnet=5, nr_filters=160."""
    h = 160
    streams = layer(6, 2 * h, h) + layer(6, 2 * h, 2 * h) + layer(4, 2 * h, h) + layer(4, 2 * h, 2 * h)
    down, up = streams + layer(1, 2 * h, h), streams + layer(1, 2 * h, h) + layer(1, 4 * h, h)
    first = layer(6, 4, h) + layer(3, 4, h) + layer(2, 4, h)
    resize = layer(6, h, h) + layer(4, h, h)
    expected = first + 15 * down + 17 * up + 4 * resize + layer(1, h, 100)
    assert expected == 53_659_080
    assert sum(p.numel() for p in PixelCNNPP(PRESETS["cifar10"]).parameters()) == expected


@pytest.mark.parametrize("name", PRESETS)
def test_presets_are_built(name):
    model = PixelCNNPP(PRESETS[name])
    assert model.image_shape == PRESETS[name].image_shape
    assert (model.likelihood.levels, model.likelihood.components) == (PRESETS[name].levels, PRESETS[name].components)


def test_parts():
    x = torch.tensor([[[[-1.0, 2.0]]]])
    torch.testing.assert_close(concat_elu(x)[0, :, 0], torch.tensor([[math.expm1(-1), 2], [1, math.expm1(-2)]]))
    x = torch.arange(6.0).view(1, 1, 2, 3)
    assert shift_down(x)[0, 0].tolist() == [[0, 0, 0], [0, 1, 2]]
    assert shift_right(x)[0, 0].tolist() == [[0, 0, 1], [0, 3, 4]]
    assert shift_down(x[:, :, :1]).tolist() == [[[[0, 0, 0]]]]


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 5, 6), (3, 7, 5), (1, 1, 1), (3, 1, 5), (1, 9, 1), (3, 2, 2)])
@pytest.mark.parametrize("scales", [1, 3])
def test_every_shape(shape, scales):
    """Odd sizes too; the fused log_prob is that of the parameters, colour by colour."""
    model = tiny(image_shape=shape, scales=scales)
    images = torch.randint(0, 256, (2, *shape))
    params = model(images)
    assert params.shape == (2, 3 * shape[0], 3, *shape)
    torch.testing.assert_close(model.likelihood.log_prob(params, images), model.log_prob(images), rtol=1e-5, atol=1e-4)
    assert model.outputs(images).shape == (2, model.likelihood.param_channels, *shape[1:])


def test_floats_are_encoded_levels():
    model = tiny().double()
    images = torch.randint(0, 256, (2, 3, 5, 6))
    torch.testing.assert_close(model(images.double() * (2 / 255) - 1), model(images), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("shape", [(1, 2, 2), (3, 1, 1)])
def test_all_images_have_probability_one(shape):
    n = math.prod(shape)
    images = torch.cartesian_prod(*[torch.arange(3)] * n).reshape(-1, *shape)
    model = tiny(3, image_shape=shape).double()
    model.initialize(images)
    assert model.log_prob(images).exp().sum().item() == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize("condition", [{}, {"num_classes": 3}, {"condition_dim": 2}])
def test_initialized_by_data(condition):
    """Every convolution's output has mean 0 and its gain as deviation on the images of initialize; the condition, which
    has no gain of its own, comes after."""
    model = tiny(image_shape=(3, 9, 7), resnets=2, filters=8, **condition)
    images = torch.randint(0, 256, (16, 3, 9, 7))
    given = {"num_classes": torch.arange(16) % 3, "condition_dim": torch.randn(16, 2)}
    told = given[next(iter(condition))] if condition else None
    assert_initialized(model, images, told)


def test_streams_keep_their_scale():
    """With a tenth added by each resnet, what goes through a stream stays of one size, on the way down and up."""
    model = tiny(image_shape=(1, 12, 12), filters=16, resnets=3)
    images = torch.randint(0, 256, (8, 1, 12, 12))
    model.initialize(images)
    sizes = []
    for resnets in (*model.down, *model.up):
        for pair in resnets:
            pair.register_forward_hook(lambda _, __, out: sizes.append([x.std().item() for x in out]))
    model(images)
    for stream in zip(*sizes, strict=True):
        assert max(stream) < 3 * min(stream)


def test_every_parameter_learns():
    model = tiny(num_classes=2, scales=2)
    images, labels = torch.randint(0, 256, (4, 3, 5, 6)), torch.tensor([0, 1, 1, 0])
    model.initialize(images, labels)
    model.log_prob(images, labels).sum().backward()
    still = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert not still


@pytest.mark.parametrize("condition", [{}, {"num_classes": 4}, {"condition_dim": 4}])
def test_a_few_steps_reduce_the_loss(condition):
    """Each image is of one level, which is soon learned, and sooner by a model that is told which."""
    model = tiny(16, image_shape=(3, 4, 4), filters=12, scales=2, **condition)
    levels = torch.arange(4).repeat(2)
    images = (5 * levels)[:, None, None, None].expand(8, 3, 4, 4).contiguous()
    told = {"num_classes": levels, "condition_dim": torch.eye(4)[levels]}[next(iter(condition))] if condition else None
    model.initialize(images, told)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    losses = []
    for _ in range(80):
        loss = -model.log_prob(images, told).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert min(losses[-20:]) < 0.4 * losses[0]  # at this rate a single step may go wrong


def test_the_condition_matters():
    images = torch.randint(0, 256, (2, 3, 5, 6))
    model = tiny(num_classes=3)
    zero, one = model.outputs(images, torch.tensor([0, 0])), model.outputs(images, torch.tensor([0, 1]))
    torch.testing.assert_close(zero[0], one[0])
    assert (zero[1] != one[1]).all()  # at every pixel, the first one too


def test_dropout_acts_in_training_alone():
    model = tiny(dropout=0.5)
    images = torch.randint(0, 256, (2, 3, 5, 6))
    assert not torch.equal(model.outputs(images), model.outputs(images))
    model.eval()
    assert torch.equal(model.outputs(images), model.outputs(images))


def test_the_first_pixel_is_told_from_padding():
    """The channel of ones: black pixels are not the zeros beyond the edge."""
    model = tiny(image_shape=(1, 5, 5)).eval()
    with torch.no_grad():
        model.first_left.weight_v.mul_(3)
    out = model.outputs(torch.zeros(1, 1, 5, 5, dtype=torch.long))
    assert not torch.allclose(out[..., 0, 0], out[..., 2, 2])


def test_autocast_and_channels_last():
    model = tiny().eval()
    images = torch.randint(0, 256, (2, 3, 5, 6))
    exact = model.log_prob(images)
    with torch.autocast("cpu", torch.bfloat16):
        rough = model.log_prob(images)
    assert rough.dtype == torch.float32
    torch.testing.assert_close(rough, exact, rtol=0.05, atol=1)
    torch.testing.assert_close(model.to(memory_format=torch.channels_last).log_prob(images), exact)


@pytest.mark.parametrize(("values", "sentence"), [
    ({"image_shape": (2, 8, 8)}, "A PixelCNN++ is for images of 1 or 3 channels, not 2."),
    ({"filters": 0}, "filters must be an integer of at least 1, not 0."),
    ({"resnets": 1.5}, "resnets must be an integer of at least 1, not 1.5."),
    ({"scales": 0}, "scales must be an integer of at least 1, not 0."),
    ({"components": -1}, "components must be an integer of at least 1, not -1."),
    ({"dropout": 1.0}, "dropout must be 0 or more and below 1, not 1.0."),
    ({"dropout": "half"}, "dropout must be 0 or more and below 1, not 'half'."),
    ({"num_classes": 0}, "num_classes must be an integer of at least 1, not 0."),
    ({"num_classes": 3, "condition_dim": 3}, "Set num_classes or condition_dim, not both: a model has one condition."),
])  # fmt: skip
def test_bad_configs_are_refused(values, sentence):
    with pytest.raises(GenfastError) as error:
        PixelCNNPPConfig(**{"image_shape": (1, 8, 8), **values})
    assert str(error.value) == sentence


@pytest.mark.parametrize(("images", "condition", "sentence"), [
    (torch.zeros(1, 1, 5, 6).long(), None, "This model takes images of shape [B, 3, 5, 6], not [1, 1, 5, 6]."),
    (torch.full((1, 3, 5, 6), 256), None, "Images must hold levels 0 to 255, but they hold 256."),
    (torch.zeros(0, 3, 5, 6).long(), None, "The batch of images is empty; give at least one image."),
    (torch.zeros(1, 3, 5, 6).long(), torch.tensor([0]), "This model is unconditional: leave the condition out."),
])  # fmt: skip
def test_wrong_inputs_are_refused(images, condition, sentence):
    for ask in (tiny(), tiny().log_prob, tiny().outputs, tiny().initialize):
        with pytest.raises(GenfastError) as error:
            ask(images, condition)
        assert str(error.value) == sentence


def test_log_prob_needs_levels():
    with pytest.raises(GenfastError, match="integer levels"):
        tiny().log_prob(torch.zeros(2, 3, 5, 6))


def test_elu_ends_the_horizontal_stream():
    """The head reads ELU of the horizontal stream alone, which has seen all that the vertical one has."""
    model = tiny()
    inputs = []
    model.head.register_forward_pre_hook(lambda _, args: inputs.append(args[0]))
    last = []
    model.up[-1][-1].register_forward_hook(lambda _, __, out: last.append(out[1]))
    model(torch.randint(0, 256, (1, 3, 5, 6)))
    assert torch.equal(inputs[0], F.elu(last[0]))
