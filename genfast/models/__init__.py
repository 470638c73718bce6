"""Autoregressive image models: integer levels in, likelihood parameters out. One file per model."""

from genfast.models.base import ImageModel, ModelConfig
from genfast.models.gated_pixelcnn import GatedPixelCNN, GatedPixelCNNConfig
from genfast.models.pixelcnn import PixelCNN, PixelCNNConfig
from genfast.models.pixelrnn import PixelRNN, PixelRNNConfig
from genfast.models.registry import MODELS, ModelEntry, build_model, config_from_dict, config_to_dict

__all__ = [
    "MODELS",
    "GatedPixelCNN",
    "GatedPixelCNNConfig",
    "ImageModel",
    "ModelConfig",
    "ModelEntry",
    "PixelCNN",
    "PixelCNNConfig",
    "PixelRNN",
    "PixelRNNConfig",
    "build_model",
    "config_from_dict",
    "config_to_dict",
]
