"""The classifier that is trained when it is first needed, and kept."""

import json

import numpy as np
import pytest
import torch

from genfast.errors import GenfastError
from genfast.models import Classifier, ClassifierConfig, PixelCNN
from genfast.quality import classifier, classifier_of
from genfast.training import DataConfig, save_model
from tests.training.conftest import MODEL

DIGITS = DataConfig("digits")


@pytest.fixture(autouse=True)
def _few_steps(monkeypatch):
    monkeypatch.setattr(classifier, "FEWEST_STEPS", 6)
    monkeypatch.setattr(classifier, "MOST_STEPS", 6)


def test_it_is_trained_once(tmp_path):
    said = []
    first = classifier_of(tmp_path / "classifier", DIGITS, said.append, "cpu", 1)
    assert "training a classifier on 1439 images of digits train" in said[0]
    assert str(tmp_path / "classifier") in said[0]
    assert first.config.num_classes == 10
    assert not first.training
    assert json.loads((tmp_path / "classifier" / "config.json").read_text())["data"]["name"] == "digits"
    assert [path.name for path in tmp_path.iterdir()] == ["classifier"]
    said.clear()
    second = classifier_of(tmp_path / "classifier", DIGITS, said.append)
    assert not said
    other = classifier_of(tmp_path / "again", DIGITS, said.append, "cpu", 1)
    for name, tensor in first.state_dict().items():
        assert torch.equal(tensor, second.state_dict()[name])
        assert torch.equal(tensor, other.state_dict()[name])  # the same data makes the same classifier


def test_a_stopped_training_leaves_nothing(tmp_path, monkeypatch):
    def stopped(*args, **options):
        args[4].mkdir()
        raise KeyboardInterrupt

    monkeypatch.setattr(classifier, "train", stopped)
    with pytest.raises(KeyboardInterrupt):
        classifier_of(tmp_path / "classifier", DIGITS)
    assert not list(tmp_path.iterdir())


def test_data_without_labels(tmp_path):
    np.savez(tmp_path / "bare.npz", images=np.zeros((40, 8, 8), np.uint8))
    with pytest.raises(GenfastError, match="no labels.*--classifier"):
        classifier_of(tmp_path / "classifier", DataConfig(f"npz:{tmp_path / 'bare.npz'}"))
    assert not (tmp_path / "classifier").exists()


def test_a_classifier_of_other_data(tmp_path):
    save_model(
        tmp_path / "classifier", "classifier", Classifier(ClassifierConfig((1, 8, 8), 17, "mlp", latent=2, hidden=2))
    )
    with pytest.raises(GenfastError, match="trained on unknown data, not on digits"):
        classifier_of(tmp_path / "classifier", DIGITS)
    classifier_of(tmp_path / "digits", DIGITS, device="cpu", num_threads=1)
    with pytest.raises(GenfastError, match="trained on digits train.*not on mnist"):
        classifier_of(tmp_path / "digits", DataConfig("mnist"))
    save_model(tmp_path / "pixelcnn", "pixelcnn", PixelCNN(MODEL))
    with pytest.raises(GenfastError, match="PixelCNN, not a classifier"):
        classifier_of(tmp_path / "pixelcnn", DIGITS)
