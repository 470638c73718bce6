"""Folders of images."""

import numpy as np
import pytest
from PIL import Image

from genfast.data import SPLITS, load
from genfast.errors import GenfastError


def pixels(n, shape, seed=8):
    return np.random.default_rng(seed).integers(0, 256, (n, *shape)).astype(np.uint8)


def save(folder, images, name="{:03d}.png"):
    folder.mkdir(parents=True, exist_ok=True)
    for k, image in enumerate(images):
        Image.fromarray(image).save(folder / name.format(k))


def contents(data):
    return {image.tobytes() for image in data.images}


def test_splits_share_nothing_and_hold_everything(tmp_path):
    images = pixels(60, (5, 7, 3))
    save(tmp_path, images)
    splits = [load(f"folder:{tmp_path}", split) for split in SPLITS]
    assert sum(len(s) for s in splits) == 60
    assert set.union(*map(contents, splits)) == {image.transpose(2, 0, 1).tobytes() for image in images}
    train = splits[0]
    assert len(train) > 40
    assert train.image_shape == (3, 5, 7)
    assert train.labels is None
    assert train.title == f"folder:{tmp_path} train (no binarization, 256 levels)"
    order = [image.transpose(2, 0, 1).tobytes() for image in images]
    places = [order.index(image.tobytes()) for image in train.images]
    assert places == sorted(places)


def test_an_image_stays_in_its_split_when_others_are_added(tmp_path):
    save(tmp_path, pixels(40, (4, 4)))
    before = [contents(load(f"folder:{tmp_path}", split)) for split in SPLITS]
    save(tmp_path / "more", pixels(40, (4, 4), seed=9))
    after = [contents(load(f"folder:{tmp_path}", split)) for split in SPLITS]
    assert all(old < new or old == new for old, new in zip(before, after, strict=True))


def test_split_folders_are_respected(tmp_path):
    images = pixels(66, (4, 4))
    save(tmp_path / "train" / "cats", images[:60])
    save(tmp_path / "test", images[60:])
    train, valid, test = (load(f"folder:{tmp_path}", split) for split in SPLITS)
    assert contents(test) == {image.tobytes() for image in images[60:]}
    assert contents(train) | contents(valid) == {image.tobytes() for image in images[:60]}
    assert not contents(train) & contents(valid)
    save(tmp_path / "valid", pixels(2, (4, 4), seed=9))
    assert len(load(f"folder:{tmp_path}", "valid")) == 2
    assert len(load(f"folder:{tmp_path}", "train")) == 60


def test_train_beside_valid_does_not_train_on_valid(tmp_path):
    save(tmp_path / "train", pixels(30, (4, 4)))
    save(tmp_path / "valid", pixels(5, (4, 4), seed=9))
    assert len(load(f"folder:{tmp_path}", "train")) == 30
    with pytest.raises(GenfastError, match="has no test images among its 35"):
        load(f"folder:{tmp_path}", "test")


def test_gray_unless_one_image_has_colour(tmp_path):
    save(tmp_path, pixels(30, (4, 4)))
    assert load(f"folder:{tmp_path}", "train").image_shape == (1, 4, 4)
    Image.fromarray(pixels(1, (4, 4, 4))[0], "RGBA").save(tmp_path / "rgba.png")
    assert load(f"folder:{tmp_path}", "train").image_shape == (3, 4, 4)


def test_image_size_takes_the_middle_square(tmp_path):
    image = np.zeros((20, 40), np.uint8)
    image[:, 10:30] = 200
    save(tmp_path, [image] * 30)
    save(tmp_path, [image.T] * 30, "tall{:03d}.png")
    data = load(f"folder:{tmp_path}", "train", image_size=10)
    assert data.image_shape == (1, 10, 10)
    assert (data.images == 200).all()
    with pytest.raises(GenfastError, match="at least 1 pixel"):
        load(f"folder:{tmp_path}", "train", image_size=0)


def test_images_of_two_sizes(tmp_path):
    save(tmp_path, pixels(12, (4, 6)))
    save(tmp_path, pixels(1, (6, 4)), "wide{:03d}.png")
    with pytest.raises(GenfastError, match="wide000.png has 4x6 pixels but .*000.png has 6x4: give --image-size"):
        load(f"folder:{tmp_path}", "train")


def test_the_smallest_image(tmp_path):
    save(tmp_path, pixels(30, (1, 1)))
    assert load(f"folder:{tmp_path}", "train").image_shape == (1, 1, 1)


@pytest.mark.parametrize("keep", [slice(-30), slice(20), slice(0), slice(1, None)])
def test_damaged_image_is_named(tmp_path, keep):
    save(tmp_path, pixels(12, (16, 16)))
    for file in tmp_path.iterdir():  # all of them, so that whichever split is loaded meets one
        file.write_bytes(file.read_bytes()[keep])
    with pytest.raises(GenfastError, match=r"\d\d\d.png cannot be read as an image \(.*\): repair it or take it out"):
        load(f"folder:{tmp_path}", "train")


def test_sixteen_bit_images_are_refused(tmp_path):
    save(tmp_path, [np.zeros((4, 4), np.uint16)])
    with pytest.raises(GenfastError, match="000.png has Pillow's mode I;16, but only images with 8 bits"):
        load(f"folder:{tmp_path}", "train")


def test_empty_small_or_absent_folders(tmp_path):
    with pytest.raises(GenfastError, match="holds no images"):
        load(f"folder:{tmp_path}", "train")
    (tmp_path / "notes.txt").write_text("not an image")
    save(tmp_path / ".hidden", pixels(3, (4, 4)))
    with pytest.raises(GenfastError, match="holds no images"):
        load(f"folder:{tmp_path}", "train")
    save(tmp_path, pixels(1, (4, 4)))
    assert len(load(f"folder:{tmp_path}", "train")) == 1  # so says the hash of "000.png"
    with pytest.raises(GenfastError, match="has no test images among its 1: it needs more"):
        load(f"folder:{tmp_path}", "test")
    with pytest.raises(GenfastError, match="absent is not a folder"):
        load(f"folder:{tmp_path / 'absent'}", "train")


def test_binarized_folder_says_so(tmp_path):
    save(tmp_path, pixels(30, (4, 4)))
    data = load(f"folder:{tmp_path}", "train", binarize="dynamic")
    assert data.title.endswith("train (dynamic binarization)")
    assert data.batch([0], 0, 0).max() <= 1
