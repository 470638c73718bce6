"""The autoencoder: a code from which the image can be painted again (Hinton & Salakhutdinov 2006)."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from genfast.errors import GenfastError
from genfast.models.base import Model
from genfast.models.coder import CoderConfig, Decoder, Encoder, Reconstructor


@dataclass(frozen=True)
class AutoencoderConfig(CoderConfig):
    """Size of an autoencoder."""


class Autoencoder(Model, Reconstructor):
    """Image -> code -> image, trained to make the squared error small. Its point is the code, not a distribution."""

    criterion = "squared_error"
    config: AutoencoderConfig

    def __init__(self, config: AutoencoderConfig) -> None:
        super().__init__(config)
        self.latent = config.latent
        self.encoder = Encoder(config)
        self.code = nn.Linear(config.features, config.latent)
        self.decoder = Decoder(config, config.latent, config.image_shape[0])

    def encode(self, images: Tensor) -> Tensor:
        """The code of each image.  # levels [B, C, H, W] -> [B, Z]"""
        return self.code(self.encoder(self.scale(images)))

    def decode(self, z: Tensor) -> Tensor:
        """Images on the scale of ``scale`` (-1 .. 1, not clipped), [B, C, H, W], for codes z [B, Z].

        Raises GenfastError for other shapes.
        """
        if z.ndim != 2 or z.shape[1] != self.latent:
            raise GenfastError(f"This model decodes codes of shape [B, {self.latent}], not {list(z.shape)}.")
        return self.decoder(z)

    def forward(self, images: Tensor) -> Tensor:
        """The reconstruction on the scale of ``scale``.  # [B, C, H, W]"""
        return self.decode(self.encode(images))

    def features(self, images: Tensor, labels: Tensor | None = None) -> Tensor:
        """The code.  # [B, Z]"""
        return self.encode(images)

    def expected(self, z: Tensor, condition: Tensor | None = None) -> Tensor:
        """What the decoder makes of codes, in levels, clipped to their range.  # [B, Z] -> float [B, C, H, W]"""
        return (self.decode(z).clamp(-1, 1) + 1) * ((self.levels - 1) / 2)

    def training_loss(self, images: Tensor, labels: Tensor | None, step: int) -> tuple[Tensor, dict[str, Tensor]]:
        """The squared error.  # [B]"""
        error = self._squared_error(images)
        return error, {"squared_error": error}

    def score(
        self, images: Tensor, labels: Tensor | None = None, numbers: Tensor | None = None, samples: int = 1
    ) -> dict[str, Tensor]:
        """squared_error: the mean over sub-pixels, black to white being 1.  # [B]"""
        return {"squared_error": self._squared_error(images)}

    def _squared_error(self, images: Tensor) -> Tensor:
        difference = self(images).to(torch.float32) - self.scale(images).to(torch.float32)
        return difference.square().flatten(1).mean(1) / 4  # black to white is 2 on this scale


PRESETS = {
    "mnist": AutoencoderConfig((1, 28, 28), levels=256, network="conv", latent=64, channels=32),
    "small": AutoencoderConfig((1, 28, 28), levels=256, network="conv", latent=64, channels=16),
    "mnist-mlp": AutoencoderConfig((1, 28, 28), levels=256, network="mlp", latent=64, hidden=512, hidden_layers=2),
    "cifar10": AutoencoderConfig((3, 32, 32), levels=256, network="conv", latent=256, channels=64),
    "digits": AutoencoderConfig((1, 8, 8), levels=17, network="conv", latent=16, channels=16),
}
