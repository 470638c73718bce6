"""Autoencoder, VAE and classifier through the loop that trains every model."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from genfast.errors import GenfastError
from genfast.models import AutoencoderConfig, Classifier, ClassifierConfig, PixelCNN, VAEConfig, build_model
from genfast.training import evaluate, load_model, train
from genfast.training.features import image_features
from tests.training.conftest import MODEL, QUICK, power_cut, toy_images
from tests.training.test_loop import assert_same_run, metrics

SIZE = {"image_shape": (1, 4, 5), "levels": 4, "latent": 3, "hidden": 16, "channels": 2}
VAE = VAEConfig(**SIZE, network="mlp", beta=1.0, kl_warmup_steps=5)
AUTOENCODER = AutoencoderConfig(**SIZE, network="mlp")
CLASSIFIER = ClassifierConfig(**SIZE, network="conv", num_classes=3)
ALL = {"vae": VAE, "autoencoder": AUTOENCODER, "classifier": CLASSIFIER}


@pytest.mark.parametrize("name", ALL)
def test_resuming_continues_the_same_curve(name, tmp_path):
    """Stopped in the middle of an epoch and of a logging window; bit for bit the run that was never stopped."""
    data, held_out = toy_images(40), toy_images(5, "valid")
    config = replace(QUICK, checkpoint_every_steps=3, log_every=4)

    def run(folder, resume=False):
        return train(name, ALL[name], data, config, tmp_path / folder, resume, held_out=held_out)

    whole = run("whole")
    with power_cut(after=7):
        run("cut")
    resumed = run("cut", resume=True)
    assert_same_run(tmp_path / "whole", tmp_path / "cut")
    assert resumed.held_out == whole.held_out


def test_a_vae_learns_and_the_run_folder_tells(tmp_path):
    data, held_out, lines = toy_images(40), toy_images(12, "valid"), []
    config = replace(QUICK, epochs=40, learning_rate=0.01, sample_images=3, eval_every=10)
    result = train("vae", VAE, data, config, tmp_path / "run", held_out=held_out, report=lines.append)
    torch.manual_seed(config.seed)
    before = evaluate(build_model("vae", VAE), held_out).nats
    assert result.held_out.nats < 0.6 * before
    assert "bits/dim" in lines[-1]
    loaded = load_model(tmp_path / "run")
    again = evaluate(loaded, held_out, batch_size=5)
    assert again.nats == pytest.approx(result.held_out.nats, rel=1e-5)
    assert again.details["latent_units"] == 3
    line = metrics(tmp_path / "run")[-1]
    assert line["held_out_negative_elbo"] == pytest.approx(line["held_out_reconstruction"] + line["held_out_kl"])
    assert "held_out_bits_per_dim" in line
    training = [line for line in metrics(tmp_path / "run") if "train_kl" in line][-1]
    assert training["train_negative_elbo"] == pytest.approx(training["train_reconstruction"] + training["train_kl"])
    for picture in ("curve.png", "samples-0040.png", "reconstructions-0040.png"):
        Image.open(tmp_path / "run" / picture).verify()
    tighter = evaluate(loaded, held_out, samples=50)
    assert tighter.means["iwae_50"].value < tighter.means["iwae_5"].value < tighter.nats
    assert json.loads(json.dumps(tighter.to_dict(), allow_nan=False))["iwae_50"] == tighter.means["iwae_50"].value


def test_held_out_scores_are_of_the_image_and_not_of_its_place():
    """A part of a set gives the same numbers as the whole does for it."""
    model, data = build_model("vae", VAE), toy_images(30)
    part = data.subset(7)
    whole = evaluate(model, data)
    whole_part = evaluate(model, part, batch_size=2)
    numbers = part.numbers
    assert numbers is not None
    reordered = replace(data, images=data.images[numbers], labels=data.labels[numbers], numbers=numbers)
    assert evaluate(model, reordered).nats == pytest.approx(whole_part.nats, rel=1e-6)
    assert whole.nats != whole_part.nats


def test_an_autoencoder_learns(tmp_path):
    config = replace(QUICK, epochs=40, learning_rate=0.01, sample_images=3, eval_every=20)
    lines = []
    result = train(
        "autoencoder", AUTOENCODER, toy_images(40), config, tmp_path / "run", held_out=toy_images(9, "valid"),
        report=lines.append,
    )  # fmt: skip
    logged = metrics(tmp_path / "run")
    assert result.held_out.main.value < 0.2 * logged[0]["train_squared_error"]
    assert "squared_error" in lines[-1]
    assert "held_out_bits_per_dim" not in logged[-1]
    Image.open(tmp_path / "run" / "reconstructions-0040.png").verify()
    assert not list((tmp_path / "run").glob("samples-*"))
    with pytest.raises(AttributeError, match="no density"):
        result.held_out.nats  # noqa: B018


def test_a_frozen_encoder_stays_and_another_is_tuned(tmp_path):
    config = replace(QUICK, epochs=4, eval_every=0)
    encoder = train("autoencoder", AUTOENCODER, toy_images(40), config, tmp_path / "encoder").model
    results = {}
    for freeze in (True, False):
        start = Classifier.from_encoder(encoder, freeze, num_classes=3)
        results[freeze] = train(
            "classifier", start.config, toy_images(40), config, tmp_path / str(freeze), initial=start
        ).model  # fmt: skip
        images = toy_images(5).batch(range(5))
        same = torch.equal(results[freeze].features(images), encoder.features(images))
        assert same == freeze
        assert not torch.equal(results[freeze].head.weight, start.head.weight)
        loaded = load_model(tmp_path / str(freeze))
        torch.testing.assert_close(loaded(images), results[freeze](images))
    with pytest.raises(GenfastError, match="other settings"):
        train("classifier", CLASSIFIER, toy_images(9), config, tmp_path / "x", initial=start)
    assert not (tmp_path / "x").exists()


def test_a_classifier_learns(tmp_path):
    config = replace(QUICK, epochs=30, learning_rate=0.02, eval_every=10)
    result = train("classifier", CLASSIFIER, toy_images(40), config, tmp_path / "run", held_out=toy_images(9))
    assert result.held_out.means["accuracy"].value > 0.7  # two of the four stripes share a label
    assert result.held_out.criterion == "cross_entropy"


def test_features():
    data = toy_images(7)
    model = build_model("vae", VAE).eval()
    features = image_features(model, data, batch_size=3)
    assert features.dtype == np.float32
    np.testing.assert_allclose(features, model.encode(data.batch(range(7))).mean.detach(), rtol=1e-5, atol=1e-6)
    unlabelled = toy_images(7, labels=False)
    assert image_features(build_model("classifier", CLASSIFIER), unlabelled).shape == (7, 3)
    conditional = build_model("vae", replace(VAE, num_classes=3))
    assert image_features(conditional, data).shape == (7, 3)
    with pytest.raises(GenfastError, match="labels"):
        image_features(conditional, unlabelled)
    with pytest.raises(GenfastError, match="PixelCNN has no encoder"):
        image_features(PixelCNN(MODEL), data)


def test_samples_are_for_models_that_need_them():
    with pytest.raises(GenfastError, match="scored exactly"):
        evaluate(PixelCNN(MODEL), toy_images(3), samples=5)
    with pytest.raises(GenfastError, match="at least 1"):
        evaluate(build_model("vae", VAE), toy_images(3), samples=0)
