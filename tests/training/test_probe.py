"""What features are worth: the pieces against known answers, and the whole on toy images."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from genfast.cli.main import main
from genfast.cli.probe import table
from genfast.errors import GenfastError
from genfast.models import AutoencoderConfig, ClassifierConfig, VAEConfig, build_model
from genfast.training import save_model
from genfast.training.probe import METHODS, Accuracies, _linear, _majority, _places, probe
from tests.cli.test_command_line import refused
from tests.training.conftest import toy_images

SIZE = {"image_shape": (1, 4, 5), "levels": 4, "network": "mlp", "latent": 3, "hidden": 8}


def test_a_cluster_takes_the_commonest_label():
    clusters, labels = np.array([0, 0, 0, 2, 2]), np.array([5, 5, 1, 1, 5])
    # Cluster 0 says 5; 2 is a tie and says the smaller, 1; cluster 1 has no labelled image and says 5, the commonest.
    assert _majority(clusters, labels, np.array([0, 1, 2, 2]), np.array([5, 5, 1, 5])) == 0.75


def test_the_places_of_a_part():
    """The images found there are those of the part, in the data and in a part of a part."""
    whole = toy_images(200)
    whole = replace(whole, images=np.random.default_rng(0).integers(0, 4, whole.images.shape, dtype=np.uint8))
    for data in (whole, whole.subset(60)):
        part = data.subset(7, seed=3)
        found = data.batch(_places(part, data))
        assert sorted(found.flatten(1).tolist()) == sorted(part.batch(range(7)).flatten(1).tolist())
        assert _places(data.subset(999), data).tolist() == list(range(len(data)))


def test_the_linear_probe_finds_a_line_and_nothing_in_noise():
    generator = np.random.default_rng(0)
    x = generator.normal(size=(400, 2))
    y = (x @ [1.0, -2.0] > 0).astype(np.int64)
    assert _linear(x[:200] * [1, 1000], y[:200], x[200:] * [1, 1000], y[200:], 0) > 0.97  # whatever the scale
    assert 0.3 < _linear(generator.normal(size=(200, 2)), y[:200], x[200:], y[200:], 0) < 0.7
    with pytest.raises(GenfastError, match="one class"):
        _linear(x[:2], np.array([1, 1]), x, y, 0)


def test_every_method_with_every_number_of_labels():
    torch.manual_seed(0)
    lines: list[str] = []
    encoder = build_model("autoencoder", AutoencoderConfig(**SIZE))
    data = toy_images(200).subset(60)  # numbered by their places among the 200
    results = probe(encoder, data, toy_images(20, "test"), (12, 0), 1, most_steps=5, report=lines.append)
    assert [(row.method, row.labels) for row in results] == [(m, n) for n in (12, 60) for m in METHODS]
    assert [line.split(":")[0] for line in lines] == ["12 labels, seed 0", "60 labels, seed 0"]
    found = {(row.method, row.labels): row for row in results}
    # Four kinds of stripes, three labels: a handful of components tells them apart.
    assert found["linear probe, PCA", 60].mean == 1
    assert found["k-means", 60].mean >= 0.75
    assert Accuracies("", 1, (0.5,)).spread == 0


def test_the_table_says_the_margin():
    results = [Accuracies(method, 100, (0.8, 0.9)) for method in METHODS]
    results[1] = Accuracies("fine-tuned, random", 100, (0.65, 0.75))
    said = table(results, "toy")
    assert "| fine-tuned, random | 70.00% ± 7.07% |" in said
    assert "pretraining is worth +15.00% ± 0.00% in fine-tuning" in said  # seed by seed


def test_the_command(tmp_path, capsys):
    config = VAEConfig((1, 8, 8), levels=17, network="mlp", hidden=8, latent=4)
    save_model(tmp_path / "run", "vae", build_model("vae", config))
    argv = ["probe", tmp_path / "run", "--data", "digits", "--quick", "--num-threads", "1", "-o", tmp_path / "out"]
    assert main([str(word) for word in argv]) == 0
    said = capsys.readouterr().out
    assert "100 labels" in said
    assert (tmp_path / "out" / "probe.md").read_text() in said
    assert (tmp_path / "out" / "probe.png").read_bytes().startswith(b"\x89PNG")
    rows = json.loads((tmp_path / "out" / "probe.json").read_text())["rows"]
    assert {row["method"] for row in rows} == set(METHODS)
    assert all(len(row["values"]) == 2 for row in rows)


def test_what_cannot_be_probed(tmp_path, capsys):
    encoder = build_model("autoencoder", AutoencoderConfig(**SIZE))
    with pytest.raises(GenfastError, match="no labels"):
        probe(encoder, toy_images(9, labels=False), toy_images(9), (5,))
    with pytest.raises(GenfastError, match="at least one seed"):
        probe(encoder, toy_images(9), toy_images(9), (5,), seeds=0)
    with pytest.raises(GenfastError, match="told the label"):
        probe(build_model("vae", VAEConfig(**SIZE, num_classes=3)), toy_images(9), toy_images(9), (5,))
    save_model(tmp_path / "run", "classifier", build_model("classifier", ClassifierConfig(**SIZE, num_classes=3)))
    refused(capsys, ["probe", tmp_path / "run", "--data", "digits", "-o", tmp_path / "out"], "without labels")
    refused(capsys, ["probe", tmp_path / "gone", "-o", tmp_path / "out"], "does not exist")
    assert not (tmp_path / "out").exists()
