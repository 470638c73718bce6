"""PixelSNAIL: its size, its attention, its likelihoods, its first steps of training. Causality is tested in
test_causality.py too, by gradients."""

import math

import pytest
import torch
import torch.nn.functional as F

from genfast.errors import GenfastError
from genfast.likelihoods import Bernoulli, Categorical, LogisticMixture
from genfast.models import PixelSNAIL, PixelSNAILConfig
from genfast.models.pixelsnail import PRESETS, earlier, places_of
from tests.models.initialized import assert_initialized


def tiny(levels: int = 256, **values: object) -> PixelSNAIL:
    torch.manual_seed(0)
    sizes = {"image_shape": (3, 4, 5), "filters": 6, "blocks": 2, "resnets": 1, "key_channels": 4, "value_channels": 6}
    return PixelSNAIL(PixelSNAILConfig(levels=levels, **{**sizes, "components": 3, "dropout": 0.0, **values}))


def layer(taps: int, inputs: int, outputs: int) -> int:
    """g and bias for each output, and v."""
    return taps * inputs * outputs + 2 * outputs


def resnet(taps: int, h: int) -> int:
    return layer(taps, 2 * h, h) + layer(taps, 2 * h, 2 * h)


def test_cifar10_preset_by_hand():
    """The paper's: 12 blocks of 4 resnets, 256 filters, keys of 16 and values of 128 numbers, 10 logistics."""
    h, content, asking = 256, 256 + 3 + 2, 256 + 2
    block = 4 * resnet(4, h) + resnet(1, content) + layer(1, content, 144) + resnet(1, asking) + layer(1, asking, 16)
    block += resnet(1, h) + layer(1, 2 * 128, h)
    expected = layer(3, 4, h) + layer(2, 4, h) + 12 * block + layer(1, h, 100)
    assert sum(p.numel() for p in PixelSNAIL(PRESETS["cifar10"]).parameters()) == expected
    assert expected == 91_371_816


@pytest.mark.parametrize("name", PRESETS)
def test_presets_are_built(name):
    model = PixelSNAIL(PRESETS[name])
    assert model.image_shape == PRESETS[name].image_shape
    assert isinstance(model.likelihood, Bernoulli if name == "small" else LogisticMixture)


def by_hand(q, k, v):
    """[N, d], one query after the other."""
    out = torch.zeros(len(q), v.shape[1], dtype=q.dtype)
    for i in range(1, len(q)):
        scores = torch.stack([q[i] @ k[j] / math.sqrt(q.shape[1]) for j in range(i)])
        out[i] = sum(w * v[j] for j, w in enumerate(scores.exp() / scores.exp().sum()))
    return out


@pytest.mark.parametrize(("heads", "shape"), [(1, (3, 4)), (2, (2, 5)), (3, (1, 7)), (1, (1, 1)), (2, (2, 1))])
def test_attention_by_hand(heads, shape):
    torch.manual_seed(0)
    q, k, v = (torch.randn(2, heads * d, *shape, dtype=torch.float64) for d in (4, 4, 3))
    out = earlier(q, k, v, heads)
    assert out.shape == v.shape
    for b in range(2):
        for h in range(heads):
            parts = (x[b].unflatten(0, (heads, -1))[h].flatten(1).T for x in (q, k, v))
            torch.testing.assert_close(out[b].unflatten(0, (heads, -1))[h].flatten(1).T, by_hand(*parts))


def test_the_first_pixel_attends_to_nothing():
    """Zeros there, and nothing leaks: later keys and values may be anything."""
    q, k, v = (torch.randn(1, 4, 3, 3, dtype=torch.float64) for _ in range(3))
    before = earlier(q, k, v, 2).flatten(2)
    assert (before[..., 0] == 0).all()
    for x in (k, v):
        x.flatten(2)[..., 4:] *= 100
    after = earlier(q, k, v, 2).flatten(2)
    torch.testing.assert_close(after[..., :5], before[..., :5], rtol=1e-14, atol=0)
    assert (after[..., 5:] != before[..., 5:]).all()


def test_outputs_do_not_see_later_pixels():
    """One pixel changed changes every output after it, however far away, and none before."""
    model = tiny(image_shape=(1, 4, 5)).double().eval()
    x = torch.randn(1, 1, 4, 5, dtype=torch.float64).expand(21, 1, 4, 5).clone()
    for p in range(20):
        x[p].view(-1)[p] += 1
    out = model.network(x, None).flatten(2)
    moved = (out[:20] - out[20:]).abs().amax(1) > 1e-14 * out.abs().max()  # [changed, pixel]
    changed, pixel = torch.meshgrid(torch.arange(20), torch.arange(20), indexing="ij")
    assert torch.equal(moved, pixel > changed)


def test_places():
    places = places_of(torch.zeros(2, 7, 2, 4))
    assert places.shape == (2, 2, 2, 4)
    assert places[1, 0].tolist() == [[-0.5] * 4, [0.0] * 4]
    assert places[0, 1, 1].tolist() == [-0.5, -0.25, 0.0, 0.25]


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 5, 6), (1, 1, 1), (3, 1, 5), (1, 9, 1), (3, 2, 2)])
def test_every_shape(shape):
    """The fused log_prob is that of the parameters, colour by colour."""
    model = tiny(image_shape=shape)
    images = torch.randint(0, 256, (2, *shape))
    params = model(images)
    assert params.shape == (2, 3 * shape[0], 3, *shape)
    torch.testing.assert_close(model.likelihood.log_prob(params, images), model.log_prob(images), rtol=1e-5, atol=1e-4)
    assert model.outputs(images).shape == (2, model.likelihood.param_channels, *shape[1:])


@pytest.mark.parametrize(("levels", "likelihood", "kind"), [
    (2, "auto", Bernoulli), (17, "auto", LogisticMixture), (2, "logistic_mixture", LogisticMixture),
    (2, "categorical", Categorical), (9, "categorical", Categorical), (2, "bernoulli", Bernoulli),
])  # fmt: skip
def test_likelihoods(levels, likelihood, kind):
    """All images of two pixels have probability one together."""
    model = tiny(levels, image_shape=(1, 1, 2), likelihood=likelihood).double()
    assert type(model.likelihood) is kind
    images = torch.cartesian_prod(torch.arange(levels), torch.arange(levels)).reshape(-1, 1, 1, 2)
    assert model.log_prob(images).exp().sum().item() == pytest.approx(1, abs=1e-9)
    assert model(images).shape == (levels**2, *model.likelihood.param_shape, 1, 1, 2)


@pytest.mark.parametrize("condition", [{}, {"num_classes": 3}, {"condition_dim": 2}])
def test_initialized_by_data(condition):
    """Every convolution's output has mean 0 and its gain as deviation on the images of initialize; the condition, which
    has no gain of its own, comes after."""
    model = tiny(image_shape=(3, 6, 7), filters=8, **condition)
    images = torch.randint(0, 256, (16, 3, 6, 7))
    given = {"num_classes": torch.arange(16) % 3, "condition_dim": torch.randn(16, 2)}
    told = given[next(iter(condition))] if condition else None
    assert_initialized(model, images, told)


def test_every_parameter_learns():
    model = tiny(num_classes=2)
    images, labels = torch.randint(0, 256, (4, 3, 4, 5)), torch.tensor([0, 1, 1, 0])
    model.initialize(images, labels)
    model.log_prob(images, labels).sum().backward()
    still = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert not still


@pytest.mark.parametrize("condition", [{}, {"num_classes": 4}, {"condition_dim": 4}])
def test_a_few_steps_reduce_the_loss(condition):
    """Each image is of one level, which is soon learned, and sooner by a model that is told which."""
    model = tiny(16, image_shape=(3, 4, 4), filters=12, **condition)
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
    assert losses[-1] < 0.5 * losses[0]


def test_attention_finds_what_convolutions_cannot_reach():
    """The last pixel repeats the first, which only attention sees."""
    model = tiny(2, image_shape=(1, 5, 5), filters=12, key_channels=8, value_channels=8)
    images = torch.randint(0, 2, (64, 1, 5, 5))
    images[:, :, -1, -1] = images[:, :, 0, 0]
    model.initialize(images)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(120):
        loss = F.binary_cross_entropy_with_logits(model.outputs(images)[..., -1, -1], images[..., -1, -1].float())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.1


def test_the_condition_matters():
    images = torch.randint(0, 256, (2, 3, 4, 5))
    model = tiny(num_classes=3)
    zero, one = model.outputs(images, torch.tensor([0, 0])), model.outputs(images, torch.tensor([0, 1]))
    torch.testing.assert_close(zero[0], one[0])
    assert (zero[1] != one[1]).all()  # at every pixel, the first one too


def test_dropout_acts_in_training_alone():
    model = tiny(dropout=0.5)
    images = torch.randint(0, 256, (2, 3, 4, 5))
    assert not torch.equal(model.outputs(images), model.outputs(images))
    model.eval()
    assert torch.equal(model.outputs(images), model.outputs(images))


def test_autocast_and_channels_last():
    model = tiny().eval()
    images = torch.randint(0, 256, (2, 3, 4, 5))
    exact = model.log_prob(images)
    with torch.autocast("cpu", torch.bfloat16):
        rough = model.log_prob(images)
    assert rough.dtype == torch.float32
    torch.testing.assert_close(rough, exact, rtol=0.05, atol=1)
    torch.testing.assert_close(model.to(memory_format=torch.channels_last).log_prob(images), exact)


@pytest.mark.parametrize(("values", "sentence"), [
    ({"filters": 0}, "filters must be an integer of at least 1, not 0."),
    ({"blocks": 1.5}, "blocks must be an integer of at least 1, not 1.5."),
    ({"resnets": 0}, "resnets must be an integer of at least 1, not 0."),
    ({"heads": 3}, "key_channels must be a multiple of the 3 heads, not 16."),
    ({"heads": 16, "value_channels": 24}, "value_channels must be a multiple of the 16 heads, not 24."),
    ({"components": -1}, "components must be an integer of at least 1, not -1."),
    ({"dropout": 1.0}, "dropout must be 0 or more and below 1, not 1.0."),
    ({"num_classes": 0}, "num_classes must be an integer of at least 1, not 0."),
    ({"num_classes": 3, "condition_dim": 3}, "Set num_classes or condition_dim, not both: a model has one condition."),
    ({"likelihood": "poisson"},
     "likelihood must be one of auto, bernoulli, categorical, logistic_mixture, not 'poisson'."),
    ({"likelihood": "bernoulli"}, "A bernoulli likelihood needs levels = 2, not 256: use logistic_mixture."),
    ({"image_shape": (2, 8, 8)}, "A logistic_mixture is for images of 1 or 3 channels, not 2."),
    ({"image_shape": (3, 8, 8), "likelihood": "categorical"},
     "With a categorical likelihood a PixelSNAIL is for images of one channel, not 3: the colours of a pixel would "
     "know nothing of each other; use logistic_mixture."),
])  # fmt: skip
def test_bad_configs_are_refused(values, sentence):
    with pytest.raises(GenfastError) as error:
        PixelSNAILConfig(**{"image_shape": (1, 8, 8), **values})
    assert str(error.value) == sentence


@pytest.mark.parametrize(("images", "condition", "sentence"), [
    (torch.zeros(1, 1, 4, 5).long(), None, "This model takes images of shape [B, 3, 4, 5], not [1, 1, 4, 5]."),
    (torch.full((1, 3, 4, 5), 256), None, "Images must hold levels 0 to 255, but they hold 256."),
    (torch.zeros(0, 3, 4, 5).long(), None, "The batch of images is empty; give at least one image."),
    (torch.zeros(1, 3, 4, 5).long(), torch.tensor([0]), "This model is unconditional: leave the condition out."),
])  # fmt: skip
def test_wrong_inputs_are_refused(images, condition, sentence):
    for ask in (tiny(), tiny().log_prob, tiny().outputs, tiny().initialize):
        with pytest.raises(GenfastError) as error:
            ask(images, condition)
        assert str(error.value) == sentence
