"""npz files."""

import numpy as np
import pytest

from genfast.data import SPLITS, load
from genfast.errors import GenfastError


def pixels(*shape, seed=10):
    return np.random.default_rng(seed).integers(0, 256, shape).astype(np.uint8)


@pytest.fixture
def saved(tmp_path):
    def save(**arrays):
        np.savez(tmp_path / "mine.npz", **arrays)
        return f"npz:{tmp_path / 'mine.npz'}"

    return save


@pytest.mark.parametrize(
    ("shape", "image_shape", "axes"),
    [
        ((30, 5, 7), (1, 5, 7), None),
        ((30, 5, 7, 3), (3, 5, 7), (0, 3, 1, 2)),
        ((30, 5, 7, 1), (1, 5, 7), (0, 3, 1, 2)),
        ((30, 3, 5, 7), (3, 5, 7), (0, 1, 2, 3)),
        ((30, 1, 5, 1), None, None),
        ((30, 3, 5, 3), None, None),
        ((30, 1, 1), (1, 1, 1), None),
    ],
)
def test_layouts(saved, shape, image_shape, axes):
    images = pixels(*shape)
    name = saved(test=images)
    if image_shape is None:
        with pytest.raises(GenfastError, match="can be read with channels first or last"):
            load(name, "test")
        return
    data = load(name, "test")
    assert data.image_shape == image_shape
    assert (data.images == (images.transpose(axes) if axes else images[:, None])).all()
    assert data.title == f"{name} test (no binarization, 256 levels)"


def test_images_alone_are_divided_with_their_labels(saved):
    images, labels = pixels(50, 4, 4), np.arange(50, dtype=np.int32)
    name = saved(images=images, labels=labels)
    splits = [load(name, split) for split in SPLITS]
    assert [len(s) for s in splits] == [40, 5, 5]
    assert sorted(np.concatenate([s.labels for s in splits])) == list(range(50))
    for data in splits:
        assert (data.images[:, 0] == images[data.labels]).all()
        assert data.labels.dtype == np.int64


def test_a_tenth_of_train_validates_where_there_is_no_valid(saved):
    images = pixels(50, 4, 4)
    name = saved(train=images[:40], train_labels=np.arange(40), test=images[40:])
    train, valid, test = (load(name, split) for split in SPLITS)
    assert [len(s) for s in (train, valid, test)] == [36, 4, 10]
    assert sorted([*train.labels, *valid.labels]) == list(range(40))
    assert (valid.images[:, 0] == images[valid.labels]).all()
    assert test.labels is None
    name = saved(train=images[:40], valid=images[40:])
    assert len(load(name, "train")) == 40
    assert len(load(name, "valid")) == 10
    with pytest.raises(GenfastError, match="has no test images: its arrays are train, valid"):
        load(name, "test")


def test_levels(saved):
    name = saved(test=pixels(3, 4, 4) % 5, levels=5)
    assert load(name, "test").levels == 5
    assert load(saved(test=pixels(3, 4, 4) > 99), "test").levels == 2
    assert load(saved(test=pixels(3, 4, 4) > 99), "test").images.dtype == np.uint8


BYTES = np.zeros((3, 4, 4), np.uint8)


@pytest.mark.parametrize(
    ("arrays", "sentence"),
    [
        ({}, "has no test images: its arrays are none"),
        ({"x": BYTES}, "has no test images: its arrays are x"),
        ({"test": np.full((3, 4, 4), np.nan)}, "test holds float64 values, but images are uint8 levels"),
        ({"test": BYTES.astype(np.float32)}, "holds float32 values"),
        ({"test": BYTES.astype(np.int64)}, "holds int64 values"),
        ({"test": BYTES[0]}, r"has the shape \(4, 4\)"),
        ({"test": BYTES[:0]}, r"has the shape \(0, 4, 4\)"),
        ({"test": BYTES[None, None]}, r"has the shape \(1, 1, 3, 4, 4\)"),
        ({"test": np.zeros((2, 4, 4, 2), np.uint8)}, "no side has the 1 or 3 channels"),
        ({"test": BYTES + 5, "levels": 5}, "test has the value 5, out of range for 5 levels"),
        ({"test": BYTES, "levels": 1}, "levels should be one integer from 2 to 256"),
        ({"test": BYTES, "levels": 2.5}, "levels should be one integer"),
        ({"test": BYTES, "levels": [2, 3]}, "levels should be one integer"),
        ({"test": BYTES, "test_labels": np.zeros(2, np.int64)}, "test_labels should be 3 integers"),
        ({"test": BYTES, "test_labels": np.zeros(3)}, "test_labels should be 3 integers, one an image, not float64"),
        ({"test": BYTES, "test_labels": [0, -1, 2]}, "test_labels holds -1"),
        ({"images": BYTES}, "3 images in images are too few to set some aside for test"),
        ({"test": np.array([{}, {}])}, "the array 'test' cannot be read .*allow_pickle=False"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_sentence(saved, arrays, sentence):
    with pytest.raises(GenfastError, match=sentence) as error:
        load(saved(**arrays), "test")
    assert "mine.npz" in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("data", [b"", b"not an npz at all", b"PK\x03\x04 but no more"])
def test_files_that_are_no_npz(tmp_path, data):
    (tmp_path / "bad.npz").write_bytes(data)
    with pytest.raises(GenfastError, match="bad.npz is (not an npz|truncated|corrupted)"):
        load(f"npz:{tmp_path / 'bad.npz'}", "test")


def test_damaged_single_and_absent_files(tmp_path, saved):
    name = saved(test=pixels(20, 8, 8))
    path = tmp_path / "mine.npz"
    data = bytearray(path.read_bytes())
    data[400] ^= 0xFF  # inside the pixels: the zip's checksum notices
    path.write_bytes(data)
    with pytest.raises(GenfastError, match="mine.npz is corrupted"):
        load(name, "test")
    path.write_bytes(data[:-40])
    with pytest.raises(GenfastError, match="mine.npz is (corrupted|truncated)"):
        load(name, "test")
    np.save(tmp_path / "one.npy", pixels(3, 4, 4))
    with pytest.raises(GenfastError, match="is a single array, not an npz"):
        load(f"npz:{tmp_path / 'one.npy'}", "test")
    with pytest.raises(GenfastError, match="absent.npz cannot be read: No such file"):
        load(f"npz:{tmp_path / 'absent.npz'}", "test")
