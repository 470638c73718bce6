"""A classifier on an encoder: what features learned without labels are worth, or the same network from scratch."""

from dataclasses import dataclass, fields

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from genfast.errors import GenfastError
from genfast.models.autoencoder import Autoencoder
from genfast.models.base import Model, check_int
from genfast.models.coder import Coder, CoderConfig, Encoder
from genfast.models.vae import VAE


@dataclass(frozen=True)
class ClassifierConfig(CoderConfig):
    """Size of a classifier: an encoder, its code, and one linear layer on the code."""

    num_classes: int = 10
    """Classes to tell apart: labels 0 .. num_classes-1."""
    freeze: bool = False
    """Train the last layer only (a linear probe of the encoder's code)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_int("num_classes", self.num_classes, 2)
        if not isinstance(self.freeze, bool):
            raise GenfastError(f"freeze must be true or false, not {self.freeze!r}.")


class Classifier(Model, Coder):
    """Images -> logits of the classes, through the same encoder and code as an autoencoder's or a VAE's."""

    criterion = "cross_entropy"
    config: ClassifierConfig

    def __init__(self, config: ClassifierConfig) -> None:
        super().__init__(config, config.num_classes)
        self.latent = config.latent
        self.encoder = Encoder(config)
        self.code = nn.Linear(config.features, config.latent)
        self.head = nn.Linear(config.latent, config.num_classes)
        if config.freeze:
            self.encoder.requires_grad_(False)
            self.code.requires_grad_(False)

    @classmethod
    def from_encoder(cls, encoder: Model, freeze: bool = False, num_classes: int = 10) -> "Classifier":
        """A classifier whose encoder and code are copies of a trained model's; only the last layer is random.

        encoder: an Autoencoder, a VAE (its posterior mean) or a Classifier. freeze: train the last layer only. Raises
        GenfastError for a model without an encoder, or one that must be told the label to encode an image.
        """
        if not isinstance(encoder, Autoencoder | VAE | Classifier):
            raise GenfastError(
                f"A {type(encoder).__name__} has no encoder to start from: give an autoencoder, a vae or a classifier."
            )
        if isinstance(encoder, VAE) and encoder.num_classes is not None:
            raise GenfastError("This VAE's encoder is told the label: train one without num_classes.")
        shared = {field.name: getattr(encoder.config, field.name) for field in fields(CoderConfig)}
        model = cls(ClassifierConfig(**shared, num_classes=num_classes, freeze=freeze))
        model.encoder.load_state_dict(encoder.encoder.state_dict())
        if isinstance(encoder, VAE):
            with torch.no_grad():  # the first half of its last layer is the mean
                model.code.weight.copy_(encoder.posterior.weight[: encoder.latent])
                model.code.bias.copy_(encoder.posterior.bias[: encoder.latent])
        else:
            model.code.load_state_dict(encoder.code.state_dict())
        return model.to(next(encoder.parameters()))

    def features(self, images: Tensor, labels: Tensor | None = None) -> Tensor:
        """The code.  # [B, Z]"""
        return self.code(self.encoder(self.scale(images)))

    def forward(self, images: Tensor) -> Tensor:
        """Logits.  # levels [B, C, H, W] -> [B, num_classes]"""
        return self.head(self.features(images))

    def training_loss(self, images: Tensor, labels: Tensor | None, step: int) -> tuple[Tensor, dict[str, Tensor]]:
        """The cross-entropy, in nats.  # [B]"""
        scores = self.score(images, labels)
        return scores["cross_entropy"], scores

    def score(
        self, images: Tensor, labels: Tensor | None = None, numbers: Tensor | None = None, samples: int = 1
    ) -> dict[str, Tensor]:
        """cross_entropy: -ln p(label | image), in nats; accuracy: 1 where the label is the most probable.  # [B]"""
        if labels is None:
            raise GenfastError("A classifier is scored against labels, and these images have none.")
        logits = self(images).to(torch.float32)
        return {
            "cross_entropy": F.cross_entropy(logits, labels, reduction="none"),
            "accuracy": (logits.argmax(1) == labels).to(torch.float32),
        }


PRESETS = {
    "mnist": ClassifierConfig((1, 28, 28), levels=256, network="conv", latent=64, channels=32),
    "small": ClassifierConfig((1, 28, 28), levels=256, network="conv", latent=64, channels=16),
    "cifar10": ClassifierConfig((3, 32, 32), levels=256, network="conv", latent=256, channels=64),
    "digits": ClassifierConfig((1, 8, 8), levels=17, network="conv", latent=16, channels=16),
}
