import json

import pytest

from genfast.errors import GenfastError
from genfast.training.run import RunFolder

CONFIG = {
    "model": {"name": "pixelcnn", "config": {"hidden": 4, "image_shape": (1, 2, 2)}},
    "data": {"name": "toy"},
    "train": {"learning_rate": 0.1, "epochs": 3},
}


def changed(part, **values):
    return {**CONFIG, part: {**CONFIG[part], **values}}


def test_a_folder_in_use_is_refused(tmp_path):
    RunFolder(tmp_path / "a" / "run").start(CONFIG, overwrite=False)
    with pytest.raises(GenfastError, match="--resume"):
        RunFolder(tmp_path / "a" / "run").start(CONFIG, overwrite=False)
    for overwrite in (False, True):
        with pytest.raises(GenfastError, match="not a run"):
            RunFolder(tmp_path / "a").start(CONFIG, overwrite)
    (tmp_path / "file").write_text("x")
    with pytest.raises(GenfastError, match="not a run"):
        RunFolder(tmp_path / "file").start(CONFIG, overwrite=True)
    (tmp_path / "empty").mkdir()
    RunFolder(tmp_path / "empty").start(CONFIG, overwrite=False)


def test_two_trainers_cannot_share_a_folder(tmp_path):
    first, second = RunFolder(tmp_path), RunFolder(tmp_path)
    first.lock()
    first.lock()  # held already
    with pytest.raises(GenfastError, match="Another process is training in"):
        second.lock()
    first.unlock()
    second.lock()
    second.unlock()
    RunFolder(tmp_path / "none").lock()  # nothing to keep anyone out of


def test_overwriting_deletes_what_a_run_writes_and_nothing_else(tmp_path):
    folder = RunFolder(tmp_path)
    folder.start(CONFIG, overwrite=False)
    folder.log({"step": 1})
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "samples-0001.png").write_text("x")
    for name in ("quality.json", "quality-other.png"):
        (tmp_path / name).write_text("x")
    for name in ("checkpoints", "classifier"):
        (tmp_path / name).mkdir()
    folder.start(CONFIG, overwrite=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.json", "notes.txt"]


@pytest.mark.parametrize(
    ("config", "setting"),
    [
        (changed("train", learning_rate=0.2), "learning_rate"),
        (changed("data", name="other"), "name"),
        (changed("model", config={"hidden": 8, "image_shape": (1, 2, 2)}), "config.hidden"),
        (changed("model", config={"hidden": 4, "image_shape": (1, 2, 3)}), "config.image_shape"),
        (changed("train", momentum=0.5), "momentum"),
    ],
)
def test_resuming_with_other_settings_names_the_first(tmp_path, config, setting):
    folder = RunFolder(tmp_path)
    folder.start(CONFIG, overwrite=False)
    before = (tmp_path / "config.json").read_text()
    with pytest.raises(GenfastError, match=f"started with {setting} ="):
        folder.resume(config)
    assert (tmp_path / "config.json").read_text() == before


def test_resuming(tmp_path):
    folder = RunFolder(tmp_path / "run")
    with pytest.raises(GenfastError, match="no run to resume"):
        folder.resume(CONFIG)
    assert not (tmp_path / "run").exists()
    folder.start(CONFIG, overwrite=False)
    folder.resume(CONFIG)
    folder.resume(changed("train", epochs=9))  # a longer run is allowed, and remembered
    assert json.loads((tmp_path / "run" / "config.json").read_text())["train"]["epochs"] == 9
    (tmp_path / "run" / "config.json").write_text("{")
    with pytest.raises(GenfastError, match="truncated or corrupted"):
        folder.resume(CONFIG)


@pytest.mark.parametrize("tail", ["", '{"step": 5, "trai', '{"st\xff', "7\n", '{"step": 7}\n'])
def test_lines_after_the_checkpoint_and_torn_lines_are_dropped(tmp_path, tail):
    folder = RunFolder(tmp_path)
    for step in (1, 2, 3, 4):
        folder.log({"step": step, "x": 0.1 * step})
    with folder.metrics_path.open("a", encoding="latin-1") as file:
        file.write(tail)
    folder.cut_metrics(3)
    folder.log({"step": 4})
    assert [line["step"] for line in map(json.loads, folder.metrics_path.read_text().splitlines())] == [1, 2, 3, 4]


def test_no_metrics_yet(tmp_path):
    folder = RunFolder(tmp_path)
    assert folder.metrics() == []
    folder.cut_metrics(0)
    folder.draw_curve()
    assert (tmp_path / "curve.png").read_bytes().startswith(b"\x89PNG")
