"""Autoencoder, VAE and classifier from the command line: what each verb does for them, and what it refuses."""

import json

import numpy as np
import pytest
from PIL import Image

from genfast.cli.main import main
from genfast.models import PixelCNN, PixelCNNConfig
from genfast.training import save_model
from tests.cli.test_command_line import refused

TINY = [
    "--data", "digits", "--max-steps", "4", "--batch-size", "8", "--warmup-steps", "1", "--sample-images", "2",
    "--eval-images", "9", "--num-threads", "1", "--device", "cpu",
]  # fmt: skip
SMALL = ["--network", "mlp", "--hidden", "8"]


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Runs of digits, four steps old: two VAEs, an autoencoder, a probe of it, and a PixelCNN for what it refuses."""
    folder = tmp_path_factory.mktemp("runs")
    commands = {
        "vae": ["vae", *SMALL, "--latent", "2"],
        "conditional": [
            "vae",
            *SMALL,
            "--latent",
            "3",
            "--num-classes",
            "10",
            "--beta",
            "2",
            "--likelihood",
            "gaussian",
        ],
        "autoencoder": ["autoencoder", "--channels", "2", "--latent", "4"],
        "classifier": ["classifier", "--init-encoder", str(folder / "autoencoder"), "--train-images", "50", "--freeze"],
    }
    for name, (model, *argv) in commands.items():
        assert main(["train", model, *TINY, *argv, "-o", str(folder / name)]) == 0
    model = PixelCNN(PixelCNNConfig((1, 8, 8), 17, hidden=2, blocks=0, head=2, first_kernel=3))
    save_model(folder / "pixelcnn", "pixelcnn", model)
    return folder


def config_of(run):
    return json.loads((run / "config.json").read_text())


# ---- train ----


def test_the_run_folders(runs):
    assert (runs / "vae" / "samples-0000.png").exists()
    assert (runs / "vae" / "reconstructions-0000.png").exists()
    assert (runs / "autoencoder" / "reconstructions-0000.png").exists()
    assert config_of(runs / "conditional")["model"]["config"]["likelihood"] == "gaussian"
    classifier = config_of(runs / "classifier")
    assert classifier["model"]["config"]["latent"] == 4  # the encoder's
    assert classifier["data"]["images"] == 50
    assert "50 of 1439" in classifier["data"]["title"]


def test_resuming(runs, capsys):
    for name, argv in (("vae", ["vae", *SMALL, "--latent", "2"]), ("autoencoder", ["autoencoder", "--channels", "2"])):
        argv = ["train", *argv, *TINY, "-o", str(runs / name), "--resume"]
        if name == "autoencoder":
            refused(capsys, argv, "latent = 4, not 40")
        else:
            assert main(argv) == 0
            refused(capsys, [*argv, "--beta", "3"], "beta")


def test_encoders_that_do_not_fit(runs, tmp_path, capsys):
    argv = ["train", "classifier", *TINY, "-o", tmp_path / "run", "--init-encoder"]
    refused(capsys, [*argv, runs / "pixelcnn"], "no encoder")
    refused(capsys, [*argv, runs / "conditional"], "told the label")
    refused(capsys, [*argv, runs / "gone"], "does not exist")
    np.savez(tmp_path / "wide.npz", images=np.zeros((20, 8, 9), np.uint8), labels=np.arange(20) % 10, levels=17)
    wide = ["train", "classifier", *TINY[2:], "--data", f"npz:{tmp_path / 'wide.npz'}", "-o", tmp_path / "run"]
    refused(capsys, [*wide, "--init-encoder", runs / "vae"], "image_shape (1, 8, 8)", "(1, 8, 9)")
    refused(capsys, ["train", "vae", *TINY, "-o", tmp_path / "run", "--free-bits", -1], "free_bits")
    refused(capsys, ["train", "vae", *TINY, "-o", tmp_path / "run", "--train-images", -1], "--train-images")
    assert not (tmp_path / "run").exists()


# ---- evaluate ----


def test_evaluate_a_vae(runs, capsys):
    assert main(["evaluate", str(runs / "vae"), "--limit", "20", "--importance-samples", "10"]) == 0
    said = capsys.readouterr().out
    for words in ("negative ELBO", "reconstruction", "KL divergence", "bound of 5 samples", "bound of 10", "bits/dim"):
        assert words in said
    assert "of 2 latent units are active" in said
    assert main(["evaluate", str(runs / "vae"), "--limit", "20", "--importance-samples", "10", "--json"]) == 0
    values = json.loads(capsys.readouterr().out)
    assert values["nats_per_image"] == values["negative_elbo"]
    assert values["negative_elbo"] == pytest.approx(values["reconstruction"] + values["kl"])
    assert values["bits_per_dim"] == pytest.approx(values["negative_elbo"] / (64 * np.log(2)))
    assert values["iwae_10"] <= values["iwae_5"]
    assert values["iwae_10_standard_error"] > 0
    assert len(values["kl_per_dimension"]) == 2
    assert sum(values["kl_per_dimension"]) == pytest.approx(values["kl"])
    assert main(["evaluate", str(runs / "vae"), "--limit", "20", "--batch-size", "7", "--json"]) == 0
    again = json.loads(capsys.readouterr().out)
    assert again["kl"] == pytest.approx(values["kl"], rel=1e-6)
    assert "iwae_10" not in again


def test_evaluate_the_others(runs, capsys):
    assert main(["evaluate", str(runs / "autoencoder"), "--limit", "9"]) == 0
    said = capsys.readouterr().out
    assert "squared error per sub-pixel" in said
    assert "bits/dim" not in said
    assert main(["evaluate", str(runs / "classifier"), "--json"]) == 0
    values = json.loads(capsys.readouterr().out)
    assert 0 <= values["accuracy"] <= 1
    assert values["images"] == 179
    assert "nats_per_image" not in values
    refused(capsys, ["evaluate", runs / "autoencoder", "--importance-samples", 5], "scored exactly")
    refused(capsys, ["evaluate", runs / "vae", "--importance-samples", 0], "at least 1")


# ---- sample ----


def test_sample_a_vae(runs, tmp_path, capsys):
    for name, argv in (("a", ["-n", "5"]), ("b", ["-n", "2", "--first", "3"]), ("mean", ["-n", "5", "--mean"])):
        assert main(["sample", str(runs / "vae"), "--seed", "3", "-o", str(tmp_path / f"{name}.npz"), *argv]) == 0
    a, b, mean = (np.load(tmp_path / f"{name}.npz") for name in ("a", "b", "mean"))
    assert a["images"].shape == (5, 1, 8, 8)
    assert a["levels"] == 17
    assert mean["levels"] == 256
    assert (a["images"][3:] == b["images"]).all()
    for argv in ([], ["--mean"]):
        assert main(["sample", str(runs / "vae"), "-n", "3", "-o", str(tmp_path / "x.png"), *argv]) == 0
    Image.open(tmp_path / "x.png").verify()
    assert main(["sample", str(runs / "conditional"), "-n", "3", "--label", "7", "-o", str(tmp_path / "y.png")]) == 0
    refused(capsys, ["sample", runs / "conditional", "--label", 10, "-o", tmp_path / "z.png"], "10")
    refused(capsys, ["sample", runs / "vae", "--label", 1, "-o", tmp_path / "z.png"], "without labels")
    refused(capsys, ["sample", runs / "vae", "-o", tmp_path / "z.gif"], "at once", ".png")
    refused(capsys, ["sample", runs / "vae", "--engine", "cpu", "-o", tmp_path / "z.png"], "--engine")
    refused(capsys, ["sample", runs / "vae", "-n", 0, "-o", tmp_path / "z.png"], "at least 1")
    refused(capsys, ["sample", runs / "pixelcnn", "--mean", "-o", tmp_path / "z.png"], "--mean")
    for name in ("autoencoder", "classifier"):
        refused(capsys, ["sample", runs / name, "-o", tmp_path / "z.png"], "not a distribution over images")
    assert not list(tmp_path.glob("z.*"))


def test_complete_is_for_models_that_draw_pixel_by_pixel(runs, tmp_path, capsys):
    for name in ("vae", "autoencoder", "classifier"):
        refused(capsys, ["complete", runs / name, "-o", tmp_path / "x.png"], "pixel by pixel", "gated-pixelcnn")
    assert not list(tmp_path.iterdir())


# ---- features ----


def test_features(runs, tmp_path, capsys):
    for name, size in (("vae", 2), ("conditional", 3), ("autoencoder", 4), ("classifier", 4)):
        out = tmp_path / f"{name}.npz"
        assert main(["features", str(runs / name), "--split", "valid", "-o", str(out)]) == 0
        arrays = np.load(out)
        assert arrays["features"].shape == (179, size)
        assert arrays["features"].dtype == np.float32
        assert arrays["labels"].shape == (179,)
    # The probe froze the encoder, so the classifier has kept its features.
    one, other = (np.load(tmp_path / f"{name}.npz")["features"] for name in ("autoencoder", "classifier"))
    np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)
    argv = ["features", runs / "vae", "--batch-size", 7, "--limit", 10, "-o", tmp_path / "few.npz"]
    assert main([str(word) for word in argv]) == 0
    assert np.load(tmp_path / "few.npz")["features"].shape == (10, 2)
    refused(capsys, ["features", runs / "pixelcnn", "--data", "digits", "-o", tmp_path / "x.npz"], "no encoder")
    refused(capsys, ["features", runs / "vae", "-o", tmp_path / "x.png"], ".npz")
    refused(capsys, ["features", runs / "vae", "--limit", -1, "-o", tmp_path / "x.npz"], "--limit")
    assert not (tmp_path / "x.npz").exists()


# ---- explore ----


@pytest.mark.parametrize(
    ("name", "show", "images"),
    [
        ("vae", "reconstructions", 6), ("vae", "interpolation", 12), ("vae", "traversal", 8), ("vae", "manifold", 16),
        ("autoencoder", "reconstructions", 6), ("autoencoder", "interpolation", 12),
        ("conditional", "reconstructions", 6), ("conditional", "traversal", 12),
    ],
)  # fmt: skip
def test_explore(runs, tmp_path, name, show, images):
    for suffix in ("png", "npz"):
        argv = ["explore", runs / name, "--show", show, "-n", 3, "--steps", 4, "-o", tmp_path / f"x.{suffix}"]
        assert main([str(word) for word in argv]) == 0
    Image.open(tmp_path / "x.png").verify()
    assert np.load(tmp_path / "x.npz")["images"].shape == (images, 1, 8, 8)


def test_what_cannot_be_explored(runs, tmp_path, capsys):
    out = ["-o", tmp_path / "x.png"]
    refused(capsys, ["explore", runs / "pixelcnn", *out], "no decoder")
    refused(capsys, ["explore", runs / "classifier", *out], "no decoder")
    refused(capsys, ["explore", runs / "autoencoder", "--show", "traversal", *out], "no posterior")
    refused(capsys, ["explore", runs / "autoencoder", "--show", "manifold", *out], "no prior")
    refused(capsys, ["explore", runs / "conditional", "--show", "manifold", *out], "2 latent dimensions")
    refused(capsys, ["explore", runs / "vae", "--show", "magic", *out], "magic")
    refused(capsys, ["explore", runs / "vae", "--steps", 1, *out], "--steps")
    refused(capsys, ["explore", runs / "vae", "--first", 178, "-n", 5, *out], "178")
    refused(capsys, ["explore", runs / "vae", "-o", tmp_path / "x.gif"], ".png")
    assert not list(tmp_path.iterdir())
