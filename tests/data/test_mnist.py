"""idx files, and MNIST made of them."""

import gzip
import struct

import numpy as np
import pytest

from genfast.data import find, load, mnist
from genfast.data.idx import read_idx
from genfast.errors import GenfastError


def idx(array, code=8):
    return struct.pack(f">HBB{array.ndim}I", 0, code, array.ndim, *array.shape) + array.tobytes()


@pytest.mark.parametrize("pack", [lambda data: data, gzip.compress], ids=["raw", "gz"])
@pytest.mark.parametrize("shape", [(2, 3, 5), (1, 1, 1), (0, 4, 4)])
def test_reads_what_was_written(tmp_path, pack, shape):
    array = np.random.default_rng(1).integers(0, 256, shape).astype(np.uint8)
    (tmp_path / "a").write_bytes(pack(idx(array)))
    read = read_idx(tmp_path / "a", 3)
    assert read.dtype == np.uint8
    assert read.shape == shape
    assert (read == array).all()


GOOD = idx(np.zeros((2, 3, 5), np.uint8))


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (b"", "not an idx file"),
        (b"\x00\x00\x08", "not an idx file"),
        (b"\x89PNG" + GOOD, "not an idx file"),
        (b"\0\0\x0d\x03" + GOOD[4:], "idx type 0x0d"),
        (idx(np.zeros(7, np.uint8)), "1 dimensions where 3 are expected"),
        (GOOD[:9], "ends inside its header"),
        (GOOD[:-1], "is truncated: its header promises 30 values, 29 follow"),
        (GOOD + b"x", "bytes left over: its header promises 30 values, 31 follow"),
        (b"\0\0\x08\x03" + b"\xff" * 12, "is truncated"),
        (gzip.compress(GOOD * 50, mtime=0)[:-12], "is truncated"),
        (gzip.compress(GOOD, mtime=0)[:-8] + b"\0" * 8, "is corrupted"),
        (gzip.compress(GOOD, mtime=0)[:12] + b"\xff" * 30, "corrupted|truncated"),
    ],
)
def test_bad_files_are_refused_in_one_sentence(tmp_path, data, sentence):
    path = tmp_path / "bad-idx"
    path.write_bytes(data)
    with pytest.raises(GenfastError, match=sentence) as error:
        read_idx(path, 3)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(GenfastError, match="cannot be read: No such file"):
        read_idx(tmp_path / "nothing", 3)


@pytest.fixture
def tiny_mnist(tmp_path, monkeypatch):
    monkeypatch.setattr(mnist, "IMAGES_IN_FILE", {"train": 12, "t10k": 5})
    monkeypatch.setattr(mnist, "VALIDATION_IMAGES", 4)
    rng = np.random.default_rng(2)
    for prefix, n in mnist.IMAGES_IN_FILE.items():
        images = rng.integers(0, 256, (n, 28, 28)).astype(np.uint8)
        (tmp_path / f"{prefix}-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx(images)))
        (tmp_path / f"{prefix}-labels-idx1-ubyte").write_bytes(idx(np.arange(n, dtype=np.uint8) % 10))
    return tmp_path


def test_mnist_splits(tiny_mnist):
    train, valid, test = (load("mnist", split, data_dir=tiny_mnist) for split in ("train", "valid", "test"))
    assert [len(s) for s in (train, valid, test)] == [8, 4, 5]
    assert valid.labels.tolist() == [8, 9, 0, 1]
    assert test.image_shape == (1, 28, 28)
    assert len({image.tobytes() for s in (train, valid, test) for image in s.images}) == 17
    binary = load("mnist", "test", data_dir=tiny_mnist, binarize="threshold")
    assert binary.title == "mnist test (threshold binarization)"


@pytest.mark.parametrize(
    ("name", "array", "sentence"),
    [
        ("train-images-idx3-ubyte.gz", np.zeros((11, 28, 28), np.uint8), r"shape \(11, 28, 28\), but MNIST's"),
        ("train-images-idx3-ubyte.gz", np.zeros((12, 27, 28), np.uint8), r"shape \(12, 27, 28\), but MNIST's"),
        ("train-labels-idx1-ubyte", np.zeros(11, np.uint8), "11 labels for the 12 images"),
        ("train-labels-idx1-ubyte", np.full(12, 10, np.uint8), "the label 10, but MNIST's classes are 0 to 9"),
    ],
)
def test_mnist_files_that_do_not_fit(tiny_mnist, name, array, sentence):
    (tiny_mnist / name).write_bytes(idx(array))
    with pytest.raises(GenfastError, match=sentence):
        load("mnist", "train", data_dir=tiny_mnist)


def test_mnist_without_labels(tiny_mnist):
    (tiny_mnist / "t10k-labels-idx1-ubyte").unlink()
    with pytest.raises(GenfastError, match="has no labels beside it: put t10k-labels-idx1-ubyte.gz"):
        load("mnist", "test", data_dir=tiny_mnist)


def test_downloaded_mnist_is_read_from_the_cache(tiny_mnist, monkeypatch):
    asked = []

    def retrieve(url, known_hash, fname, path, downloader):
        asked.append((url, known_hash, fname, path.name))
        if "ossci" in url:
            raise TimeoutError("the first mirror does not answer")
        return str(tiny_mnist / fname.removesuffix("" if "images" in fname else ".gz"))

    monkeypatch.setattr(find.pooch, "retrieve", retrieve)
    assert len(load("mnist", "test")) == 5
    assert [fname for *_, fname, _ in asked[1::2]] == ["t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz"]
    assert asked[0][1] == "md5:9fb629c4189551a2d022fa330f9573f3"
    assert asked[0][3] == "mnist"
    with pytest.raises(GenfastError, match="downloading was not allowed"):
        load("mnist", "test", download=False)
