"""Models by name, and their configs through JSON."""

import dataclasses
import inspect
import json
import re

import pytest
import torch

from genfast.errors import GenfastError
from genfast.models import (
    MODELS,
    GatedPixelCNNConfig,
    ImageModel,
    PixelCNNConfig,
    build_model,
    config_from_dict,
    config_to_dict,
)

ALL_PRESETS = [(name, preset) for name, entry in MODELS.items() for preset in entry.presets]


@pytest.mark.parametrize(("name", "preset"), ALL_PRESETS)
def test_presets_survive_json(name, preset):
    config = MODELS[name].presets[preset]
    copy = config_from_dict(name, json.loads(json.dumps(config_to_dict(config))))
    assert copy == config
    assert type(copy) is MODELS[name].config_class
    assert isinstance(copy.image_shape, tuple)


@pytest.mark.parametrize("name", MODELS)
def test_build_model(name):
    small = next(config for preset, config in MODELS[name].presets.items() if preset.startswith("small"))
    config = dataclasses.replace(small, image_shape=(1, 4, 5))
    model = build_model(name, config)
    assert type(model) is MODELS[name].model_class
    assert model.config is config
    out = model(torch.zeros(1, 1, 4, 5, dtype=torch.uint8))
    if isinstance(model, ImageModel):
        assert out.shape == (1, *model.likelihood.param_shape, 1, 4, 5)


@pytest.mark.parametrize("name", MODELS)
def test_losses_and_scores_are_of_images(name):
    """What the training loop and the evaluation ask of every model: numbers for each image, by name."""
    small = next(config for preset, config in MODELS[name].presets.items() if preset.startswith("small"))
    model = build_model(name, dataclasses.replace(small, image_shape=(1, 4, 5)))
    images = torch.randint(0, small.levels, (3, 1, 4, 5))
    labels = None if model.num_classes is None else torch.tensor([0, 1, 1])
    assert set(model.turns(0)) <= set(model.players)
    for player in model.players:
        loss, logged = model.turn_loss(player, images, labels, step=0)
        assert loss.shape == (3,)
        assert loss.requires_grad
        assert all(values.shape == (3,) for values in logged.values())
    if model.criterion is None:
        with pytest.raises(GenfastError, match="has no density"):
            model.score(images, labels)
        return
    scores = model.score(images, labels)
    assert scores[model.criterion].shape == (3,)
    assert all(len(values) == 3 for values in scores.values())
    json.dumps(model.summary({key: values.detach().numpy() for key, values in scores.items()}), allow_nan=False)


@pytest.mark.parametrize("name", MODELS)
def test_every_model_has_the_presets_of_the_readme(name):
    """A model with variants has one for each, as small-row."""
    assert {"cifar10", "mnist", "small", "digits"} <= {preset.split("-")[0] for preset in MODELS[name].presets}


@pytest.mark.parametrize("name", MODELS)
def test_every_field_is_explained(name):
    """Settings are documented by a docstring below each field, which the command line shows as help."""
    classes = [c for c in MODELS[name].config_class.__mro__ if dataclasses.is_dataclass(c)]
    source = "".join(inspect.getsource(c) for c in classes)
    for field in dataclasses.fields(MODELS[name].config_class):
        assert re.search(rf'^    {field.name}: .*\n    """[^"]+\."""$', source, re.MULTILINE), field.name


def test_unknown_model():
    with pytest.raises(GenfastError) as error:
        config_from_dict("pixelsnake", {})
    assert str(error.value) == f"There is no model 'pixelsnake'; choose one of {', '.join(MODELS)}."
    assert {"pixelcnn", "vae", "autoencoder", "classifier"} <= set(MODELS)


def test_config_of_another_model():
    with pytest.raises(GenfastError) as error:
        build_model("pixelcnn", GatedPixelCNNConfig((1, 4, 4)))
    assert str(error.value) == "Model 'pixelcnn' takes a PixelCNNConfig, not a GatedPixelCNNConfig."


GOOD = config_to_dict(PixelCNNConfig((1, 4, 4)))


@pytest.mark.parametrize(("values", "sentence"), [
    ([], "The config of model 'pixelcnn' must be a JSON object, not list."),
    ({**GOOD, "version": 2}, "The config of model 'pixelcnn' has version 2, but this genfast reads version 1: "
     "use the genfast that wrote it."),
    ({"image_shape": [1, 4, 4]}, "The config of model 'pixelcnn' has version None, but this genfast reads version 1: "
     "use the genfast that wrote it."),
    ({**GOOD, "layers": 3}, "Model 'pixelcnn' has no setting 'layers'; its settings are "
     "image_shape, levels, likelihood, hidden, blocks, head, first_kernel, kernel."),
    ({"version": 1}, "The config of model 'pixelcnn' lacks image_shape."),
    ({**GOOD, "hidden": "128"}, "hidden must be an integer of at least 1, not '128'."),
    ({**GOOD, "levels": None}, "levels must be an integer from 2 to 256, not None."),
    ({**GOOD, "image_shape": "1x4"}, "image_shape must be three positive integers (channels, height, width), "
     "not '1x4'."),
    ({**GOOD, "likelihood": ["bernoulli"]}, "likelihood must be auto, bernoulli or categorical, not ['bernoulli']."),
])  # fmt: skip
def test_bad_configs_are_refused(values, sentence):
    with pytest.raises(GenfastError) as error:
        config_from_dict("pixelcnn", values)
    assert str(error.value) == sentence
