"""Image models, one file each: autoregressive ones, and ones with a latent code."""

from genfast.models.autoencoder import Autoencoder, AutoencoderConfig
from genfast.models.base import ImageConfig, ImageModel, Model, ModelConfig
from genfast.models.classifier import Classifier, ClassifierConfig
from genfast.models.coder import Coder, CoderConfig, Painter, PriorPainter, Reconstructor
from genfast.models.gan import GAN, GANConfig
from genfast.models.gated_pixelcnn import GatedPixelCNN, GatedPixelCNNConfig
from genfast.models.pixelcnn import PixelCNN, PixelCNNConfig
from genfast.models.pixelcnn_pp import PixelCNNPP, PixelCNNPPConfig
from genfast.models.pixelcnn_pp_weights import from_pixel_cnn_pp
from genfast.models.pixelrnn import PixelRNN, PixelRNNConfig
from genfast.models.pixelsnail import PixelSNAIL, PixelSNAILConfig
from genfast.models.registry import MODELS, ModelEntry, build_model, config_from_dict, config_to_dict
from genfast.models.vae import VAE, VAEConfig

__all__ = [
    "GAN",
    "MODELS",
    "VAE",
    "Autoencoder",
    "AutoencoderConfig",
    "Classifier",
    "ClassifierConfig",
    "Coder",
    "CoderConfig",
    "GANConfig",
    "GatedPixelCNN",
    "GatedPixelCNNConfig",
    "ImageConfig",
    "ImageModel",
    "Model",
    "ModelConfig",
    "ModelEntry",
    "Painter",
    "PixelCNN",
    "PixelCNNConfig",
    "PixelCNNPP",
    "PixelCNNPPConfig",
    "PixelRNN",
    "PixelRNNConfig",
    "PixelSNAIL",
    "PixelSNAILConfig",
    "PriorPainter",
    "Reconstructor",
    "VAEConfig",
    "build_model",
    "config_from_dict",
    "config_to_dict",
    "from_pixel_cnn_pp",
]
