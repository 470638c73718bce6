"""Feature spaces, and what a whole comparison says about images whose quality is known."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from genfast.data import ImageSet, load
from genfast.errors import GenfastError
from genfast.models import Autoencoder, AutoencoderConfig, Classifier, ClassifierConfig
from genfast.quality import ClassifierSpace, InceptionSpace, assess, noise_like
from genfast.quality.assess import encoder_of, halves
from tests.quality.inception import Asked, Broken, Pooled, Short, scripted

pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")


@pytest.fixture(scope="module")
def digits() -> ImageSet:
    return load("digits", "train")


def space(network: str = "conv") -> ClassifierSpace:
    torch.manual_seed(0)
    config = ClassifierConfig((1, 8, 8), 17, network, latent=5, hidden=6, hidden_layers=2, channels=3)
    return ClassifierSpace(Classifier(config).eval(), "runs/x")


# ---- the classifier's ----


def test_the_features_are_every_map_averaged(digits):
    few = digits.subset(7)
    classifier = space().classifier
    x, wanted = classifier.scale(few.batch(range(7))), []
    with torch.no_grad():
        for convolution in [layer for layer in classifier.encoder if isinstance(layer, torch.nn.Conv2d)]:
            x = convolution(x).relu()
            wanted.append(x.mean((2, 3)))
    wanted = torch.cat(wanted, 1).numpy()
    assert wanted.shape == (7, 3 + 6 + 12 + 24)
    np.testing.assert_allclose(space().features(few), wanted, rtol=1e-5, atol=1e-7)
    assert space().title == "the 45 feature maps of runs/x"
    assert space("mlp").features(few).shape == (7, 12)
    assert "12" in space("mlp").title


def test_classes_and_accuracy(digits):
    few = digits.subset(30)
    found = space().classes(few)
    with torch.no_grad():
        assert (found == space().classifier(few.batch(range(30))).argmax(1).numpy()).all()
    assert space().accuracy(replace(few, labels=found)) == 1
    assert space().accuracy(replace(few, labels=(found + 1) % 10)) == 0
    assert space().accuracy(replace(few, labels=None)) is None


def test_features_are_standardised_by_the_real_images(digits):
    encode = encoder_of(space(), digits)
    found = encode(digits)
    assert found.dtype == np.float64
    np.testing.assert_allclose(found.mean(0), 0, atol=1e-5)
    raw = space().features(digits).astype(float)
    varies = raw.std(0) > 0.01 * np.sqrt((raw.std(0) ** 2).mean())
    np.testing.assert_allclose(found.std(0)[varies], 1, rtol=1e-5)
    assert (found.std(0) <= 1 + 1e-5).all()
    black = replace(digits, images=0 * digits.images)
    assert np.isfinite(encoder_of(space(), black)(digits)).all()  # nothing varies


def test_what_does_not_fit(digits):
    with pytest.raises(GenfastError, match="17"):
        space().features(replace(digits, levels=256))
    autoencoder = Autoencoder(AutoencoderConfig((1, 8, 8), 17, "mlp", latent=2, hidden=2))
    with pytest.raises(GenfastError, match="not a classifier"):
        ClassifierSpace(autoencoder, "runs/autoencoder")


# ---- Inception's ----


def test_images_reach_the_network_as_bytes_of_its_size(tmp_path):
    """A module that returns means of quadrants: the scaled image, in RGB, is what it should be."""
    path = scripted(Pooled(), tmp_path)
    gray = np.zeros((3, 1, 4, 4), np.uint8)
    gray[:, :, :2] = np.array([0, 1, 2])[:, None, None, None]  # the upper half, of levels 0, 1, 2
    found = InceptionSpace(path).features(ImageSet("x", "test", gray, 3))
    assert found.shape == (3, 2048)
    np.testing.assert_allclose(found[:, 0], [0, 128, 255], atol=2)
    np.testing.assert_allclose(found[:, 1], 0, atol=2)
    colour = np.zeros((2, 3, 4, 4), np.uint8)
    colour[:, 2] = 200
    found = InceptionSpace(path).features(ImageSet("x", "test", colour, 256))
    np.testing.assert_allclose(found[:, 2:5], [[0, 0, 200]] * 2, atol=1e-3)
    with pytest.raises(GenfastError, match="1 or 3 channels"):
        InceptionSpace(path).features(ImageSet("x", "test", colour[:, :2], 256))


def test_a_network_that_is_asked_for_features(tmp_path):
    found = InceptionSpace(scripted(Asked(), tmp_path)).features(
        ImageSet("x", "test", np.ones((2, 1, 2, 2), np.uint8), 2)
    )
    assert (found == 7).all()


def test_other_files_are_refused(tmp_path):
    with pytest.raises(GenfastError, match="does not exist"):
        InceptionSpace(tmp_path / "gone.pt")
    (tmp_path / "text.pt").write_text("weights")
    with pytest.raises(GenfastError, match="TorchScript"):
        InceptionSpace(tmp_path / "text.pt")
    torch.save({"weight": torch.zeros(2)}, tmp_path / "state.pt")
    with pytest.raises(GenfastError, match="TorchScript"):
        InceptionSpace(tmp_path / "state.pt")
    whole = scripted(Pooled(), tmp_path).read_bytes()
    (tmp_path / "half.pt").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(GenfastError, match="truncated"):
        InceptionSpace(tmp_path / "half.pt")
    with pytest.raises(GenfastError, match=r"shape \[2, 10\].*2048"):
        InceptionSpace(scripted(Short(), tmp_path))
    with pytest.raises(GenfastError, match="cannot read uint8"):
        InceptionSpace(scripted(Broken(), tmp_path))


# ---- a comparison ----


def test_halves_share_no_image(digits):
    one, other = halves(digits, 100)
    assert len(one) == len(other) == 100
    assert not set(one.numbers) & set(other.numbers)
    assert "100 of 1439" in one.title
    assert (halves(digits, 100)[0].numbers == one.numbers).all()
    assert (digits.labels[one.numbers] == one.labels).all()


def test_noise(digits):
    noise = noise_like(digits, 500)
    assert noise.images.shape == (500, 1, 8, 8)
    counts = np.bincount(noise.images.reshape(-1), minlength=17)
    assert len(counts) == 17
    assert abs(counts / counts.sum() - 1 / 17).max() < 0.005
    assert (noise_like(digits, 3).images == noise.images[:3]).all()
    assert (noise_like(digits, 3, seed=1).images != noise.images[:3]).any()


def test_real_images_are_as_good_as_real_images(digits):
    test, seen = load("digits", "test"), load("digits", "valid")
    found = assess(seen.batch(range(80)), test, [space()], digits)
    (scores,) = found.spaces
    drawn, real, noise = (scores.scores[name] for name in ("generated", "real", "noise"))
    for one in (drawn, real):
        assert abs(one.kernel.value) < 3 * one.kernel.standard_error
        assert noise.kernel.value > 20 * abs(one.kernel.value)
        assert noise.frechet > 5 * one.frechet
        assert one.density_coverage.coverage > 0.7 > 0.3 > noise.density_coverage.coverage
        assert one.precision_recall.precision > 0.7
    assert 0.3 < found.copies["pixels"].closer < 0.7
    assert 0.3 < found.copies["classifier"].closer < 0.7
    assert found.classes["generated"].histogram == tuple(
        np.bincount(space().classes(seen.take(np.arange(80))), minlength=10)
    )
    assert found.title == test.title


def test_copies_of_training_images_are_found(digits):
    drawn = torch.cat([digits.batch(range(60)), noise_like(digits, 20).batch(range(20))])
    found = assess(drawn, load("digits", "test"), [space()], digits)
    assert found.copies["pixels"].exact == 60
    assert found.copies["pixels"].closer == pytest.approx(0.75)
    assert found.copies["classifier"].exact == 60
    assert found.pairs.shape == (24, 1, 8, 8)
    assert (found.pairs[:12] == found.pairs[12:]).all()
    assert found.pairs.dtype == torch.uint8


def test_a_model_that_draws_one_image(digits):
    drawn = digits.batch([5] * 80)
    found = assess(drawn, load("digits", "test"), [space()], seed=3)
    (scores,) = found.spaces
    assert scores.scores["generated"].precision_recall.recall == 0
    assert scores.scores["generated"].density_coverage.coverage < 0.2
    assert found.classes["generated"].covered == 1
    assert found.classes["generated"].entropy == 0
    assert found.pairs is None
    assert not found.copies
    again = assess(drawn, load("digits", "test"), [space()], seed=3)
    assert json.dumps(found.to_dict(), allow_nan=False) == json.dumps(again.to_dict(), allow_nan=False)


def test_what_cannot_be_assessed(digits):
    test = load("digits", "test")
    with pytest.raises(GenfastError, match="at least 20 images, not 19"):
        assess(digits.batch(range(19)), test, [space()])
    with pytest.raises(GenfastError, match="at most 89"):
        assess(digits.batch(range(90)), test, [space()])
    with pytest.raises(GenfastError, match="at least one"):
        assess(digits.batch(range(80)), test, [])
    with pytest.raises(GenfastError, match=r"\(1, 8, 7\)"):
        assess(digits.batch(range(80))[..., :7], test, [space()])
    with pytest.raises(GenfastError, match="level 17|17"):
        assess(digits.batch(range(80)) + 1, test, [space()])
