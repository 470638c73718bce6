"""Static binarized MNIST from tiny files in both layouts."""

import numpy as np
import pytest

from genfast.data import binarized_mnist, load
from genfast.errors import GenfastError

SIZES = {"train": 7, "valid": 3, "test": 4}


@pytest.fixture
def bits(monkeypatch):
    monkeypatch.setattr(binarized_mnist, "IMAGES", SIZES)
    rng = np.random.default_rng(5)
    return {split: rng.integers(0, 2, (n, 784)).astype(np.uint8) for split, n in SIZES.items()}


def amat(rows, end=b"\n"):
    return b"".join(b" ".join(b"01"[bit : bit + 1] for bit in row) + end for row in rows)


def npz(bits, **more):
    return {split: np.packbits(rows, axis=1) for split, rows in bits.items()} | more


@pytest.mark.parametrize("end", [b"\n", b" \r\n"])
def test_amat(tmp_path, bits, end):
    (tmp_path / "binarized_mnist").mkdir()
    for split, rows in bits.items():
        (tmp_path / "binarized_mnist" / f"binarized_mnist_{split}.amat").write_bytes(amat(rows, end))
    for split, rows in bits.items():
        data = load("binarized-mnist", split, data_dir=tmp_path)
        assert data.image_shape == (1, 28, 28)
        assert (data.images.reshape(-1, 784) == rows).all()
        assert data.labels is None
        assert data.levels == 2
        assert data.title == f"binarized-mnist {split} (static binarization)"


def test_npz(tmp_path, bits):
    np.savez(tmp_path / "binarized_mnist.npz", **npz(bits, test_y=np.arange(4, dtype=np.uint8)))
    for split, rows in bits.items():
        assert (load("binarized-mnist", split, data_dir=tmp_path).images.reshape(-1, 784) == rows).all()
    assert load("binarized-mnist", "test", data_dir=tmp_path).labels.tolist() == [0, 1, 2, 3]
    assert load("binarized-mnist", "train", data_dir=tmp_path).labels is None


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (lambda text: text[:-3], "are not a multiple of 784"),
        (lambda text: text[: -2 * 784], "holds 3 test images, but binarized MNIST has 4"),
        (lambda text: text.replace(b"1", b"2", 1), "something other than 0, 1 and blanks"),
        (lambda text: b"", "are not a multiple of 784"),
    ],
)
def test_damaged_amat(tmp_path, bits, damage, sentence):
    (tmp_path / "binarized_mnist_test.amat").write_bytes(damage(amat(bits["test"])))
    with pytest.raises(GenfastError, match=sentence):
        load("binarized-mnist", "test", data_dir=tmp_path)


@pytest.mark.parametrize(
    ("arrays", "sentence"),
    [
        ({"train": np.zeros((4, 98), np.uint8)}, "no array 'test'"),
        ({"test": np.zeros((4, 784), np.uint8)}, r"eight pixels to a byte, not uint8 of shape \(4, 784\)"),
        ({"test": np.zeros((4, 98), np.float32)}, "not float32"),
        ({"test": np.zeros((5, 98), np.uint8)}, "holds 5 test images"),
        ({"test": np.zeros((4, 98), np.uint8), "test_y": np.zeros(3, np.uint8)}, "test_y should be 4 integers"),
        ({"test": np.zeros((4, 98), np.uint8), "test_y": np.full(4, np.nan)}, "test_y should be 4 integers"),
        ({"test": np.array([{}] * 4)}, "cannot be read .*allow_pickle=False"),
    ],
)
def test_npz_that_does_not_fit(tmp_path, bits, arrays, sentence):
    np.savez(tmp_path / "binarized_mnist.npz", **arrays)
    with pytest.raises(GenfastError, match=sentence):
        load("binarized-mnist", "test", data_dir=tmp_path)


@pytest.mark.parametrize("method", ["threshold", "dynamic"])
def test_it_is_not_binarized_again(tmp_path, bits, method):
    np.savez(tmp_path / "binarized_mnist.npz", **npz(bits))
    with pytest.raises(GenfastError, match="binarized-mnist is already binary"):
        load("binarized-mnist", "test", data_dir=tmp_path, binarize=method)
