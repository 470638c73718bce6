"""Encoder and decoder: symmetric, and for any size of image."""

import math

import pytest
import torch
from torch import nn

from genfast.errors import GenfastError
from genfast.models import Autoencoder, AutoencoderConfig
from genfast.models.coder import CoderConfig, Decoder, Encoder


@pytest.mark.parametrize("size", [(1, 1), (3, 5), (8, 8), (17, 2), (28, 28), (32, 32)])
@pytest.mark.parametrize("network", ["mlp", "conv"])
def test_the_decoder_gives_the_size_back(size: tuple[int, int], network: str) -> None:
    config = CoderConfig((2, *size), levels=4, network=network, latent=3, hidden=5, channels=2)  # type: ignore[arg-type]
    features = Encoder(config)(torch.randn(2, 2, *size))
    assert features.shape == (2, config.features)
    assert Decoder(config, 3, 6)(torch.randn(2, 3)).shape == (2, 6, *size)


def kinds(module: nn.Module, kind: type) -> list[nn.Module]:
    return [m for m in module.modules() if isinstance(m, kind)]


def test_four_convolutions_against_four_up_convolutions() -> None:
    config = CoderConfig((1, 28, 28), network="conv", latent=7, channels=4)
    down = kinds(Encoder(config), nn.Conv2d)
    up = kinds(Decoder(config, 7, 1), nn.ConvTranspose2d)
    assert len(down) == len(up) == 4
    for a, b in zip(down, reversed(up), strict=True):
        assert (a.in_channels, a.out_channels) == (b.out_channels, b.in_channels)
        assert (a.kernel_size, a.stride) == (b.kernel_size, b.stride)
    assert config.sizes == [(28, 28), (14, 14), (7, 7), (4, 4), (2, 2)]


def test_the_standard_mlp() -> None:
    """784-400-z40-400-784."""
    config = CoderConfig((1, 28, 28), levels=2, network="mlp", latent=40, hidden=400)
    for module, sizes in ((Encoder(config), [(784, 400)]), (Decoder(config, 40, 1), [(40, 400), (400, 784)])):
        assert [(m.in_features, m.out_features) for m in kinds(module, nn.Linear)] == sizes


def test_black_moves_no_weights_in_the_unit_range() -> None:
    """Gradients of the first layer's weights are nothing where the image is black."""
    gradients = {}
    for input_range in ("signed", "unit"):
        torch.manual_seed(0)
        model = Autoencoder(
            AutoencoderConfig((1, 2, 3), levels=5, network="mlp", latent=2, hidden=4, input_range=input_range)  # type: ignore[arg-type]
        )
        first = kinds(model.encoder, nn.Linear)[0]
        torch.nn.init.constant_(first.weight, 0.1)
        torch.nn.init.constant_(first.bias, 2.0)  # so that every ReLU passes its gradient on
        images = torch.tensor([[[[0, 4, 0], [4, 2, 0]]]])
        hidden = model.encoder(model.scale(images))
        levels = images.flatten() / 4
        read = levels if input_range == "unit" else 2 * levels - 1
        torch.testing.assert_close(hidden, (2 + 0.1 * read.sum()).expand(1, 4))
        gradients[input_range] = torch.autograd.grad(hidden.sum(), first.weight)[0][0]
    assert gradients["unit"].tolist() == [0, 1, 0, 1, 0.5, 0]
    assert gradients["signed"].tolist() == [-1, 1, -1, 1, 0, -1]


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"network": "rnn"}, "mlp or conv"),
        ({"input_range": "byte"}, "signed or unit"),
        ({"latent": 0}, "latent"),
        ({"hidden": "many"}, "hidden"),
    ],
)
def test_bad_sizes_are_refused(values: dict, words: str) -> None:
    with pytest.raises(GenfastError, match=words):
        CoderConfig(**{"image_shape": (1, 8, 8), **values})


# ---- the autoencoder ----


@pytest.mark.parametrize("network", ["mlp", "conv"])
def test_the_squared_error(network: str) -> None:
    model = Autoencoder(AutoencoderConfig((2, 5, 6), levels=9, network=network, latent=3, hidden=8, channels=2))  # type: ignore[arg-type]
    images = torch.randint(0, 9, (4, 2, 5, 6))
    codes = model.encode(images)
    assert codes.shape == (4, 3)
    assert torch.equal(model.features(images), codes)
    painted = (model.decode(codes) + 1) / 2  # 0 .. 1
    expected = (painted - images / 8).square().mean((1, 2, 3))
    torch.testing.assert_close(model.score(images)["squared_error"], expected)
    loss, logged = model.training_loss(images, None, 0)
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(logged["squared_error"], expected)
    torch.testing.assert_close(model.reconstruct(images), painted.clamp(0, 1) * 8)


def test_an_autoencoder_can_copy_a_small_image() -> None:
    """Wide enough, it learns a batch by heart."""
    torch.manual_seed(0)
    model = Autoencoder(AutoencoderConfig((1, 4, 4), levels=4, network="mlp", latent=16, hidden=64))
    images = torch.randint(0, 4, (16, 1, 4, 4))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    before = model.score(images)["squared_error"].mean().item()
    for step in range(150):
        optimizer.zero_grad()
        model.training_loss(images, None, step)[0].mean().backward()
        optimizer.step()
    assert model.score(images)["squared_error"].mean().item() < 0.02 * before


def test_wrong_codes_are_refused() -> None:
    model = Autoencoder(AutoencoderConfig((1, 4, 4), levels=4, network="mlp", latent=3, hidden=4))
    with pytest.raises(GenfastError, match=r"\[B, 3\], not \[2, 4\]"):
        model.decode(torch.zeros(2, 4))
    with pytest.raises(GenfastError, match="levels"):
        model.encode(torch.full((1, 1, 4, 4), 4))
    assert math.isfinite(model.score(torch.zeros(1, 1, 4, 4, dtype=torch.uint8))["squared_error"].item())
