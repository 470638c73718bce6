"""Models by name: what the command line offers, and what a checkpoint's JSON config names."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from genfast.errors import GenfastError
from genfast.models import (
    autoencoder,
    classifier,
    gan,
    gated_pixelcnn,
    pixelcnn,
    pixelcnn_pp,
    pixelrnn,
    pixelsnail,
    vae,
)
from genfast.models.autoencoder import Autoencoder, AutoencoderConfig
from genfast.models.base import ImageConfig, Model
from genfast.models.classifier import Classifier, ClassifierConfig
from genfast.models.gan import GAN, GANConfig
from genfast.models.gated_pixelcnn import GatedPixelCNN, GatedPixelCNNConfig
from genfast.models.pixelcnn import PixelCNN, PixelCNNConfig
from genfast.models.pixelcnn_pp import PixelCNNPP, PixelCNNPPConfig
from genfast.models.pixelrnn import PixelRNN, PixelRNNConfig
from genfast.models.pixelsnail import PixelSNAIL, PixelSNAILConfig
from genfast.models.vae import VAE, VAEConfig

# Goes up when a config written before would make another model than it did.
CONFIG_VERSION = 1


@dataclass(frozen=True)
class ModelEntry:
    """A kind of model: its config, its class (called with a config), and named configs to start from."""

    config_class: type[ImageConfig]
    model_class: type[Model]
    presets: Mapping[str, ImageConfig]


MODELS: dict[str, ModelEntry] = {
    "pixelcnn": ModelEntry(PixelCNNConfig, PixelCNN, pixelcnn.PRESETS),
    "gated-pixelcnn": ModelEntry(GatedPixelCNNConfig, GatedPixelCNN, gated_pixelcnn.PRESETS),
    "pixelcnn-pp": ModelEntry(PixelCNNPPConfig, PixelCNNPP, pixelcnn_pp.PRESETS),
    "pixelsnail": ModelEntry(PixelSNAILConfig, PixelSNAIL, pixelsnail.PRESETS),
    "pixelrnn": ModelEntry(PixelRNNConfig, PixelRNN, pixelrnn.PRESETS),
    "autoencoder": ModelEntry(AutoencoderConfig, Autoencoder, autoencoder.PRESETS),
    "vae": ModelEntry(VAEConfig, VAE, vae.PRESETS),
    "gan": ModelEntry(GANConfig, GAN, gan.PRESETS),
    "classifier": ModelEntry(ClassifierConfig, Classifier, classifier.PRESETS),
}


def model_entry(name: str) -> ModelEntry:
    """The entry of a model. Raises GenfastError, naming the models, for a name that is none of them."""
    if not isinstance(name, str) or name not in MODELS:
        raise GenfastError(f"There is no model {name!r}; choose one of {', '.join(MODELS)}.")
    return MODELS[name]


def build_model(name: str, config: ImageConfig) -> Model:
    """A freshly initialised model. Raises GenfastError for an unknown name or another model's config."""
    entry = model_entry(name)
    if not isinstance(config, entry.config_class):
        raise GenfastError(f"Model {name!r} takes a {entry.config_class.__name__}, not a {type(config).__name__}.")
    return entry.model_class(config)


def config_to_dict(config: ImageConfig) -> dict[str, Any]:
    """The config as plain JSON values, with the version of the format."""
    values = {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(config).items()}
    return {"version": CONFIG_VERSION, **values}


def config_from_dict(name: str, values: Mapping[str, Any]) -> ImageConfig:
    """The inverse of config_to_dict, for JSON that may come from anywhere.

    Raises GenfastError, in one sentence, for an unknown model, another version, unknown or missing keys, or bad values.
    """
    config_class = model_entry(name).config_class
    if not isinstance(values, Mapping):
        raise GenfastError(f"The config of model {name!r} must be a JSON object, not {type(values).__name__}.")
    rest = dict(values)
    version = rest.pop("version", None)
    if version != CONFIG_VERSION:
        raise GenfastError(
            f"The config of model {name!r} has version {version!r}, but this genfast reads version {CONFIG_VERSION}: "
            "use the genfast that wrote it."
        )
    known = [f.name for f in fields(config_class)]
    unknown = [key for key in rest if key not in known]
    if unknown:
        raise GenfastError(f"Model {name!r} has no setting {unknown[0]!r}; its settings are {', '.join(known)}.")
    if "image_shape" not in rest:
        raise GenfastError(f"The config of model {name!r} lacks image_shape.")
    return config_class(**rest)
