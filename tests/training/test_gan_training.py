"""A GAN through the loop that trains every model: two players, two optimizers, and no waiting."""

import math
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils._python_dispatch import TorchDispatchMode

from genfast.errors import GenfastError
from genfast.models import GAN, GANConfig, build_model
from genfast.models.gan_objectives import generator_loss
from genfast.sampling import LatentSampler
from genfast.training import evaluate, load_model, train
from genfast.training.learner import Learner
from genfast.training.saturation import draw_saturation, fake_logits, generator_gradient
from genfast.training.window import Window
from tests.training.conftest import QUICK, power_cut, toy_images
from tests.training.test_loop import assert_same_run, metrics, weights

DCGAN = GANConfig((1, 4, 5), levels=4, latent=3, channels=4)
SNGAN = replace(DCGAN, network="sngan", objective="hinge", num_classes=3)
CRITIC = replace(DCGAN, objective="wasserstein", discriminator_steps=3)
ALL = {"dcgan": DCGAN, "sngan": SNGAN, "critic": CRITIC}


@pytest.mark.parametrize("name", ALL)
def test_resuming_continues_the_same_curve(name, tmp_path):
    """Stopped in the middle of an epoch, of a logging window and of the critic's steps; bit for bit the whole run."""
    data, held_out = toy_images(40), toy_images(5, "valid")
    config = replace(QUICK, epochs=2, checkpoint_every_steps=4, log_every=3, eval_every=0, beta1=0.5)

    def run(folder, resume=False):
        return train("gan", ALL[name], data, config, tmp_path / folder, resume, held_out=held_out)

    whole = run("whole")
    with power_cut(after=7):
        run("cut")
    resumed = run("cut", resume=True)
    assert_same_run(tmp_path / "whole", tmp_path / "cut")
    assert resumed.held_out is None
    assert whole.held_out is None
    moments = weights(tmp_path / "cut")["optimizer.safetensors"]
    learning = {key.rpartition("/")[0] for key in moments}
    assert learning == {parameter for parameter, _ in whole.model.named_parameters()}


def test_the_run_folder_tells(tmp_path):
    config = replace(QUICK, epochs=4, log_every=5, sample_images=6, sample_every=2, eval_every=0, learning_rate=2e-3)
    train("gan", DCGAN, toy_images(40), config, tmp_path / "run", held_out=toy_images(5, "valid"))
    logged = metrics(tmp_path / "run")
    assert [line["step"] for line in logged] == [5, 10, 15, 20]
    for line in logged:
        assert 0 < line["train_real"] < 1
        assert 0 < line["train_fake"] < 1
        assert line["discriminator_gradient_norm"] > 0
        assert line["generator_gradient_norm"] > 0
        assert {"train_discriminator_loss", "train_generator_loss"} <= line.keys()
        assert not any("held_out" in key or "bits" in key for key in line)
    for picture in ("curve.png", "samples-0002.png", "samples-0004.png"):
        Image.open(tmp_path / "run" / picture).verify()


def test_a_gan_learns(tmp_path):
    """All images are the same stripes, and soon so are all that are drawn."""
    data = replace(toy_images(1), images=toy_images(1).images.repeat(32, 0), labels=None)
    model = GANConfig((1, 4, 5), levels=4, latent=3, network="mlp", hidden=16, hidden_layers=1)
    config = replace(QUICK, max_steps=150, batch_size=16, learning_rate=5e-3, beta1=0.5, log_every=50, eval_every=0)
    result = train("gan", model, data, config, tmp_path / "run")
    torch.manual_seed(config.seed)
    start = build_model("gan", model)
    before, after = (
        (LatentSampler(m).sample(50).double() - torch.from_numpy(data.images[:1])).abs().mean()
        for m in (start, result.model)
    )
    assert before > 0.9
    assert after < 0.3


def test_the_averaged_generator_is_the_one_that_is_loaded(tmp_path):
    train("gan", DCGAN, toy_images(40), replace(QUICK, max_steps=6, ema=0.99), tmp_path / "run")
    averaged, last = load_model(tmp_path / "run"), load_model(tmp_path / "run", "last")
    z = torch.randn(3, 3)
    assert not torch.equal(averaged.decode(z), last.decode(z))
    sampler = LatentSampler(averaged)
    assert torch.equal(sampler.sample(5, seed=2)[3:], sampler.sample(2, seed=2, first=3))


def test_the_average_follows_the_generator(tmp_path, monkeypatch):
    """average = d * average + (1 - d) * weights, d = (1 + t) / (10 + t) in the first steps."""
    seen = []
    real = Learner.advance

    def spy(self):
        value = real(self)
        seen.append([p.detach().clone() for p in self.model.generator.parameters()])
        return value

    monkeypatch.setattr(Learner, "advance", spy)
    torch.manual_seed(QUICK.seed)
    expected = [p.detach().clone() for p in build_model("gan", DCGAN).generator.parameters()]
    result = train("gan", DCGAN, toy_images(40), replace(QUICK, max_steps=5, ema=0.999), tmp_path / "run")
    for t, latest in enumerate(seen, 1):
        decay = (1 + t) / (10 + t)
        expected = [decay * a + (1 - decay) * b for a, b in zip(expected, latest, strict=True)]
    for a, b in zip(expected, result.model.generator.parameters(), strict=True):
        torch.testing.assert_close(a, b)


def test_the_generator_learns_in_every_so_many_th_step(tmp_path):
    for steps, changed in ((2, False), (3, True)):
        config = replace(QUICK, max_steps=steps, ema=0.0, warmup_steps=0)
        result = train("gan", CRITIC, toy_images(40), config, tmp_path / str(steps))
        torch.manual_seed(config.seed)
        start = build_model("gan", CRITIC)
        for part, moved in (("discriminator", True), ("generator", changed)):
            pairs = zip(
                start.get_submodule(part).parameters(), result.model.get_submodule(part).parameters(), strict=True
            )
            assert any(not torch.equal(a, b) for a, b in pairs) == moved
    line = metrics(tmp_path / "3")[-1]
    assert {"train_gradient_penalty", "train_generator_loss", "generator_gradient_norm"} <= line.keys()


class Waits(TorchDispatchMode):
    """Counts what makes a GPU wait: a number fetched from a tensor. On a CPU the same operators run."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func is torch.ops.aten._local_scalar_dense.default and args[0].ndim == 0:
            self.counts["item"] += 1
        if func in (torch.ops.aten.nonzero.default, torch.ops.aten.masked_select.default):
            self.counts["nonzero"] += 1
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("config", [DCGAN, replace(SNGAN, num_classes=None), CRITIC], ids=["dcgan", "sngan", "critic"])
def test_a_step_waits_for_nothing(config, tmp_path, monkeypatch):
    """One transfer in a window of steps, by Window.read, and none in a step."""
    from torch.optim.adam import Adam

    waits, transfers = Waits(), 0
    step, fetch, update = Learner.advance, torch.Tensor.tolist, Adam.step

    def watched(self):
        with waits:
            return step(self)

    def counted(self):
        nonlocal transfers
        transfers += self.is_floating_point()
        return fetch(self)

    def unwatched(self, *args, **kwargs):  # its own step counts are kept on the CPU, wherever the weights are
        before = waits.counts.copy()
        result = update(self, *args, **kwargs)
        waits.counts = before
        return result

    monkeypatch.setattr(Learner, "advance", watched)
    monkeypatch.setattr(torch.Tensor, "tolist", counted)
    monkeypatch.setattr(Adam, "step", unwatched)
    training = replace(QUICK, max_steps=12, log_every=6, eval_every=0, checkpoint_every_seconds=0)
    train("gan", config, toy_images(40), training, tmp_path / "run")
    assert waits.counts == Counter()
    assert transfers == 2
    with waits:
        torch.ones(3).sum().item()
    assert waits.counts["item"] == 1  # the counter counts


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_step_waits_for_nothing_on_a_gpu(tmp_path, monkeypatch):
    step = Learner.advance

    def strict(self):
        torch.cuda.set_sync_debug_mode("error")
        try:
            return step(self)
        finally:
            torch.cuda.set_sync_debug_mode("default")

    monkeypatch.setattr(Learner, "advance", strict)
    for name, config in ALL.items():
        train("gan", config, toy_images(40), replace(QUICK, device="auto", max_steps=4), tmp_path / name)


def test_a_player_that_diverges_is_named(tmp_path):
    config = replace(QUICK, learning_rate=1e30, warmup_steps=0, grad_clip=0.0, checkpoint_every_steps=2)
    with pytest.raises(GenfastError, match=r"of the (discriminator|generator) was not a finite number at step 2") as e:
        train("gan", CRITIC, toy_images(40), config, tmp_path / "run")
    assert "\n" not in str(e.value)
    kept = load_model(tmp_path / "run", "last")
    assert all(p.isfinite().all() for p in kept.parameters())


def test_labels_must_fit(tmp_path):
    with pytest.raises(GenfastError, match="labels"):
        train("gan", SNGAN, toy_images(9, labels=False), QUICK, tmp_path / "run")
    negative = replace(toy_images(9), labels=np.full(9, -1))
    with pytest.raises(GenfastError, match="label -1"):
        train("gan", SNGAN, negative, QUICK, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_held_out_images_do_not_score_a_gan():
    for samples in (1, 5):
        with pytest.raises(GenfastError, match="has no density"):
            evaluate(build_model("gan", DCGAN), toy_images(3), samples=samples)


# ---- the window ----


def test_a_window_reads_in_one_transfer_and_names_the_first_bad_step():
    window = Window()
    window.add("generator", 1, 4, ["loss"], torch.tensor([8.0, 0.5, 8.0]))
    window.add("", 2, 4, ["loss", "kl"], torch.tensor([4.0, 0.7, 4.0, 2.0]))
    window.read()
    assert window.loss == 1
    assert window.state()["images"] == {"loss": 8, "kl": 4}
    again = Window()
    again.restore(window.state())
    means, norms = window.close()
    assert means == {"loss": 1.5, "kl": 0.5}
    assert norms == {"generator": 0.5, "": pytest.approx(0.7)}
    assert again.close() == (means, norms)
    assert window.close() == ({}, {})
    for numbers, what in (([math.nan, 1.0], "The loss of the critic"), ([1.0, math.inf], "The gradient of the critic")):
        window.add("", 6, 4, [], torch.tensor([1.0, 1.0]))
        window.add("critic", 7, 4, [], torch.tensor(numbers))
        window.add("critic", 8, 4, [], torch.tensor([math.nan, math.nan]))
        with pytest.raises(GenfastError, match=f"{what} was not a finite number at step 7"):
            window.read()
    window.add("", 9, 4, [], torch.tensor([1.0, math.inf]))
    window.read(overflow=True)
    assert window.close()[1] == {"": None}


# ---- saturation ----


def test_the_saturation_plot(tmp_path):
    model: GAN = build_model("gan", SNGAN).eval()  # type: ignore[assignment]
    labels = torch.arange(50) % 3
    logits = fake_logits(model, 50, seed=1, labels=labels)
    images = LatentSampler(model).expected(50, 1, condition=labels) / 1.5 - 1
    np.testing.assert_allclose(logits, model.judge(images, labels).detach(), rtol=1e-4, atol=1e-5)
    at = torch.linspace(-3, 3, 7, dtype=torch.float64)
    step = 1e-6
    for objective in ("minimax", "non_saturating", "hinge"):
        numeric = (generator_loss(objective, at + step) - generator_loss(objective, at - step)) / (2 * step)
        torch.testing.assert_close(generator_gradient(objective, at), numeric)
    draw_saturation(tmp_path / "saturation.png", logits)
    Image.open(tmp_path / "saturation.png").verify()
