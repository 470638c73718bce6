import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from genfast.data import ImageSet
from genfast.errors import GenfastError
from genfast.models import PixelCNNPP, PixelCNNPPConfig, build_model
from genfast.training import DataConfig, evaluate, load_model, train
from genfast.training.checkpoint import find_checkpoint
from tests.training.conftest import CONDITIONAL, MODEL, QUICK, power_cut, toy_images


def metrics(run):
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if key != "seconds"} for line in lines]


def weights(run):
    folder = find_checkpoint(run)
    return {path.name: load_file(path) for path in folder.glob("*.safetensors")}


def assert_same_run(a, b):
    assert metrics(a) == metrics(b)
    ours, theirs = weights(a), weights(b)
    assert ours.keys() == theirs.keys() == {"model.safetensors", "ema.safetensors", "optimizer.safetensors"}
    for name in ours:
        assert ours[name].keys() == theirs[name].keys()
        assert all(torch.equal(ours[name][key], theirs[name][key]) for key in ours[name]), name


def test_training_learns_and_the_run_folder_tells(tmp_path):
    data, held_out = toy_images(40), toy_images(12, "valid")
    lines: list[str] = []
    config = replace(QUICK, epochs=12, eval_every=2, learning_rate=0.03, sample_images=3)
    result = train(
        "pixelcnn", MODEL, data, config, tmp_path / "run", held_out=held_out, source=DataConfig("digits"),
        report=lines.append,
    )  # fmt: skip
    assert result.step == 60
    before = evaluate(build_model("pixelcnn", MODEL), held_out).nats
    assert result.held_out.nats < 0.7 * before
    assert evaluate(load_model(tmp_path / "run"), held_out).nats == pytest.approx(result.held_out.nats, rel=1e-6)
    assert len(lines) == 6
    assert "bits/dim" in lines[-1]
    logged = metrics(tmp_path / "run")
    assert [line["step"] for line in logged if "train_nats" in line] == list(range(2, 61, 2))
    last = [line for line in logged if "held_out" in line][-1]
    assert last["held_out"] == held_out.title
    assert last["held_out_nats"] == result.held_out.nats
    assert last["held_out_bits_per_dim"] == pytest.approx(result.held_out.nats / (20 * math.log(2)))
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert config["data"]["name"] == "digits"
    assert "binarization" in config["data"]["title"]
    for name in ("curve.png", "samples-0012.png"):
        Image.open(tmp_path / "run" / name).verify()


def test_the_logged_loss_is_the_mean_over_its_window(tmp_path):
    config = replace(QUICK, learning_rate=0.0, epochs=1, log_every=5, ema=0.0)
    train("pixelcnn", MODEL, toy_images(40), config, tmp_path / "run")
    assert metrics(tmp_path / "run")[0]["train_nats"] == pytest.approx(
        evaluate(load_model(tmp_path / "run"), toy_images(40)).nats, rel=1e-6
    )


@pytest.mark.parametrize("stop", [1, 7])
def test_resuming_continues_the_same_curve(tmp_path, stop):
    """Stopped in the middle of an epoch and of a logging window; bit for bit the run that was never stopped."""
    data, held_out = toy_images(40), toy_images(5, "valid")
    config = replace(QUICK, checkpoint_every_steps=3, log_every=4)

    def run(name, resume=False):
        return train("pixelcnn", MODEL, data, config, tmp_path / name, resume, held_out=held_out)

    whole = run("whole")
    with power_cut(after=stop):
        run("cut")
    resumed = run("cut", resume=True)
    assert_same_run(tmp_path / "whole", tmp_path / "cut")
    assert resumed.held_out == whole.held_out
    again = run("cut", resume=True)  # finished already: nothing to do, and nothing changes
    assert again.held_out == whole.held_out
    assert_same_run(tmp_path / "whole", tmp_path / "cut")


def test_a_model_looks_at_the_first_images_before_its_first_step(tmp_path):
    """A new run initialises the weights, and their average, by data; a resumed one goes on with what it had."""
    data, config = toy_images(40), replace(QUICK, epochs=1, checkpoint_every_steps=1)
    model = PixelCNNPPConfig((1, 4, 5), levels=4, filters=4, resnets=1, scales=2, components=2, dropout=0.5)
    looked = []

    def run(name, resume=False):
        real = PixelCNNPP.initialize
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(PixelCNNPP, "initialize", lambda *args: (looked.append(len(args[1])), real(*args)))
            return train("pixelcnn-pp", model, data, config, tmp_path / name, resume)

    whole = run("whole")
    with power_cut(after=3):
        run("cut")
    assert looked == [8, 8]
    resumed = run("cut", resume=True)
    assert looked == [8, 8]
    assert resumed.step == whole.step
    assert_same_run(tmp_path / "whole", tmp_path / "cut")


def test_a_run_may_be_made_longer(tmp_path):
    config = replace(QUICK, epochs=1)
    train("pixelcnn", MODEL, toy_images(40), config, tmp_path / "run")
    longer = train("pixelcnn", MODEL, toy_images(40), replace(config, epochs=2), tmp_path / "run", resume=True)
    assert longer.step == 10
    with pytest.raises(GenfastError, match="learning_rate"):
        train("pixelcnn", MODEL, toy_images(40), replace(config, learning_rate=9.0), tmp_path / "run", resume=True)


def test_same_seed_same_run_and_another_seed_another(tmp_path):
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        train("pixelcnn", MODEL, toy_images(40), replace(QUICK, epochs=1, seed=seed), tmp_path / name)
    assert metrics(tmp_path / "a") == metrics(tmp_path / "b")
    assert metrics(tmp_path / "a") != metrics(tmp_path / "c")


def test_dynamic_binarization_is_drawn_afresh_in_every_epoch(tmp_path):
    gray = np.random.default_rng(0).integers(0, 256, (8, 1, 4, 5), dtype=np.uint8)
    data = ImageSet("toy", "train", gray, 2, binarization="dynamic", gray_levels=256)
    model = replace(MODEL, levels=2)
    config = replace(QUICK, learning_rate=0.0, log_every=1, ema=0.0)
    train("pixelcnn", model, data, config, tmp_path / "run")
    assert len({line["train_nats"] for line in metrics(tmp_path / "run")}) == 3


def test_labels_reach_the_model(tmp_path):
    """The first pixel is the start of the stripes, and the label nearly tells it: unconditional models cannot know."""
    config = replace(QUICK, epochs=12, learning_rate=0.05, eval_every=0, sample_images=2)
    result = train("gated-pixelcnn", CONDITIONAL, toy_images(40), config, tmp_path / "run", held_out=toy_images(12))
    model = result.model
    label = torch.tensor([1])
    params = model(torch.zeros(1, 1, 4, 5, dtype=torch.uint8), label)[0, :, 0, 0, 0]
    assert params.argmax() == 1
    with pytest.raises(GenfastError, match="labels"):
        train("gated-pixelcnn", CONDITIONAL, toy_images(9, labels=False), QUICK, tmp_path / "unlabelled")
    assert not (tmp_path / "unlabelled").exists()


def test_a_loss_that_is_not_a_number_stops_and_keeps_the_checkpoint(tmp_path):
    config = replace(QUICK, learning_rate=1e30, warmup_steps=0, grad_clip=0.0, checkpoint_every_steps=1)
    with pytest.raises(GenfastError, match=r"not a finite number at step \d+: lower the learning rate") as caught:
        train("pixelcnn", MODEL, toy_images(40), config, tmp_path / "run")
    assert "\n" not in str(caught.value)
    kept = load_model(tmp_path / "run", "last")
    assert all(torch.isfinite(p).all() for p in kept.parameters())


def test_gradient_clipping_bounds_the_step(tmp_path):
    """Adam forgets the scale of the gradient, so look at its first moment: 0.1 times the clipped gradient."""
    for clip in (0.0, 1e-3):
        config = replace(QUICK, max_steps=1, grad_clip=clip)
        train("pixelcnn", MODEL, toy_images(8), config, tmp_path / str(clip))
    norms = {}
    for clip in (0.0, 1e-3):
        moments = weights(tmp_path / str(clip))["optimizer.safetensors"]
        norms[clip] = math.sqrt(
            sum(float((v * 10).square().sum()) for k, v in moments.items() if k.endswith("/exp_avg"))
        )
        assert metrics(tmp_path / str(clip))[0]["gradient_norm"] == pytest.approx(norms[0.0], rel=1e-4)
    assert norms[0.0] > 0.01
    assert norms[1e-3] == pytest.approx(1e-3, rel=1e-3)


def test_adamw_without_average(tmp_path):
    config = replace(QUICK, epochs=1, optimizer="adamw", weight_decay=0.1, ema=0.0, decay="constant")
    result = train("pixelcnn", MODEL, toy_images(40), config, tmp_path / "run")
    assert set(weights(tmp_path / "run")) == {"model.safetensors", "optimizer.safetensors"}
    loaded = load_model(tmp_path / "run")  # the average of decay 0 is the last weights
    assert all(torch.equal(a, b) for a, b in zip(loaded.parameters(), result.model.parameters(), strict=True))


def test_fewer_images_than_a_batch_and_one_image(tmp_path):
    assert train("pixelcnn", MODEL, toy_images(3), replace(QUICK, epochs=2), tmp_path / "three").step == 2
    assert train("pixelcnn", MODEL, toy_images(1), replace(QUICK, epochs=2), tmp_path / "one").step == 2


def test_tensorboard(tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    config = replace(QUICK, epochs=1, tensorboard=True)
    train("pixelcnn", MODEL, toy_images(40), config, tmp_path / "run", held_out=toy_images(3, "valid"))
    events = EventAccumulator(str(tmp_path / "run" / "tensorboard")).Reload()
    assert [event.step for event in events.Scalars("train_nats")] == [2, 4, 5]
    assert [event.step for event in events.Scalars("held_out_nats")] == [5]


def test_what_needs_a_gpu_says_so(tmp_path):
    with pytest.raises(GenfastError, match="needs a GPU"):
        train("pixelcnn", MODEL, toy_images(8), replace(QUICK, amp="fp16"), tmp_path / "run")
    assert not (tmp_path / "run").exists()
