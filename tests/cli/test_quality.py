"""``genfast evaluate``, the part about generated images: every family that draws, images from elsewhere, bad input."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from genfast.cli.main import main
from genfast.data import load
from genfast.models import VAE, PixelCNN, PixelCNNConfig
from genfast.quality import classifier
from genfast.training import save_model
from tests.cli.test_command_line import refused
from tests.cli.test_latent_commands import SMALL, TINY
from tests.quality.inception import Pooled, Short, scripted

pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
FLAGS = ["--num-threads", "1", "--device", "cpu"]


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Runs of digits, four steps old, and a classifier."""
    folder = tmp_path_factory.mktemp("runs")
    commands = {
        "vae": ["vae", *SMALL, "--latent", "2"],
        "conditional": ["vae", *SMALL, "--latent", "3", "--num-classes", "10"],
        "autoencoder": ["autoencoder", *SMALL, "--latent", "4"],
        "classifier": ["classifier", "--channels", "4", "--latent", "8"],
    }
    for name, (model, *argv) in commands.items():
        assert main(["train", model, *TINY, *argv, "-o", str(folder / name)]) == 0
    model = PixelCNN(PixelCNNConfig((1, 8, 8), 17, hidden=2, blocks=0, head=2, first_kernel=3))
    save_model(folder / "pixelcnn", "pixelcnn", model)
    return folder


def evaluated(capsys, *argv):
    """What was printed."""
    capsys.readouterr()
    assert main(["evaluate", *map(str, argv), *FLAGS]) == 0
    return capsys.readouterr()


def test_a_run_gets_a_classifier_of_its_own(runs, capsys, monkeypatch):
    monkeypatch.setattr(classifier, "FEWEST_STEPS", 30)
    monkeypatch.setattr(classifier, "MOST_STEPS", 30)
    said = evaluated(capsys, runs / "vae", "--samples", 60)
    assert "training a classifier on 1439 images" in said.err
    for words in (
        "negative ELBO", "kernel distance", "Frechet distance", "precision", "coverage", "other real", "noise", "±",
        f"240 feature maps of the classifier in {runs / 'vae' / 'classifier'}", "60 generated images against as many",
        "covered", "nearest training image", "by pixels", "by classifier",
    ):  # fmt: skip
        assert words in said.out, words
    assert "FID" not in said.out
    first = json.loads((runs / "vae" / "quality.json").read_text())
    assert first["images"] == 60
    assert set(first["spaces"][0]) == {"space", "frechet", "generated", "real", "noise"}
    assert first["spaces"][0]["generated"]["frechet_distance"] > 0
    assert sum(first["classes"]["generated"]["histogram"]) == 60
    assert [found["space"] for found in first["nearest_training_image"]] == ["pixels", "classifier"]
    with Image.open(runs / "vae" / "quality.png") as picture:
        assert picture.width > 5 * picture.height  # two rows of 12
    said = evaluated(capsys, runs / "vae", "--samples", 60, "--json")
    assert "training" not in said.err
    both = json.loads(said.out)
    assert both["quality"] == first
    assert both["negative_elbo"] > 0
    other = json.loads(evaluated(capsys, runs / "vae", "--samples", 60, "--seed", 1, "--json").out)
    assert other["quality"]["spaces"] != first["spaces"]


def test_every_family_that_draws(runs, capsys):
    shared = ["--samples", 40, "--classifier", runs / "classifier", "--json"]
    values = json.loads(evaluated(capsys, runs / "conditional", *shared).out)["quality"]
    assert values["images"] == 40
    assert str(runs / "classifier") in values["spaces"][0]["space"]
    assert not (runs / "conditional" / "classifier").exists()
    values = json.loads(evaluated(capsys, runs / "pixelcnn", *shared, "--data", "digits", "--split", "valid").out)
    assert values["nats_per_image"] > 0
    assert "digits valid" in values["quality"]["real_images"]
    assert (runs / "pixelcnn" / "quality.json").exists()
    values = json.loads(evaluated(capsys, runs / "vae", *shared, "--split", "train").out)["quality"]
    assert values["nearest_training_image"] == []  # the real images are the training images


def test_a_model_without_a_density(runs, capsys, monkeypatch):
    """One that draws but says nothing about given images shows their quality alone."""
    monkeypatch.setattr(VAE, "criterion", None)
    argv = [runs / "vae", "--samples", 40, "--classifier", runs / "classifier"]
    said = evaluated(capsys, *argv).out
    assert said.startswith("quality of images drawn from vae, step 4")
    values = json.loads(evaluated(capsys, *argv, "--json").out)
    assert set(values) == {"model", "step", "weights", "quality"}


def test_images_from_elsewhere(runs, tmp_path, capsys):
    images = load("digits", "valid").batch(range(50))
    np.savez(tmp_path / "drawn.npz", images=images.numpy())
    said = evaluated(capsys, runs / "classifier", "--images", tmp_path / "drawn.npz")
    assert f"quality of {tmp_path / 'drawn.npz'}" in said.out
    assert "cross" not in said.out  # nothing about the model's own scores
    values = json.loads((runs / "classifier" / "quality-drawn.json").read_text())
    assert values["images"] == 50
    assert (runs / "classifier" / "quality-drawn.png").exists()
    folder = tmp_path / "pictures"
    folder.mkdir()
    for i, image in enumerate((images[:, 0].double() * 255 / 16).round().to(torch.uint8).numpy()):
        Image.fromarray(image).save(folder / f"{i:03d}.png")
    same = json.loads(
        evaluated(capsys, runs / "vae", "--images", folder, "--classifier", runs / "classifier", "--json").out
    )
    assert same["quality"]["classes"] == values["classes"]
    assert same["quality"]["spaces"][0]["generated"] == values["spaces"][0]["generated"]


def test_fid_where_there_are_weights(runs, tmp_path, capsys):
    path = scripted(Pooled(), tmp_path)
    argv = [runs / "vae", "--samples", 20, "--classifier", runs / "classifier", "--inception", path, "--split", "train"]
    said = evaluated(capsys, *argv).out
    assert "FID" in said
    assert "Frechet distance" in said
    assert "2048 features of Pooled.pt" in said


def test_bad_input(runs, tmp_path, capsys):
    draws = ["--samples", 60, "--classifier", runs / "classifier"]
    before = sorted(runs.rglob("*"))
    refused(capsys, ["evaluate", runs / "vae", "--samples", -1], "--samples")
    refused(capsys, ["evaluate", runs / "vae", "--samples", 9, *draws[2:]], "at least 20")
    refused(capsys, ["evaluate", runs / "vae", "--samples", 90, *draws[2:]], "at most 89", "another split")
    refused(capsys, ["evaluate", runs / "vae", *draws, "--seed", -1], "seed")
    refused(capsys, ["evaluate", runs / "vae", "--classifier", runs / "classifier"], "add --samples")
    refused(capsys, ["evaluate", runs / "vae", *draws, "--images", tmp_path], "not both")
    for name in ("autoencoder", "classifier"):
        refused(capsys, ["evaluate", runs / name, *draws], "not a distribution over images")
    refused(capsys, ["evaluate", runs / "vae", *draws[:2], "--classifier", runs / "autoencoder"], "not a classifier")
    refused(capsys, ["evaluate", runs / "vae", *draws[:2], "--classifier", tmp_path / "gone"], "does not exist")
    np.savez(tmp_path / "wide.npz", images=np.zeros((400, 8, 9), np.uint8), labels=np.arange(400) % 10, levels=17)
    refused(capsys, ["evaluate", runs / "vae", *draws, "--data", f"npz:{tmp_path / 'wide.npz'}"], "(1, 8, 9)")
    np.savez(tmp_path / "fine.npz", images=np.random.RandomState(0).randint(0, 256, (400, 8, 8)).astype(np.uint8))
    refused(capsys, ["evaluate", runs / "vae", *draws, "--data", f"npz:{tmp_path / 'fine.npz'}"], "levels")
    refused(capsys, ["evaluate", runs / "vae", *draws, "--inception", tmp_path / "gone.pt"], "does not exist")
    refused(capsys, ["evaluate", runs / "vae", *draws, "--inception", tmp_path / "fine.npz"], "TorchScript")
    refused(capsys, ["evaluate", runs / "vae", *draws, "--inception", scripted(Short(), tmp_path)], "2048")
    refused(capsys, ["evaluate", runs / "classifier", "--images", tmp_path / "gone.npz"], "gone.npz")
    refused(capsys, ["evaluate", runs / "classifier", "--images", tmp_path / "wide.npz"], "(1, 8, 9)")
    (tmp_path / "empty").mkdir()
    refused(capsys, ["evaluate", runs / "classifier", "--images", tmp_path / "empty"], "no pictures")
    assert sorted(runs.rglob("*")) == before
