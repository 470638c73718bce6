"""A classifier on a trained encoder."""

import pytest
import torch
from torch.nn import functional as F

from genfast.errors import GenfastError
from genfast.models import (
    VAE,
    Autoencoder,
    AutoencoderConfig,
    Classifier,
    ClassifierConfig,
    PixelCNN,
    PixelCNNConfig,
    VAEConfig,
)

SIZE = {"image_shape": (1, 8, 8), "levels": 5, "latent": 6, "channels": 2, "hidden": 12}
IMAGES = torch.randint(0, 5, (9, 1, 8, 8), generator=torch.Generator().manual_seed(0))
LABELS = torch.arange(9) % 3


@pytest.mark.parametrize("network", ["mlp", "conv"])
@pytest.mark.parametrize("kind", [Autoencoder, VAE])
def test_from_encoder_gives_the_same_features(network: str, kind: type) -> None:
    unit = "unit" if network == "mlp" else "signed"
    config = {Autoencoder: AutoencoderConfig, VAE: VAEConfig}[kind](**SIZE, network=network, input_range=unit)
    encoder = kind(config)
    model = Classifier.from_encoder(encoder, num_classes=3)
    torch.testing.assert_close(model.features(IMAGES), encoder.features(IMAGES))
    again = Classifier.from_encoder(model, num_classes=4, freeze=True)
    torch.testing.assert_close(again.features(IMAGES), encoder.features(IMAGES))
    assert again(IMAGES).shape == (9, 4)
    before = encoder.features(IMAGES)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(1)
    torch.testing.assert_close(encoder.features(IMAGES), before)  # copies


@pytest.mark.parametrize("freeze", [True, False])
def test_freezing_leaves_the_last_layer_to_learn(freeze: bool) -> None:
    model = Classifier.from_encoder(Autoencoder(AutoencoderConfig(**SIZE)), freeze=freeze, num_classes=3)
    model.training_loss(IMAGES, LABELS, 0)[0].mean().backward()
    learning = {name for name, parameter in model.named_parameters() if parameter.grad is not None}
    everything = {name for name, _ in model.named_parameters()}
    assert learning == ({"head.weight", "head.bias"} if freeze else everything)


def test_scores() -> None:
    model = Classifier(ClassifierConfig(**SIZE, num_classes=3))
    scores = model.score(IMAGES, LABELS)
    logits = model(IMAGES)
    torch.testing.assert_close(scores["cross_entropy"], F.cross_entropy(logits, LABELS, reduction="none"))
    assert torch.equal(scores["accuracy"], (logits.argmax(1) == LABELS).float())
    with pytest.raises(GenfastError, match="labels"):
        model.score(IMAGES)


def test_encoders_that_cannot_be_used() -> None:
    with pytest.raises(GenfastError, match="PixelCNN has no encoder"):
        Classifier.from_encoder(PixelCNN(PixelCNNConfig((1, 8, 8), 5, hidden=2, blocks=0, head=2)))
    with pytest.raises(GenfastError, match="told the label"):
        Classifier.from_encoder(VAE(VAEConfig(**SIZE, num_classes=3)))
    with pytest.raises(GenfastError, match="num_classes"):
        ClassifierConfig(**SIZE, num_classes=1)
