import json
import os

import pytest
import torch

from genfast.errors import GenfastError
from genfast.models import PixelCNN, PixelCNNConfig, build_model
from genfast.training import checkpoint, load_model, save_model, train
from genfast.training.checkpoint import find_checkpoint, write_checkpoint
from tests.training.conftest import MODEL, QUICK, toy_images


@pytest.fixture
def run(tmp_path):
    """A finished run with a checkpoint of step 2."""
    from dataclasses import replace

    train("pixelcnn", MODEL, toy_images(16), replace(QUICK, max_steps=2), tmp_path / "run")
    return tmp_path / "run"


def refused(path, match):
    with pytest.raises(GenfastError, match=match) as caught:
        load_model(path)
    assert "\n" not in str(caught.value)


def test_averaged_and_last_weights_come_back(run):
    averaged, last = load_model(run), load_model(run, "last")
    assert isinstance(averaged, PixelCNN)
    assert averaged.config == MODEL
    assert not averaged.training
    assert not torch.equal(averaged.first.weight, last.first.weight)
    same = load_model(find_checkpoint(run))  # by the checkpoint's own path
    assert all(torch.equal(a, b) for a, b in zip(averaged.parameters(), same.parameters(), strict=True))
    with pytest.raises(GenfastError, match="ema or last"):
        load_model(run, "best")


def test_nothing_is_pickled(run):
    kinds = {path.suffix for path in run.rglob("*") if path.is_file()}
    assert kinds <= {".json", ".jsonl", ".safetensors", ".png", ""}


def test_missing_things(run, tmp_path):
    refused(tmp_path / "nowhere", "does not exist")
    (tmp_path / "empty").mkdir()
    refused(tmp_path / "empty", "neither a run folder")
    refused(run / "metrics.jsonl", "neither a run folder")
    folder = find_checkpoint(run)
    (folder / "ema.safetensors").unlink()
    refused(run, "missing")
    (run / "checkpoints" / "latest").unlink()
    refused(run, "no checkpoint yet")


@pytest.mark.parametrize("name", ["../../..", "step-00000099", "", "state", "\x00\xff"])
def test_a_bad_marker(run, name):
    (run / "checkpoints" / "latest").write_text(name)
    refused(run, "corrupted")


def test_truncated_and_corrupted_weights(run):
    path = find_checkpoint(run) / "ema.safetensors"
    content = path.read_bytes()
    path.write_bytes(content[:-5])
    refused(run, "truncated")
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    refused(run, "checksum")
    path.write_bytes(b"")
    refused(run, "truncated")


@pytest.mark.parametrize("name", ["state.json", "config.json"])
def test_broken_json(run, name):
    path = find_checkpoint(run) / name
    text = path.read_text()
    for broken in (text[: len(text) // 2], "[]", "", "\x00"):
        path.write_text(broken)
        refused(run, "truncated or corrupted|not a JSON object")
    path.unlink()
    with pytest.raises(GenfastError):
        load_model(find_checkpoint(run))


def edit(path, change):
    values = json.loads(path.read_text())
    change(values)
    path.write_text(json.dumps(values))


def test_another_format_names_the_release(run):
    folder = find_checkpoint(run)
    edit(folder / "state.json", lambda v: v.update(format=99, genfast="9.8"))
    refused(run, "format 99, written by genfast 9.8")
    edit(folder / "state.json", lambda v: v.update(format=1))
    edit(folder / "config.json", lambda v: v.update(format=0))
    refused(run, "format 0")


def test_config_of_another_model(run):
    config = find_checkpoint(run) / "config.json"
    edit(config, lambda v: v["model"]["config"].update(hidden=6))
    refused(run, "of shape")
    edit(config, lambda v: v["model"]["config"].update(hidden=4, blocks=2))
    refused(run, "lacks the tensor")
    edit(config, lambda v: v["model"]["config"].update(blocks=0))
    refused(run, "unexpected tensor")
    edit(config, lambda v: v["model"].update(name="resnet"))
    refused(run, "resnet")
    edit(config, lambda v: v.pop("model"))
    refused(run, "does not describe a model")


def test_state_that_does_not_list_the_file(run):
    edit(find_checkpoint(run) / "state.json", lambda v: v["files"].pop("model.safetensors"))
    with pytest.raises(GenfastError, match="does not describe"):
        load_model(run, "last")


def tensors(value):
    return {"model": {"w": torch.full((3,), value)}}


def test_only_the_newest_two_stay_and_leftovers_of_killed_processes_go(tmp_path):
    (tmp_path / "checkpoints" / ".new-step-00000007-abc").mkdir(parents=True)
    for step in (5, 10, 100):
        write_checkpoint(tmp_path, step, {}, tensors(step), {})
    assert sorted(os.listdir(tmp_path / "checkpoints")) == ["latest", "step-00000010", "step-00000100"]
    assert find_checkpoint(tmp_path).name == "step-00000100"


@pytest.mark.parametrize("moment", ["rename", "replace"])
def test_dying_while_writing_leaves_the_checkpoint_before(tmp_path, monkeypatch, moment):
    """Whether the new folder has its name or not, ``latest`` still points at one that is complete."""
    write_checkpoint(tmp_path, 1, {}, tensors(1), {})

    def die(source, target):
        if moment == "rename" or target.name == "latest":
            raise KeyboardInterrupt
        real(source, target)

    real = getattr(os, moment)
    monkeypatch.setattr(checkpoint.os, moment, die)
    with pytest.raises(KeyboardInterrupt):
        write_checkpoint(tmp_path, 2, {}, tensors(2), {})
    monkeypatch.undo()
    folder = find_checkpoint(tmp_path)
    assert folder.name == "step-00000001"
    assert checkpoint.read_tensors(folder, "model", checkpoint.read_state(folder))["w"].tolist() == [1, 1, 1]
    write_checkpoint(tmp_path, 2, {}, tensors(2), {})  # the same step again, as after a resume
    assert find_checkpoint(tmp_path).name == "step-00000002"


def test_save_model_of_a_script(tmp_path):
    model = build_model("pixelcnn", PixelCNNConfig((3, 2, 3), levels=2, hidden=3, blocks=0, head=3))
    save_model(tmp_path / "mine", "pixelcnn", model)
    images = torch.randint(2, (4, 3, 2, 3))
    assert torch.equal(load_model(tmp_path / "mine").log_prob(images), model.log_prob(images))
    with torch.no_grad():
        model.first.weight.mul_(2)
    save_model(tmp_path / "mine", "pixelcnn", model)  # again
    assert torch.equal(load_model(tmp_path / "mine").log_prob(images), model.log_prob(images))
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.txt").write_text("precious")
    with pytest.raises(GenfastError, match="not a checkpoint"):
        save_model(tmp_path / "other", "pixelcnn", model)
    assert (tmp_path / "other" / "thesis.txt").read_text() == "precious"
