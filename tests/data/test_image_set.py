"""ImageSet, its draws and its binarizations."""

import numpy as np
import pytest
import torch

from genfast.data import ImageSet, load
from genfast.data.base import tenths, without_tenth
from genfast.data.binarize import binarize
from genfast.data.draws import permutation
from genfast.errors import GenfastError


def gray_set(n=20, split="train", shape=(1, 3, 5), levels=256):
    images = np.random.default_rng(0).integers(0, levels, (n, *shape)).astype(np.uint8)
    return ImageSet("gray", split, images, levels, np.arange(n, dtype=np.int64))


def test_batch_returns_the_images_as_torch_bytes():
    data = gray_set(shape=(3, 2, 7))
    batch = data.batch([4, 0, 4])
    assert batch.dtype == torch.uint8
    assert (batch.numpy() == data.images[[4, 0, 4]]).all()
    assert data.image_shape == (3, 2, 7)
    assert len(data) == 20
    assert data.batch([]).shape == (0, 3, 2, 7)
    assert torch.equal(data.batch(torch.tensor([4, 0, 4]), seed=1, epoch=2), batch)
    batch.zero_()  # a copy: the set is not changed
    assert data.images[4].any()


@pytest.mark.parametrize("index", [-1, 20])
def test_batch_refuses_an_index_out_of_range(index):
    with pytest.raises(GenfastError, match="has images 0 to 19"):
        gray_set().batch([0, index])


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"images": np.zeros((2, 4, 4), np.uint8)}, r"must be uint8 \[N, C, H, W\]"),
        ({"images": np.zeros((2, 1, 4, 4), np.float32)}, "not float32"),
        ({"images": np.zeros((0, 1, 4, 4), np.uint8)}, "no pixels"),
        ({"levels": 1}, "levels must be between 2 and 256"),
        ({"levels": 257}, "levels must be between 2 and 256"),
        ({"levels": 7}, "value 7, out of range for 7 levels"),
        ({"labels": np.zeros(3, np.int64)}, r"labels must be int64 \[2\]"),
        ({"labels": np.zeros(2, np.float32)}, "labels must be int64"),
        ({"split": "testing"}, "no split 'testing'"),
        ({"binarization": "maybe"}, "'maybe' is not one of"),
    ],
)
def test_parts_that_do_not_fit_are_refused(change, sentence):
    good = {"name": "x", "split": "test", "images": np.full((2, 1, 4, 4), 7, np.uint8), "levels": 256}
    ImageSet(**good)
    with pytest.raises(GenfastError, match=sentence):
        ImageSet(**{**good, **change})


def test_permutation_never_changes():
    """These numbers are part of every split and subset: if they move, held-out images have been trained on."""
    assert permutation(10).tolist() == [6, 7, 8, 1, 9, 3, 2, 5, 0, 4]
    assert sorted(permutation(1000)) == list(range(1000))
    assert (permutation(1000) != permutation(1000, seed=1)).any()
    assert permutation(1).tolist() == [0]


def test_subset_is_a_fixed_shuffle_and_nested():
    data = gray_set(1000)
    small, large = data.subset(10), data.subset(100)
    assert (large.images[:10] == small.images).all()
    assert (large.labels[:10] == small.labels).all()
    assert len(set(large.labels.tolist())) == 100
    assert 300 < large.labels.mean() < 700  # from all over the set, not from its beginning
    assert small.title == "gray train (no binarization, 256 levels, 10 of 1000 images)"
    assert large.subset(10).title == small.title
    assert data.subset(1000) is data
    with pytest.raises(GenfastError, match="at least 1 image"):
        data.subset(0)


@pytest.mark.parametrize("n", [1, 9, 10, 11, 137])
def test_tenths_divide_without_overlap(n):
    splits = [tenths(n, split) for split in ("train", "valid", "test")]
    assert sorted(np.concatenate(splits)) == list(range(n))
    assert len(splits[1]) == len(splits[2]) == n // 10
    halves = [without_tenth(n, split) for split in ("train", "valid")]
    assert sorted(np.concatenate(halves)) == list(range(n))
    assert len(halves[1]) == n // 10


def test_dynamic_binarization_depends_on_seed_epoch_and_image_alone():
    data = binarize(gray_set(), "dynamic")
    whole = data.batch(range(20), seed=3, epoch=5)
    assert set(whole.unique().tolist()) == {0, 1}
    for k in (0, 7, 19):
        assert torch.equal(data.batch([k], seed=3, epoch=5)[0], whole[k])
    assert torch.equal(data.batch([7, 2], seed=3, epoch=5), whole[[7, 2]])
    assert not torch.equal(data.batch(range(20), seed=3, epoch=6), whole)
    assert not torch.equal(data.batch(range(20), seed=4, epoch=5), whole)
    part = data.subset(6)  # keeps the images' own numbers, and so their draws
    assert torch.equal(part.batch(range(6), seed=3, epoch=5), whole[part.numbers])
    assert data.title == "gray train (dynamic binarization)"
    assert data.levels == 2


def test_dynamic_binarization_draws_with_the_gray_value_as_probability():
    images = np.broadcast_to(np.arange(17, dtype=np.uint8)[None, None, :, None], (4000, 1, 17, 1)).copy()
    data = binarize(ImageSet("ramp", "train", images, 17), "dynamic")
    mean = data.batch(range(4000), seed=0, epoch=0).double().mean(dim=(0, 1, 3)).numpy()
    p = np.arange(17) / 16
    assert mean[0] == 0.0
    assert mean[16] == 1.0
    assert (np.abs(mean - p) <= 4.5 * np.sqrt(p * (1 - p) / 4000)).all()
    images = data.batch(range(4000), seed=0, epoch=0).double().flatten(1)
    assert abs(np.corrcoef(images[1:, 8], images[:-1, 8])[0, 1]) < 0.08  # images are drawn independently
    assert abs(np.corrcoef(images[:, 8], images[:, 9])[0, 1]) < 0.08  # and so are their pixels


@pytest.mark.parametrize("split", ["valid", "test"])
def test_dynamic_evaluation_splits_are_drawn_once(split):
    data = binarize(gray_set(split=split), "dynamic")
    assert set(np.unique(data.images)) == {0, 1}
    assert torch.equal(data.batch(range(20), seed=1, epoch=1), data.batch(range(20), seed=2, epoch=9))
    assert data.title == f"gray {split} (dynamic binarization, drawn once)"
    assert (binarize(gray_set(split=split), "dynamic").images == data.images).all()


@pytest.mark.parametrize(("levels", "first_white"), [(256, 128), (17, 9), (4, 2)])
def test_threshold(levels, first_white):
    images = np.arange(levels, dtype=np.uint8).reshape(1, 1, 1, levels)
    data = binarize(ImageSet("ramp", "test", images, levels), "threshold")
    assert data.images.ravel().tolist() == [int(level >= first_white) for level in range(levels)]
    assert data.title == "ramp test (threshold binarization)"
    assert data.images.dtype == np.uint8


def test_binarize_refusals():
    with pytest.raises(GenfastError, match="no binarization 'static': choose one of none, threshold, dynamic"):
        binarize(gray_set(), "static")
    with pytest.raises(GenfastError, match="gray is already binary"):
        binarize(binarize(gray_set(), "threshold"), "dynamic")


def test_digits():
    splits = {split: load("digits", split) for split in ("train", "valid", "test")}
    assert [len(s) for s in splits.values()] == [1439, 179, 179]
    contents = [{image.tobytes() for image in s.images} for s in splits.values()]
    assert len(set.union(*contents)) == 1797  # no two digits are alike, so this says that the splits are disjoint
    for data in splits.values():
        assert data.image_shape == (1, 8, 8)
        assert data.levels == 17
        assert data.images.max() == 16
        assert data.labels.dtype == np.int64
        assert np.bincount(data.labels).min() >= 9
    assert splits["test"].title == "digits test (no binarization, 17 levels)"
    assert load("digits", "train", binarize="dynamic").batch(range(9), 0, 0).max() == 1


def test_load_refuses_what_it_does_not_know():
    with pytest.raises(GenfastError, match="no data set 'imagenet': choose one of digits, mnist, .*folder:PATH"):
        load("imagenet", "train")
    with pytest.raises(GenfastError, match="no data set 'tar:x'"):
        load("tar:x", "train")
    with pytest.raises(GenfastError, match="no split 'dev': choose one of train, valid, test"):
        load("digits", "dev")
    with pytest.raises(GenfastError, match="no binarization 'otsu'"):
        load("digits", "train", binarize="otsu")
    with pytest.raises(GenfastError, match="for folder:PATH only"):
        load("digits", "train", image_size=16)
    with pytest.raises(GenfastError, match="names no path"):
        load("npz:", "train")
