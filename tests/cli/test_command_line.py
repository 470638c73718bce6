"""Every verb end to end on small images, and every kind of bad input: exit code 2 and one sentence."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from genfast.cli.main import VERBS, main
from genfast.models import GatedPixelCNN, GatedPixelCNNConfig, PixelCNN, PixelCNNConfig
from genfast.training import checkpoint, save_model

TINY = [
    "--hidden", "4", "--head", "4", "--first-kernel", "3", "--max-steps", "4", "--batch-size", "8", "--warmup-steps",
    "1",
    "--sample-images", "2", "--eval-images", "9", "--num-threads", "1", "--device", "cpu",
]  # fmt: skip
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A PixelCNN on digits, four steps old."""
    folder = tmp_path_factory.mktemp("runs") / "digits"
    assert main(["train", "pixelcnn", "--data", "digits", "-o", str(folder), "--blocks", "1", *TINY]) == 0
    return folder


def refused(capsys, argv, *words):
    """Exit code 2 and exactly one line, one sentence, that has these words."""
    capsys.readouterr()
    assert main([str(word) for word in argv]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1, said
    assert said.startswith(f"genfast {argv[0]}: ")
    assert "Traceback" not in said
    for word in words:
        assert str(word) in said, said


# ---- help ----


def test_help_names_every_verb(capsys):
    for argv in (["--help"], ["-h"], ["help"], []):
        assert main(argv) == 0
        said = capsys.readouterr().out
        assert all(f"\n  {verb} " in said for verb in VERBS)


def test_help_is_quick_because_it_imports_nothing_heavy():
    code = (
        "import sys; from genfast.cli.main import main; main(['--help'])\n"
        "heavy = {'tyro', 'matplotlib', 'accelerate', 'sklearn'} & set(sys.modules); assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)


@pytest.mark.parametrize("verb", [verb for verb in VERBS if verb != "train"])
def test_every_verb_explains_itself(verb, capsys):
    with pytest.raises(SystemExit) as stop:
        main([verb, "--help"])
    assert stop.value.code == 0
    said = capsys.readouterr().out
    assert f"usage: genfast {verb}" in said
    if verb != "info":
        assert f"Example: genfast {verb}" in said


def test_train_help_shows_the_preset(capsys):
    assert main(["train", "--help"]) == 0
    assert "gated-pixelcnn" in capsys.readouterr().out
    for argv, shown in (([], "(default: 96)"), (["--preset", "digits"], "(default: 32)")):
        with pytest.raises(SystemExit):
            main(["train", "gated-pixelcnn", *argv, "--help"])
        said = capsys.readouterr().out
        assert shown in said[said.index("--hidden") :][:400]
        assert "--image-shape" not in said  # the data says
        assert "type:" not in said  # no comment of the source has become a help text


# ---- what works ----


def test_train_tells_what_it_does_and_resumes(run, capsys, tmp_path):
    argv = ["train", "pixelcnn", "--data", "digits", "-o", str(run), "--blocks", "1", *TINY]
    refused(capsys, argv, "--resume", "--overwrite")
    before = (run / "metrics.jsonl").read_text()
    assert main([*argv, "--resume"]) == 0
    said = capsys.readouterr().out
    assert "digits valid" in said
    assert "bits/dim" in said
    assert (run / "metrics.jsonl").read_text() == before
    refused(capsys, [*argv, "--resume", "--learning-rate", "7"], "learning_rate")
    refused(capsys, [*argv, "--resume", "--overwrite"], "not both")
    config = json.loads((run / "config.json").read_text())
    assert config["model"]["config"]["image_shape"] == [1, 8, 8]
    assert config["model"]["config"]["levels"] == 17


def test_evaluate(run, capsys):
    assert main(["evaluate", str(run)]) == 0
    said = capsys.readouterr().out
    assert "179 images of digits test (no binarization" in said
    assert "nats per image" in said
    assert "±" in said
    assert main(["evaluate", str(run), "--json", "--limit", "20", "--split", "valid", "--batch-size", "7"]) == 0
    values = json.loads(capsys.readouterr().out)
    assert values["images"] == 20
    assert "20 of 179" in values["data"]
    assert values["nats_per_image"] == pytest.approx(values["bits_per_dim"] * 64 * np.log(2))
    assert values["model"] == "pixelcnn"
    assert values["step"] == 4


def test_sample_is_the_same_by_every_engine_and_in_any_number(run, tmp_path, capsys):
    for name, argv in (("a", ["-n", "5"]), ("b", ["-n", "5", "--engine", "naive"]), ("c", ["-n", "2", "--first", "3"])):
        assert main(["sample", str(run), "-o", str(tmp_path / f"{name}.npz"), "--seed", "3", *argv]) == 0
    a, b, c = (np.load(tmp_path / f"{name}.npz")["images"] for name in "abc")
    assert a.shape == (5, 1, 8, 8)
    assert a.dtype == np.uint8
    assert (a == b).all()
    assert (a[3:] == c).all()
    said = capsys.readouterr().out
    assert "naive engine, 64 forward passes" in said
    assert "per image" in said


def test_sample_pictures(run, tmp_path):
    for name in ("a.png", "a.gif"):
        assert (
            main(["sample", str(run), "-n", "3", "-o", str(tmp_path / name), "--temperature", "0.5", "--top-k", "3"])
            == 0
        )
        with Image.open(tmp_path / name) as picture:
            assert getattr(picture, "n_frames", 1) > (5 if name == "a.gif" else 0)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.gif", "a.png"]


def test_complete_keeps_known_pixels(run, tmp_path):
    whole, out = tmp_path / "whole.npz", tmp_path / "out.npz"
    assert main(["sample", str(run), "-n", "3", "-o", str(whole), "--seed", "9"]) == 0
    images = np.load(whole)["images"]
    mask = np.random.default_rng(0).random((3, 1, 8, 8)) < 0.6
    np.savez(tmp_path / "mask.npz", known=mask)
    argv = ["complete", str(run), "--images", str(whole), "--copies", "2", "-o", str(out)]
    for known in (str(tmp_path / "mask.npz"), "top-half", "left-half"):
        assert main([*argv, "--known", known]) == 0
        result = np.load(out)["images"].reshape(3, 2, 1, 8, 8)
        if known == "top-half":
            mask = np.arange(8)[:, None] < 4
        elif known == "left-half":
            mask = np.arange(8) < 4
        mask = np.broadcast_to(mask, (3, 1, 8, 8))
        for copy in range(2):
            assert (result[:, copy][mask] == images[mask]).all()
        assert (result[:, 0] != result[:, 1]).any()
    for name in ("data.png", "data.gif"):
        assert main(["complete", str(run), "-n", "2", "--copies", "1", "-o", str(tmp_path / name)]) == 0
        Image.open(tmp_path / name).verify()


def test_complete_takes_a_picture(run, tmp_path):
    Image.fromarray(np.full((8, 8), 255, np.uint8)).save(tmp_path / "white.png")
    out = tmp_path / "out.npz"
    argv = ["complete", str(run), "--images", str(tmp_path / "white.png"), "--copies", "1", "-o", str(out)]
    assert main(argv) == 0
    assert (np.load(out)["images"][0, 0, :4] == 16).all()


def test_labels(tmp_path, capsys):
    run = tmp_path / "run"
    argv = [
        "train",
        "gated-pixelcnn",
        "--data",
        "digits",
        "-o",
        str(run),
        "--layers",
        "1",
        "--num-classes",
        "10",
        *TINY,
    ]
    assert main(argv) == 0
    assert main(["evaluate", str(run), "--limit", "5"]) == 0
    out = str(tmp_path / "x.npz")
    assert main(["sample", str(run), "-n", "3", "-o", out, "--label", "3", "7"]) == 0
    assert main(["complete", str(run), "-n", "2", "--copies", "2", "-o", out]) == 0
    refused(capsys, ["sample", run, "-n", 2, "-o", out, "--label", 10], "10")
    refused(capsys, ["complete", run, "--images", out, "-o", out], "--label")
    refused(capsys, [*argv, "--overwrite", "--num-classes", 4], "num_classes")


@pytest.mark.parametrize("variant", ["row", "diagonal"])
def test_pixelrnn(variant, tmp_path, capsys):
    """Trains, resumes, is evaluated, and draws the same images by every engine."""
    run = tmp_path / "run"
    argv = ["train", "pixelrnn", "--variant", variant, "--data", "digits", "-o", str(run), "--layers", "1", *TINY]
    assert main(argv) == 0
    assert main([*argv, "--resume", "--max-steps", "6"]) == 0
    assert json.loads((run / "config.json").read_text())["model"]["config"]["variant"] == variant
    capsys.readouterr()
    assert main(["evaluate", str(run), "--limit", "5", "--json"]) == 0
    values = json.loads(capsys.readouterr().out)
    assert values["model"] == "pixelrnn"
    assert values["step"] == 6
    for engine in ("auto", "naive"):
        out = tmp_path / f"{engine}.npz"
        assert main(["sample", str(run), "-n", "2", "--seed", "3", "--engine", engine, "-o", str(out)]) == 0
    assert (np.load(tmp_path / "auto.npz")["images"] == np.load(tmp_path / "naive.npz")["images"]).all()
    assert main(["complete", str(run), "-n", "1", "--copies", "1", "-o", str(tmp_path / "x.png")]) == 0
    refused(capsys, [*argv[:3], "column", *argv[4:]], "column", "diagonal")


def test_vectors(tmp_path, capsys):
    config = GatedPixelCNNConfig((1, 3, 4), levels=2, hidden=4, layers=1, head=4, first_kernel=3, condition_dim=2)
    save_model(tmp_path / "model", "gated-pixelcnn", GatedPixelCNN(config))
    np.save(tmp_path / "v.npy", np.array([0.5, -1.0]))
    argv = ["sample", str(tmp_path / "model"), "-n", "3", "-o", str(tmp_path / "x.png")]
    assert main([*argv, "--condition", str(tmp_path / "v.npy")]) == 0
    refused(capsys, argv, "--condition")
    np.save(tmp_path / "v.npy", np.ones((3, 5)))
    refused(capsys, [*argv, "--condition", tmp_path / "v.npy"], "[3, 2]")
    np.save(tmp_path / "v.npy", np.array(["a"]))
    refused(capsys, [*argv, "--condition", tmp_path / "v.npy"], "numbers")
    (tmp_path / "v.npy").write_bytes(b"junk")
    refused(capsys, [*argv, "--condition", tmp_path / "v.npy"], "not a .npy file")


def test_demo(tmp_path, capsys):
    assert main(["demo", "-o", str(tmp_path / "demo"), "--epochs", "1"]) == 0
    said = capsys.readouterr().out
    assert "identical images (all 4096 pixels)" in said
    assert "digits test" in said
    Image.open(tmp_path / "demo" / "digits.png").verify()
    assert main(["demo", "-o", str(tmp_path / "demo"), "--epochs", "1"]) == 0  # a second time


def test_info(capsys):
    assert main(["info"]) == 0
    assert "masked_conv2d" in capsys.readouterr().out


# ---- what does not ----


def test_wrong_words(run, capsys, tmp_path):
    out = tmp_path / "run"
    refused(capsys, ["tarin"], "tarin", "train")
    refused(capsys, ["train", "resnet", "--data", "digits", "-o", out], "resnet", "gated-pixelcnn")
    refused(capsys, ["train", "pixelcnn", "--preset", "huge", "--data", "digits", "-o", out], "huge", "cifar10")
    refused(capsys, ["train", "pixelcnn", "--data", "imagenet", "-o", out], "imagenet", "digits")
    refused(capsys, ["train", "pixelcnn", "--data", "digits"], "--out")
    refused(capsys, ["train", "pixelcnn", "--data", "digits", "-o", out, "--hiden", 3], "--hiden", "--hidden")
    refused(capsys, ["train", "pixelcnn", "--data", "digits", "-o", out, "--hidden", "many"], "many")
    refused(capsys, ["train", "pixelcnn", "--data", "digits", "-o", out, "--hidden", 0], "hidden")
    refused(capsys, ["train", "pixelcnn", "--data", "digits", "-o", out, "--batch-size", 0], "batch_size")
    refused(capsys, ["evaluate"], "RUN")
    refused(capsys, ["evaluate", run, "--split", "exam"], "exam")
    refused(capsys, ["evaluate", run, "--batch-size", 0], "--batch-size")
    refused(capsys, ["sample", run, "--engine", "magic", "-o", tmp_path / "x.png"], "magic", "jacobi")
    refused(capsys, ["sample", run, "-n", 0, "-o", tmp_path / "x.png"], "at least 1")
    refused(capsys, ["sample", run, "--temperature", -1, "-o", tmp_path / "x.png"], "temperature")
    refused(capsys, ["sample", run, "--label", 1, "-o", tmp_path / "x.png"], "without labels")
    refused(capsys, ["evaluate", run, "--num-threads", -1], "--num-threads")
    refused(capsys, ["complete", run, "--copies", 0], "--copies")
    refused(capsys, ["complete", run, "--known", "most", "-o", tmp_path / "x.png"], "top-half")
    assert list(tmp_path.iterdir()) == []


def test_a_loss_that_is_not_a_number(capsys, tmp_path):
    argv = ["train", "pixelcnn", "--data", "digits", "-o", tmp_path / "run", "--blocks", 1, *TINY]
    refused(capsys, [*argv, "--learning-rate", 1e30, "--warmup-steps", 0, "--max-steps", 50], "learning rate", "step")
    assert main(["evaluate", str(tmp_path / "run"), "--limit", "2"]) == 0  # the checkpoint from before


def test_missing_truncated_and_foreign_runs(capsys, tmp_path):
    save_model(tmp_path / "m", "pixelcnn", PixelCNN(PixelCNNConfig((1, 3, 4), 2, hidden=2, blocks=0, head=2)))
    path = tmp_path / "m" / "model.safetensors"
    content = path.read_bytes()
    for verb in ("evaluate", "sample", "complete"):
        refused(capsys, [verb, tmp_path / "gone"], "does not exist")
    refused(capsys, ["evaluate", tmp_path / "m"], "--data")
    path.write_bytes(content[:100])
    refused(capsys, ["sample", tmp_path / "m", "-o", tmp_path / "x.png"], "truncated")
    path.write_bytes(content[:-1] + b"\x55")
    refused(capsys, ["sample", tmp_path / "m", "-o", tmp_path / "x.png"], "corrupted")
    state = tmp_path / "m" / "state.json"
    state.write_text(state.read_text().replace('"format": 1', '"format": 2'))
    refused(capsys, ["sample", tmp_path / "m", "-o", tmp_path / "x.png"], "format 2", "release")
    assert not (tmp_path / "x.png").exists()


def test_data_that_does_not_fit(run, capsys, tmp_path):
    np.savez(tmp_path / "wide.npz", images=np.zeros((20, 8, 9), np.uint8), levels=17)
    refused(capsys, ["evaluate", run, "--data", f"npz:{tmp_path / 'wide.npz'}"], "shape", "(1, 8, 9)")
    np.savez(tmp_path / "rgb.npz", images=np.zeros((20, 3, 8, 8), np.uint8), levels=17)
    refused(capsys, ["evaluate", run, "--data", f"npz:{tmp_path / 'rgb.npz'}"], "shape", "(3, 8, 8)")
    np.savez(tmp_path / "deep.npz", images=np.zeros((20, 8, 8), np.uint8))
    refused(capsys, ["evaluate", run, "--data", f"npz:{tmp_path / 'deep.npz'}"], "levels")
    np.savez(tmp_path / "over.npz", images=np.full((20, 8, 8), 17, np.uint8), levels=17)
    refused(capsys, ["evaluate", run, "--data", f"npz:{tmp_path / 'over.npz'}"], "17")
    refused(capsys, ["evaluate", run, "--data", f"npz:{tmp_path / 'gone.npz'}"], "gone.npz")


def test_images_that_do_not_fit(run, capsys, tmp_path):
    argv = ["complete", run, "-o", tmp_path / "x.png", "--images"]
    good = np.zeros((2, 1, 8, 8), np.uint8)
    cases = {
        "shape": dict(images=np.zeros((2, 1, 8, 9), np.uint8)),
        "levels 0 to 16": dict(images=good + 17),
        "from -1": dict(images=good.astype(int) - 1),
        "integer levels": dict(images=good.astype(float)),
        "no array named images": dict(pictures=good),
        "plain arrays": dict(images=np.array([{}])),
        "(0 of them)": dict(images=good[:0]),
    }
    for words, arrays in cases.items():
        np.savez(tmp_path / "in.npz", **arrays)
        refused(capsys, [*argv, tmp_path / "in.npz"], words)
    (tmp_path / "in.npz").write_bytes((tmp_path / "in.npz").read_bytes()[:60])
    refused(capsys, [*argv, tmp_path / "in.npz"], "truncated")
    refused(capsys, [*argv, tmp_path / "gone.npz"], "gone.npz", "No such file")
    refused(capsys, [*argv, tmp_path / "gone.png"], "gone.png", "No such file")
    (tmp_path / "in.png").write_bytes(b"not a picture")
    refused(capsys, [*argv, tmp_path / "in.png"], "not a picture")
    noise = np.random.default_rng(0).integers(0, 256, (64, 64), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "in.png")
    refused(capsys, [*argv, tmp_path / "in.png"], "(1, 64, 64)")
    (tmp_path / "in.png").write_bytes((tmp_path / "in.png").read_bytes()[:800])
    refused(capsys, [*argv, tmp_path / "in.png"], "truncated")
    np.savez(tmp_path / "in.npz", images=good)
    for known, words in ((np.ones((8, 9), bool), "shape"), (np.ones((8, 8)), "booleans")):
        np.savez(tmp_path / "mask.npz", known=known)
        refused(capsys, [*argv, tmp_path / "in.npz", "--known", tmp_path / "mask.npz"], words)
    refused(capsys, [*argv, tmp_path / "in.npz", "--data", "digits"], "not both")
    assert not (tmp_path / "x.png").exists()


def test_outputs_that_cannot_be_written(run, capsys, tmp_path):
    (tmp_path / "file").write_text("x")
    for out in (tmp_path / "x.jpg", tmp_path / "x", tmp_path, tmp_path / "gone" / "x.png", tmp_path / "file" / "x.png"):
        refused(capsys, ["sample", run, "-n", 1, "-o", out])
    refused(capsys, ["train", "pixelcnn", "--data", "digits", "-o", tmp_path / "file" / "run", *TINY], "file")
    refused(capsys, ["train", "pixelcnn", "--data", "digits", "-o", tmp_path, *TINY], "not a run")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_picture_cannot_have_two_channels(capsys, tmp_path):
    save_model(tmp_path / "m", "pixelcnn", PixelCNN(PixelCNNConfig((2, 3, 4), 2, hidden=2, blocks=0, head=2)))
    refused(capsys, ["sample", tmp_path / "m", "-o", tmp_path / "x.png"], "2", ".npz")
    assert main(["sample", str(tmp_path / "m"), "-n", "2", "-o", str(tmp_path / "x.npz")]) == 0


def test_interrupting(monkeypatch, capsys):
    def interrupt(argv):
        raise KeyboardInterrupt

    monkeypatch.setattr("genfast.cli.info.main", interrupt)
    assert main(["info"]) == 130
    assert capsys.readouterr().err.strip() == "Interrupted."
    monkeypatch.setattr("genfast.training.train", lambda *args, **kwargs: interrupt(args))
    assert main(["train", "pixelcnn", "--data", "digits", "-o", "nowhere"]) == 130
    assert "--resume" in capsys.readouterr().err


def test_traceback_on_request(monkeypatch):
    monkeypatch.setenv("GENFAST_TRACEBACK", "1")
    with pytest.raises(ValueError, match="tarin"):
        main(["tarin"])


@pytest.mark.slow
def test_the_process_itself(tmp_path):
    """Exit code, an empty stdout and one line on stderr, for real."""
    command = [sys.executable, "-m", "genfast.cli", "evaluate", str(tmp_path / "gone")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env={**os.environ, "COLUMNS": "40"})
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert checkpoint.FORMAT == 1
