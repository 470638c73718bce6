"""Models whose pixels may be mixtures of logistics: then what green owes to red is in the likelihood, which must know
the levels that the network is told."""

import torch
from torch import Tensor

from genfast.likelihoods import LogisticMixture
from genfast.models.base import ImageModel
from genfast.nn import initialized_by_data


class MixtureModel(ImageModel):
    """An ImageModel on weight-normalised layers, whose likelihood is a LogisticMixture or any other.

    ``initialize(images)`` sets gains and biases from a batch, as the code of PixelCNN++ does before training.
    """

    def outputs(self, images: Tensor, condition: Tensor | None = None) -> Tensor:
        """The network's own output, for a mixture one a pixel.  # [B, param_channels, H, W]

        A mixture's are in the order of ``genfast.ops.logistic_mixture``. Takes and refuses what ``forward`` does.
        """
        x = self.scale(images)
        return self.network(x, self.encode_condition(condition, x))

    def forward(self, images: Tensor, condition: Tensor | None = None) -> Tensor:
        """Likelihood parameters of every sub-pixel given the earlier ones, [B, ..., C, H, W]; those of a mixture [B,
        rows, K, C, H, W].

        Float images are taken as already encoded, for which levels need not be whole. Raises GenfastError for images or
        a condition that do not fit the model.
        """
        out = self.outputs(images, condition)
        if not isinstance(self.likelihood, LogisticMixture):
            return self.likelihood.unpack(out)
        levels = (images + 1) * ((self.levels - 1) / 2) if images.is_floating_point() else images
        return self.likelihood.unpack(out, levels)

    def log_prob(self, images: Tensor, condition: Tensor | None = None) -> Tensor:
        """Log-probability of images of integer levels, in nats per image.  # [B]"""
        out = self.outputs(images, condition)
        if not isinstance(self.likelihood, LogisticMixture):
            return self.likelihood.log_prob(self.likelihood.unpack(out), images)
        return self.likelihood.log_prob_pixels(out, images).flatten(1).sum(1)

    @torch.no_grad()
    def initialize(self, images: Tensor, labels: Tensor | None = None) -> None:
        """Gains and biases such that every convolution's output has mean 0 and variance 1 on these images (the last one
        of a resnet OUT_GAIN), without dropout: Salimans & Kingma 2016 (arXiv 1602.07868), section 3."""
        training = self.training
        self.eval()
        try:
            with initialized_by_data(self):
                self.outputs(images, labels)
        finally:
            self.train(training)
