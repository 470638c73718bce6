"""A GAN from the command line: what each verb does for it, and what it refuses."""

import json

import numpy as np
import pytest
from PIL import Image

from genfast.cli.main import main
from tests.cli.test_command_line import refused
from tests.cli.test_latent_commands import TINY, config_of

SMALL = ["--network", "dcgan", "--channels", "2", "--latent", "2"]


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Runs of digits, four steps old: a GAN, a conditional one, a classifier that judges, and an autoencoder."""
    folder = tmp_path_factory.mktemp("runs")
    commands = {
        "gan": ["gan", *SMALL],
        "conditional": ["gan", *SMALL, "--network", "sngan", "--objective", "hinge", "--num-classes", "10"],
        "autoencoder": ["autoencoder", "--channels", "2", "--latent", "4"],
        "classifier": ["classifier", "--channels", "2", "--latent", "4"],
    }
    for name, (model, *argv) in commands.items():
        assert main(["train", model, *TINY, *argv, "-o", str(folder / name)]) == 0
    return folder


def test_train(runs, tmp_path, capsys):
    assert main(["train", "gan", *TINY, *SMALL, "--objective", "minimax", "-o", str(tmp_path / "run")]) == 0
    said = capsys.readouterr().out
    assert "done: step 4\n" in said
    assert "--samples 5000, genfast sample" in said
    for name in ("curve.png", "samples-0000.png"):
        assert (tmp_path / "run" / name).exists()
    line = json.loads((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()[-1])
    assert 0 < line["train_real"] < 1
    assert config_of(runs / "conditional")["model"]["config"]["objective"] == "hinge"
    assert main(["train", "gan", *TINY, *SMALL, "-o", str(runs / "gan"), "--resume"]) == 0
    refused(
        capsys, ["train", "gan", *TINY, *SMALL, "-o", runs / "gan", "--resume", "--latent", "3"], "latent = 2, not 3"
    )


def test_a_preset_names_its_settings(capsys):
    with pytest.raises(SystemExit):
        main(["train", "gan", "--preset", "mnist-wgan-gp", "--help"])
    said = capsys.readouterr().out
    for words in ("--objective", "wasserstein", "--discriminator-steps", "--beta1", "--discriminator-norm"):
        assert words in said


def test_settings_that_make_no_gan(tmp_path, capsys):
    argv = ["train", "gan", *TINY, "-o", tmp_path / "run"]
    refused(capsys, [*argv, "--objective", "lsgan"], "lsgan")
    refused(capsys, [*argv, "--objective", "wasserstein", "--discriminator-norm", "batch"], "batch normalization")
    refused(capsys, [*argv, "--penalty", -1], "penalty")
    refused(capsys, [*argv, "--discriminator-steps", 0], "discriminator_steps")
    refused(capsys, [*argv, "--num-classes", 3], "label 9")
    refused(capsys, [*argv, "--beta1", 1], "beta1")
    np.savez(tmp_path / "long.npz", images=np.zeros((20, 2, 64), np.uint8), levels=17)
    long = ["train", "gan", *TINY[2:], "--data", f"npz:{tmp_path / 'long.npz'}", "-o", tmp_path / "run"]
    refused(capsys, long, "16x16 pixels, not 2x64: use network mlp")
    assert not (tmp_path / "run").exists()


def test_there_is_no_density(runs, capsys):
    for argv in (["evaluate", runs / "gan"], ["evaluate", runs / "conditional", "--importance-samples", 5, "--json"]):
        refused(capsys, argv, "has no density")


def test_evaluate_compares_what_it_draws(runs, capsys):
    argv = ["evaluate", runs / "conditional", "--samples", 40, "--classifier", runs / "classifier", "--json"]
    assert main([str(word) for word in argv]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["model"] == "gan"
    assert "quality" in said
    assert "nats_per_image" not in said


def test_sample(runs, tmp_path, capsys):
    for name, argv in (("a", ["-n", "5"]), ("b", ["-n", "2", "--first", "3"]), ("mean", ["-n", "5", "--mean"])):
        assert main(["sample", str(runs / "gan"), "--seed", "3", "-o", str(tmp_path / f"{name}.npz"), *argv]) == 0
    a, b, mean = (np.load(tmp_path / f"{name}.npz") for name in ("a", "b", "mean"))
    assert a["images"].shape == (5, 1, 8, 8)
    assert a["levels"] == 17
    assert mean["levels"] == 256
    assert (a["images"][3:] == b["images"]).all()
    assert main(["sample", str(runs / "conditional"), "-n", "3", "--label", "7", "-o", str(tmp_path / "y.png")]) == 0
    out = ["-o", tmp_path / "z.png"]
    refused(capsys, ["sample", runs / "conditional", "--label", 10, *out], "10")
    refused(capsys, ["sample", runs / "gan", "--label", 1, *out], "without labels")
    refused(capsys, ["sample", runs / "gan", "--temperature", 0.5, *out], "temperature")
    refused(capsys, ["sample", runs / "gan", "--engine", "cpu", *out], "A GAN draws all pixels at once")
    refused(capsys, ["sample", runs / "gan", "-o", tmp_path / "z.gif"], "at once", ".png")
    refused(capsys, ["complete", runs / "gan", *out], "pixel by pixel")
    assert not list(tmp_path.glob("z.*"))


@pytest.mark.parametrize(
    ("name", "show", "images"),
    [("gan", [], 12), ("gan", ["--show", "manifold"], 16), ("conditional", ["--show", "manifold", "--label", "3"], 16),
     ("conditional", ["--show", "interpolation"], 12)],
)  # fmt: skip
def test_explore(runs, tmp_path, name, show, images):
    for suffix in ("png", "npz"):
        argv = ["explore", runs / name, *show, "-n", 3, "--steps", 4, "-o", tmp_path / f"x.{suffix}"]
        assert main([str(word) for word in argv]) == 0
    Image.open(tmp_path / "x.png").verify()
    assert np.load(tmp_path / "x.npz")["images"].shape == (images, 1, 8, 8)


def test_explore_the_saturation(runs, tmp_path, capsys):
    for name in ("gan", "conditional"):
        assert main(["explore", str(runs / name), "--show", "saturation", "-o", str(tmp_path / f"{name}.png")]) == 0
        Image.open(tmp_path / f"{name}.png").verify()
    assert "mean gradient by the logit, non_saturating" in capsys.readouterr().out


def test_what_cannot_be_explored(runs, tmp_path, capsys):
    out = ["-o", tmp_path / "x.png"]
    refused(capsys, ["explore", runs / "gan", "--show", "reconstructions", *out], "GAN has no encoder")
    refused(capsys, ["explore", runs / "gan", "--show", "traversal", *out], "GAN has no encoder")
    refused(capsys, ["explore", runs / "autoencoder", "--show", "saturation", *out], "no discriminator")
    refused(capsys, ["explore", runs / "gan", "--show", "saturation", "-o", tmp_path / "x.npz"], ".png")
    refused(capsys, ["explore", runs / "conditional", "--show", "manifold", "--label", 10, *out], "0 to 9")
    refused(capsys, ["features", runs / "gan", "-o", tmp_path / "x.npz"], "no encoder")
    refused(capsys, ["probe", runs / "gan", "-o", tmp_path / "probe"], "without labels")
    assert not list(tmp_path.iterdir())
