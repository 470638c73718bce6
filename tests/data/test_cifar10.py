"""CIFAR-10 in each of its formats, from tiny batches."""

import gzip
import hashlib
import io
import lzma
import os
import pickle
import tarfile

import numpy as np
import pytest

from genfast.data import cifar10, cifar10_pickle, load
from genfast.errors import GenfastError

N = 20
NAMES = [f"data_batch_{k}" for k in range(1, 6)] + ["test_batch"]


@pytest.fixture
def records(monkeypatch):
    """{batch name: uint8 [N, 3073]}: the official binary layout with N images a batch."""
    monkeypatch.setattr(cifar10, "IMAGES_PER_BATCH", N)
    rng = np.random.default_rng(6)
    made = {name: rng.integers(0, 256, (N, 3073)).astype(np.uint8) for name in NAMES}
    for batch in made.values():
        batch[:, 0] %= 10
    return made


def write(folder, records, ending=".bin", pack=bytes):
    for name, batch in records.items():
        (folder / f"{name}{ending}").write_bytes(pack(batch.tobytes()))


def as_pickle(batch, n=N):
    """As the official files: Python 2 named NumPy's module so, and its strings are read as bytes."""
    columns = {b"data": batch[:n, 1:].copy(), b"labels": batch[:n, 0].tolist(), b"batch_label": b"a batch"}
    return pickle.dumps(columns, protocol=2 + 1).replace(b"numpy._core.multiarray", b"numpy.core.multiarray")


def tar(members):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return out.getvalue()


def put_plain(folder, records, monkeypatch):
    write(folder, records)


def put_xz(folder, records, monkeypatch):
    write(folder, records, ".bin.xz", lzma.compress)


def put_gz(folder, records, monkeypatch):
    (folder / "cifar10").mkdir()
    write(folder / "cifar10", records, ".bin.gz", gzip.compress)


def put_tar(folder, records, monkeypatch):
    members = {f"cifar-10-batches-bin/{name}.bin": batch.tobytes() for name, batch in reversed(records.items())}
    (folder / "cifar-10-binary.tar.gz").write_bytes(tar({"cifar-10-batches-bin/readme.html": b"hello"} | members))


def put_pickles(folder, records, monkeypatch):
    (folder / "cifar-10-batches-py").mkdir()
    for name, batch in records.items():
        data = as_pickle(batch)
        monkeypatch.setitem(cifar10_pickle.MD5, name, hashlib.md5(data).hexdigest())
        (folder / "cifar-10-batches-py" / name).write_bytes(data)


def put_pickle_tar(folder, records, monkeypatch):
    data = tar({f"cifar-10-batches-py/{name}": as_pickle(batch) for name, batch in records.items()})
    monkeypatch.setitem(cifar10_pickle.MD5, cifar10_pickle.PICKLE_ARCHIVE, hashlib.md5(data).hexdigest())
    (folder / cifar10_pickle.PICKLE_ARCHIVE).write_bytes(data)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("put", [put_plain, put_xz, put_gz, put_tar, put_pickles, put_pickle_tar])
def test_every_format_gives_the_same_splits(tmp_path, records, monkeypatch, put):
    put(tmp_path, records, monkeypatch)
    train, valid, test = (load("cifar10", split, data_dir=tmp_path) for split in ("train", "valid", "test"))
    batches = [records[name] for name in NAMES]
    for data, wanted in (
        (train, np.concatenate([batch[:18] for batch in batches[:5]])),
        (valid, np.concatenate([batch[18:] for batch in batches[:5]])),
        (test, batches[5]),
    ):
        assert data.image_shape == (3, 32, 32)
        assert (data.images.reshape(-1, 3072) == wanted[:, 1:]).all()
        assert (data.labels == wanted[:, 0]).all()
        assert data.labels.dtype == np.int64
        assert data.title == f"cifar10 {data.split} (no binarization, 256 levels)"
    assert len({image.tobytes() for s in (train, valid, test) for image in s.images}) == 6 * N


def test_one_batch_of_five_says_so_and_divides_as_among_five(tmp_path, records):
    write(tmp_path, {"data_batch_3": records["data_batch_3"]})
    train, valid = load("cifar10", "train", data_dir=tmp_path), load("cifar10", "valid", data_dir=tmp_path)
    assert (train.images.reshape(-1, 3072) == records["data_batch_3"][:18, 1:]).all()
    assert train.title == "cifar10 train (no binarization, 256 levels, 18 of 90 images)"
    assert valid.title == "cifar10 valid (no binarization, 256 levels, 2 of 10 images)"
    assert train.subset(5).title == "cifar10 train (no binarization, 256 levels, 5 of 90 images)"
    with pytest.raises(GenfastError, match="CIFAR-10 was not found: no test_batch.bin"):
        load("cifar10", "test", data_dir=tmp_path)


def test_the_most_complete_source_of_a_folder_is_read(tmp_path, records, monkeypatch):
    put_tar(tmp_path, records, monkeypatch)
    write(tmp_path, {"data_batch_1": records["data_batch_1"]})
    assert len(load("cifar10", "train", data_dir=tmp_path)) == 90


def test_the_thousand_test_images(tmp_path, records):
    images = np.random.default_rng(7).integers(0, 256, (6, 32, 32, 3)).astype(np.uint8)
    np.savez(tmp_path / "cifar10_test1000.npz", x=images, y=np.arange(6, dtype=np.uint8))
    data = load("cifar10", "test", data_dir=tmp_path)
    assert (data.images == images.transpose(0, 3, 1, 2)).all()
    assert data.title == "cifar10 test (no binarization, 256 levels, 6 of 20 images)"
    write(tmp_path, {"test_batch": records["test_batch"]})
    assert len(load("cifar10", "test", data_dir=tmp_path)) == N


@pytest.mark.parametrize(
    ("arrays", "sentence"),
    [
        ({"x": np.zeros((2, 32, 32, 3), np.uint8)}, "arrays x and y"),
        ({"x": np.zeros((2, 3, 32, 32), np.uint8), "y": np.zeros(2, np.uint8)}, r"uint8 \[N, 32, 32, 3\]"),
        ({"x": np.zeros((2, 32, 32, 3), np.float32), "y": np.zeros(2, np.uint8)}, "not float32"),
        ({"x": np.zeros((2, 32, 32, 3), np.uint8), "y": np.zeros(3, np.uint8)}, "3 labels for 2 images"),
        ({"x": np.zeros((2, 32, 32, 3), np.uint8), "y": np.zeros(2)}, "y should be integers"),
        ({"x": np.zeros((2, 32, 32, 3), np.uint8), "y": np.array([-1, 9])}, "labels go from -1 to 9"),
    ],
)
def test_a_test_npz_that_does_not_fit(tmp_path, arrays, sentence):
    np.savez(tmp_path / "cifar10_test1000.npz", **arrays)
    with pytest.raises(GenfastError, match=sentence):
        load("cifar10", "test", data_dir=tmp_path)


def _with_label_10(batch):
    batch = batch.copy()
    batch[3, 0] = 10
    return batch.tobytes()


@pytest.mark.parametrize(
    ("name", "damage", "sentence"),
    [
        ("test_batch.bin", lambda b: b.tobytes()[:-1], "is truncated"),
        ("test_batch.bin", lambda b: b[:-1].tobytes(), "is truncated"),
        ("test_batch.bin", lambda b: b.tobytes() + b"\0", "bytes left over"),
        ("test_batch.bin", lambda b: b"", "is truncated"),
        ("test_batch.bin", _with_label_10, "is not CIFAR-10: its labels go from 0 to 10"),
        ("test_batch.bin.xz", lambda b: lzma.compress(b.tobytes())[:-50], "is corrupted|is truncated"),
        ("test_batch.bin.xz", lambda b: lzma.compress(b.tobytes())[:3000] + b"\0" * 900, "is corrupted"),
        ("test_batch.bin.gz", lambda b: gzip.compress(b.tobytes())[:-50], "is truncated"),
        ("cifar-10-binary.tar.gz", lambda b: tar({"x/test_batch.bin": b.tobytes()})[:2000], "is truncated"),
        ("cifar-10-binary.tar.gz", lambda b: tar({"x/test_batch.bin": b.tobytes()[:-9]}), "is truncated"),
        ("cifar-10-binary.tar.gz", lambda b: tar({"x/data_batch_1.bin": b.tobytes()}), "lacks test_batch"),
        ("cifar-10-binary.tar.gz", lambda b: b"not an archive", "truncated or corrupted"),
        ("cifar-10-binary.tar.gz", lambda b: b"", "truncated or corrupted"),
    ],
)
def test_damaged_files_are_refused_in_one_sentence(tmp_path, records, name, damage, sentence):
    (tmp_path / name).write_bytes(damage(records["test_batch"]))
    with pytest.raises(GenfastError, match=sentence) as error:
        load("cifar10", "test", data_dir=tmp_path)
    assert str(tmp_path / name) in str(error.value)
    assert "\n" not in str(error.value)


class Harmful:
    """Pickled, it is an order to make a folder."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.filterwarnings("error")
def test_the_opcodes_of_python_2(tmp_path, records):
    """The official files were written by Python 2, byte for byte as here: every string is a Python 2 str."""
    pixels = records["test_batch"][:2, 1:].tobytes()
    array = (
        b"cnumpy.core.multiarray\n_reconstruct\n"
        b"cnumpy\nndarray\n"
        b"K\0\x85U\x01b\x87R"
        b"(K\x01K\x02M\x00\x0c\x86cnumpy\ndtype\nU\x02u1K\0K\x01\x87R"
        b"(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\0tb"
        b"\x89T" + len(pixels).to_bytes(4, "little") + pixels + b"tb"
    )
    data = b"\x80\x02}(U\x04data" + array + b"U\x06labels](K\x03K\x08eu."
    images, labels = cifar10_pickle.unpickle(data, tmp_path / "test_batch")
    assert images.tobytes() == pixels
    assert images.shape == (2, 3072)
    assert labels.tolist() == [3, 8]


@pytest.mark.parametrize("name", ["test_batch", "cifar-10-python.tar.gz"])
def test_a_pickle_with_another_checksum_is_not_opened(tmp_path, records, name):
    harm = pickle.dumps(Harmful(tmp_path / "harm"))
    (tmp_path / name).write_bytes(harm if name == "test_batch" else tar({"x/test_batch": harm}))
    with pytest.raises(GenfastError, match="was not opened: a pickle can run any program, and its MD5 is"):
        load("cifar10", "test", data_dir=tmp_path)
    assert not (tmp_path / "harm").exists()


def test_even_behind_the_checksum_a_pickle_runs_nothing(tmp_path, monkeypatch):
    harm = pickle.dumps(Harmful(tmp_path / "harm"))
    monkeypatch.setitem(cifar10_pickle.MD5, "test_batch", hashlib.md5(harm).hexdigest())
    (tmp_path / "test_batch").write_bytes(harm)
    with pytest.raises(GenfastError, match=r"was refused: it asks for posix.mkdir|was refused: it asks for nt.mkdir"):
        load("cifar10", "test", data_dir=tmp_path)
    assert not (tmp_path / "harm").exists()


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (b"", "is not a CIFAR-10 batch"),
        (pickle.dumps([1, 2]), "is not a CIFAR-10 batch"),
        (pickle.dumps({b"labels": [1]}), "is not a CIFAR-10 batch"),
        (pickle.dumps({b"data": np.zeros((2, 3072), np.float32), b"labels": [1, 2]}, 3), "refused: it holds an array"),
    ],
)
def test_broken_pickles(tmp_path, data, sentence):
    with pytest.raises(GenfastError, match=sentence):
        cifar10_pickle.unpickle(data, tmp_path / "test_batch")
