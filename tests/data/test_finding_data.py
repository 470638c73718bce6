"""Where files are looked for, and what is said when they are nowhere."""

import hashlib
import http.server
import threading

import pooch
import pytest

from genfast.data import find, load
from genfast.data.find import Remote, fetch, first_file, folders
from genfast.errors import GenfastError

real_retrieve = pooch.retrieve


def test_order_of_the_places(tmp_path, monkeypatch):
    for place in ("given", "given/mnist", "variable/mnist", "cache/mnist"):
        (tmp_path / place).mkdir(parents=True)
    monkeypatch.setattr(find, "cache", lambda: tmp_path / "cache")
    monkeypatch.setenv("GENFAST_DATA", str(tmp_path / "variable"))
    found = [str(folder.relative_to(tmp_path)) for folder in folders(["mnist", "MNIST"], tmp_path / "given")]
    assert found == ["given", "given/mnist", "variable", "variable/mnist", "cache", "cache/mnist"]
    monkeypatch.delenv("GENFAST_DATA")
    assert len(folders(["mnist"], None)) == 2


def test_first_file_takes_files_only(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").touch()
    assert first_file(tmp_path, ["a", "b"]) == tmp_path / "b"
    assert first_file(tmp_path, ["a"]) is None


def test_a_place_that_is_not_a_folder(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    with pytest.raises(GenfastError, match="data folder .*file is not a folder"):
        load("mnist", "train", data_dir=tmp_path / "file")
    monkeypatch.setenv("GENFAST_DATA", str(tmp_path / "nowhere"))
    with pytest.raises(GenfastError, match="GENFAST_DATA .*nowhere is not a folder"):
        load("mnist", "train")


@pytest.mark.parametrize(
    ("name", "looked_for"),
    [
        ("mnist", "MNIST was not found: no train-images-idx3-ubyte.gz"),
        ("binarized-mnist", "Binarized MNIST was not found: no binarized_mnist_train.amat or binarized_mnist.npz"),
        ("cifar10", "CIFAR-10 was not found: no data_batch_1.bin or cifar-10-binary.tar.gz"),
    ],
)
def test_without_files_or_network_one_sentence_says_what_to_do(tmp_path, name, looked_for):
    with pytest.raises(GenfastError, match=looked_for) as error:
        load(name, "train", data_dir=tmp_path)
    said = str(error.value)
    assert str(tmp_path) in said
    assert "failed (ConnectionError)" in said
    assert "--data-dir or GENFAST_DATA" in said
    assert "\n" not in said


@pytest.fixture
def server(tmp_path):
    """A web server on this machine for one file, /good, and a 404 for every other."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            body = b"data" if self.path == "/good" else b""
            self.send_response(200 if body else 404)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    httpd = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{httpd.server_port}"
    httpd.shutdown()
    thread.join()
    httpd.server_close()


def test_download(server, monkeypatch):
    monkeypatch.setattr(find.pooch, "retrieve", real_retrieve)
    md5 = hashlib.md5(b"data").hexdigest()
    path = fetch(Remote("file", (f"{server}/absent", f"{server}/good"), f"md5:{md5}"), "set")
    assert path == find.cache() / "set" / "file"
    assert path.read_bytes() == b"data"
    assert fetch(Remote("file", ("http://127.0.0.1:9/never-asked",), f"md5:{md5}"), "set") == path
    with pytest.raises(OSError, match="download of other failed"):
        fetch(Remote("other", (f"{server}/absent",), f"md5:{md5}"), "set")


def test_a_download_with_another_checksum_is_not_kept(server, monkeypatch):
    monkeypatch.setattr(find.pooch, "retrieve", real_retrieve)
    with pytest.raises(GenfastError, match="does not have its published checksum"):
        fetch(Remote("file", (f"{server}/good",), "md5:" + "0" * 32), "set")
    assert list((find.cache() / "set").iterdir()) == []
