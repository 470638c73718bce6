"""The real data sets, where GENFAST_DATA has them: published facts that only the right files satisfy."""

import hashlib

import numpy as np
import pytest

from genfast.data import SPLITS, cifar10, load
from genfast.data.archive import read_bytes
from genfast.data.cifar10 import parse_batch


def need(path):
    if not path.is_file():
        pytest.skip(f"GENFAST_DATA has no {path.name}")
    return path


@pytest.fixture(scope="session")
def cifar_batch(shared_data):
    """data_batch_1 as bytes; unpacked once, for it takes a second."""
    path = need(shared_data / "cifar10" / "data_batch_1.bin.xz")
    return path, read_bytes(path)


def disjoint(splits):
    kept = [{hashlib.md5(image.tobytes()).digest() for image in data.images} for data in splits]
    return len(set.union(*kept)) == sum(map(len, kept))


def test_mnist(shared_data):
    need(shared_data / "mnist" / "train-images-idx3-ubyte.gz")
    splits = [load("mnist", split, data_dir=shared_data, download=False) for split in SPLITS]
    assert [len(s) for s in splits] == [50000, 10000, 10000]
    assert [s.labels[:6].tolist() for s in splits] == [[5, 0, 4, 1, 9, 2], [3, 8, 6, 9, 6, 4], [7, 2, 1, 0, 4, 1]]
    assert np.bincount(splits[2].labels).tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    assert round(splits[0].images.mean() / 255, 2) == 0.13
    assert disjoint(splits)


def test_binarized_mnist(shared_data):
    need(shared_data / "binarized_mnist" / "binarized_mnist.npz")
    splits = [load("binarized-mnist", split, data_dir=shared_data, download=False) for split in SPLITS]
    assert [len(s) for s in splits] == [50000, 10000, 10000]
    assert disjoint(splits)
    # The one number that every paper's independent-Bernoulli baseline agrees on, in nats.
    p = splits[0].images.mean(axis=0).clip(1e-9, 1 - 1e-9)
    ones = splits[2].images.mean(axis=0)
    assert round(-float((ones * np.log(p) + (1 - ones) * np.log1p(-p)).sum()), 2) == 205.80
    # The bits, written out as Larochelle's text, have the checksum that was published for it.
    text = np.full((10000, 2 * 784), ord(" "), dtype=np.uint8)
    text[:, ::2] = splits[2].images.reshape(-1, 784) + ord("0")
    text[:, -1] = ord("\n")
    assert hashlib.sha256(text).hexdigest() == "e6687bfea3f820c174f33b7865140b2a2dd2930ef786f35d45795fc193b5ab2c"
    # Sorted by class, which is why subset() shuffles.
    assert (np.diff(splits[2].labels) >= 0).all()
    assert np.bincount(splits[2].subset(1000).labels, minlength=10).min() > 70


def test_cifar10(shared_data, cifar_batch):
    path, data = cifar_batch
    assert hashlib.md5(data).hexdigest() == "5dd7e06a14cb22eb9f671a540d1b7c25"
    images, labels = parse_batch(data, path)
    assert images.shape == (10000, 3, 32, 32)
    assert labels[:10].tolist() == [6, 9, 9, 4, 1, 1, 2, 7, 8, 3]
    means = images.mean(axis=(0, 2, 3)) / 255
    assert np.abs(means - [0.4914, 0.4822, 0.4465]).max() < 0.004  # the published ones of all five, in R, G, B order


def test_cifar10_splits(shared_data, cifar_batch, monkeypatch):
    path, data = cifar_batch
    monkeypatch.setattr(cifar10, "read_bytes", lambda p: data if p == path else read_bytes(p))  # do not unpack again
    need(shared_data / "cifar10" / "cifar10_test1000.npz")
    test = load("cifar10", "test", data_dir=shared_data, download=False)
    assert test.labels[:10].tolist() == [3, 8, 8, 0, 6, 6, 1, 6, 3, 1]
    assert test.image_shape == (3, 32, 32)
    train, valid = (load("cifar10", split, data_dir=shared_data, download=False) for split in ("train", "valid"))
    images, labels = parse_batch(data, path)
    assert (train.images[:9000] == images[:9000]).all()
    assert (valid.images[:1000] == images[9000:]).all()
    assert (train.labels[:9000] == labels[:9000]).all()
    if len(train) == 9000:  # this batch alone is there
        assert train.title == "cifar10 train (no binarization, 256 levels, 9000 of 45000 images)"
    assert disjoint([train, valid, test])
