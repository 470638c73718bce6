"""genfast check: the report, its exit code, and one sentence for whatever is no network."""

from pathlib import Path

import pytest
from PIL import Image

from genfast.cli.main import main

FILE = '''
import torch
from torch import nn
from beside import Mask

def good(levels=3, inputs=1):
    torch.manual_seed(0)
    return nn.Sequential(Mask("A", inputs, 6), nn.ReLU(), Mask("B", 6, 6), nn.ReLU(), nn.Conv2d(6, levels, 1))

def leaky():
    network = good()
    network[2].mask[3, 1, 1, 2] = 1
    return network

def mixing():
    return nn.Sequential(good(), nn.BatchNorm2d(3, track_running_stats=False))

def blind():
    return good(12, 3), {"pick": lambda out, y, x, c: out[:, c::3, y, x]}

class Labels(nn.Module):
    def __init__(self):
        super().__init__()
        self.network, self.label = good(), nn.Embedding(4, 3)

    def forward(self, x, label):
        return self.network(x) + self.label(label)[:, :, None, None]

class Columns(nn.Module):
    def __init__(self):
        super().__init__()
        self.network = good()

    def forward(self, x):
        return self.network(x.transpose(2, 3)).transpose(2, 3)

class Sorts(Columns):
    def forward(self, x):
        return self.network(x) + 0 * self.network(x).sort(1).values

class Colours(nn.Module):
    """Green's logits read blue."""
    def __init__(self):
        super().__init__()
        self.network = good(12, 3)

    def forward(self, x):
        out = self.network(x)
        return torch.cat([out[:, :4], out[:, 4:8] + x[:, 2:], out[:, 8:] + x[:, :1]], 1)

module = good()
number = 3

def fails():
    raise KeyError("weights")

def needs(path):
    return good()
'''
BESIDE = """
import torch
from torch import nn

class Mask(nn.Conv2d):
    def __init__(self, kind, inputs, outputs):
        super().__init__(inputs, outputs, 3, padding=1)
        self.register_buffer("mask", torch.ones(outputs, inputs, 3, 3))
        self.mask[:, :, 1, 1 + (kind == "B"):] = 0
        self.mask[:, :, 2] = 0

    def forward(self, x):
        self.weight.data *= self.mask
        return super().forward(x)
"""
SMALL = ["--image-shape", "1", "6", "7", "--levels", "3"]


@pytest.fixture
def file(tmp_path: Path) -> str:
    (tmp_path / "networks.py").write_text(FILE)
    (tmp_path / "beside.py").write_text(BESIDE)
    return str(tmp_path / "networks.py")


@pytest.mark.parametrize("name", ["good", "module"])
def test_a_causal_network(file: str, name: str, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    picture = tmp_path / "field.png"
    assert main(["check", f"{file}:{name}", *SMALL, "--at", "3", "3", "--picture", str(picture)]) == 0
    said = capsys.readouterr().out
    assert said.startswith("Causal: no output reads its own sub-pixel, a later one, or another image.")
    assert "reads 11 sub-pixels; 1 earlier ones within its reach are in a blind spot" in said
    rows = said[said.index("! leak\n") + 7 :].splitlines()[:6]
    assert rows[:4] == [". . . . . . .", ". # # # # # .", ". # # # # o .", ". # # X"]
    assert Image.open(picture).size == (84, 72)


def test_leaks_name_the_layer_and_the_way(file: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", f"{file}:leaky", *SMALL]) == 1
    said = capsys.readouterr().out
    assert "layer 2 is the first on the way that looks ahead" in said
    assert "Leaks, by what the outputs read: their own pixel" in said
    way = [line.strip() for line in said.splitlines()]
    begin = way.index("Evidence, from what is read to the output that reads it:")
    assert [step.split(":")[0] for step in way[begin + 2 : begin + 8]] == ["Sequential", "0", "1", "2", "3", "4"]
    assert way[begin + 1].startswith("input: pixel")
    assert way[begin + 8].startswith("output: pixel")
    assert "!" in said.rpartition("! leak")[2]


def test_leaks_between_images_and_between_colours(file: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", f"{file}:mixing", *SMALL]) == 1
    assert "other images of the batch" in capsys.readouterr().out
    assert main(["check", f"{file}:Colours", "--image-shape", "3", "4", "4", "--levels", "4"]) == 1
    said = capsys.readouterr().out
    assert "a colour of their own pixel that is drawn with them or later 16" in said
    assert "channel G) reads pixel (y=0, x=0, channel B)" in said


def test_options_conditions_and_other_orders(file: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", f"{file}:blind", "--image-shape", "3", "4", "4", "--levels", "4"]) == 0
    assert main(["check", f"{file}:Labels", *SMALL, "--label", "0", "3"]) == 0
    assert main(["check", f"{file}:good", *SMALL[:4], "--likelihood", "whole-pixels"]) == 0
    capsys.readouterr()
    assert main(["check", f"{file}:Columns", *SMALL]) == 1
    assert "begins with the pixels (0, 0), (1, 0)" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["{}:good"], "Add --image-shape CHANNELS HEIGHT WIDTH"),
        (["{}:good", "--image-shape", "1", "6", "7"], "levels=3 would fit"),
        (["{}:nothing", *SMALL], "There is no nothing in"),
        (["{}:number", *SMALL], "must be, or return, an nn.Module"),
        (["{}:fails", *SMALL], "fails: KeyError"),
        (["{}:needs", *SMALL], "fails: TypeError"),
        (["{}:Labels", *SMALL], "forward pass fails"),
        (["{}:Sorts", *SMALL], "operator sort.* Changing pixels showed no look-ahead"),
        (["{}:good", *SMALL, "--at", "9", "0"], "There is no pixel 9 0 in images of 6 x 7"),
        (["{}:good", *SMALL, "--picture", "field.txt"], "must be a .png"),
        (["{}.missing.py:good", *SMALL], "there is no such file"),
        (["no_such_package:good", *SMALL], "cannot be imported"),
        (["nowhere", *SMALL], "neither FILE.py:NAME nor a run folder"),
    ],
)
def test_one_sentence(file: str, arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str]) -> None:
    import re

    assert main(["check", arguments[0].format(file), *arguments[1:]]) == 2
    said = capsys.readouterr().err.strip()
    assert re.search(sentence, said)
    assert said.count("\n") == 0


def test_a_file_that_cannot_be_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "broken.py").write_text("import nothing_of_this_name")
    assert main(["check", f"{tmp_path / 'broken.py'}:good", *SMALL]) == 2
    assert "cannot be run: ModuleNotFoundError" in capsys.readouterr().err
