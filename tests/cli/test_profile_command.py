"""genfast profile end to end, with ceilings measured for a moment only; and what it refuses."""

import json

import pytest
import torch

from genfast.cli.main import main
from genfast.models import PixelCNN, PixelCNNConfig
from genfast.profiling import ceilings
from genfast.training import save_model


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    before, whole = torch.get_num_threads(), ceilings.best_seconds
    monkeypatch.setattr(ceilings, "best_seconds", lambda function, *_: whole(function, 0, 1))
    yield
    torch.set_num_threads(before)
    torch.set_flush_denormal(False)


@pytest.fixture
def saved(tmp_path):
    model = PixelCNN(PixelCNNConfig((1, 4, 5), levels=3, hidden=2, blocks=1, head=3, first_kernel=3))
    save_model(tmp_path / "model", "pixelcnn", model)
    return tmp_path / "model"


@pytest.mark.parametrize("what", ["sample", "train", "evaluate", "masked_conv2d"])
def test_a_model_from_a_folder(what, saved, tmp_path, capsys) -> None:
    out = tmp_path / "out"
    argv = ["profile", str(saved), "--what", what, "-n", "2", "-o", str(out), "--num-threads", "1", "--device", "cpu"]
    assert main(argv) == 0
    said = capsys.readouterr().out
    assert f"{saved}: {what}" in said
    assert "What bounds it" in said
    written = json.loads((out / "profile.json").read_text())
    assert written["images"] == 2
    assert (out / "trace.json").exists() == (written["row_kind"] == "operator")


def test_a_preset_with_an_engine_that_has_no_clocks(tmp_path, capsys) -> None:
    argv = ["profile", "vae", "-n", "2", "-o", str(tmp_path / "out"), "--rows", "2", "--num-threads", "1"]
    assert main(argv) == 0
    said = capsys.readouterr().out
    assert "vae:digits: sample" in said
    assert "The latent engine drew" in said


@pytest.mark.parametrize(
    ("argv", "word"),
    [
        (["nowhere"], "no run folder nowhere"),
        (["pixelcnn:huge"], "no preset 'huge'"),
        (["pixelcnn", "-n", "-1"], "-n must be"),
        (["pixelcnn", "--rows", "0"], "--rows at least 1"),
        (["pixelcnn", "--num-threads", "-2"], "--num-threads"),
        (["pixelcnn", "--engine", "warp"], "Unknown engine"),
        (["pixelcnn", "--what", "train", "--engine", "cpu"], "leave them out for train"),
        (["autoencoder"], "nothing to draw"),
        (["gan", "--what", "evaluate"], "no score"),
        (["pixelcnn", "-n", "2", "--what", "nonsense"], "No operator with 'nonsense'"),
        (["pixelcnn", "-o", "FILE"], "is a file"),
        (["pixelcnn", "-o", "FILE/below"], "is a file"),
        ([], "RUN|MODEL"),
    ],
)
def test_bad_input_is_one_sentence(argv, word, tmp_path, capsys, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "FILE").write_text("")
    assert main(["profile", *argv, "--device", "cpu"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("genfast profile: ")
    assert said.count("\n") == 1
    assert word in said
    assert not (tmp_path / "profile").exists()
