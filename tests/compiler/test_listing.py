"""Golden listings, one of each family of models: what is compiled, and how it is scheduled, as a person reads it.

A change in how models are compiled shows up here as a difference in text: look at it, and if it is meant, write the
files anew with GENFAST_GOLDEN=write.
"""

import os
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from genfast.compiler import Target, compile_module, make_target, model_target, schedule
from genfast.compiler.listing import list_plan
from genfast.models import (
    GatedPixelCNN,
    GatedPixelCNNConfig,
    PixelCNN,
    PixelCNNConfig,
    PixelSNAIL,
    PixelSNAILConfig,
)
from tests.compiler.networks_recurrent import Recurrent
from tests.compiler.networks_stacks import DownAndUp
from tests.compiler.pattern import randomise

GOLDEN = Path(__file__).parent / "golden"


def pixelcnn() -> Target:
    config = PixelCNNConfig((3, 4, 5), 4, hidden=6, blocks=1, head=9, first_kernel=5)
    return model_target(PixelCNN(config).eval())


def gated_pixelcnn() -> Target:
    config = GatedPixelCNNConfig((1, 5, 4), 2, hidden=4, layers=2, head=5, first_kernel=3, num_classes=3)
    return model_target(GatedPixelCNN(config).eval(), torch.tensor([0, 2]))


def down_and_up() -> Target:
    """Somebody else's: strides down and up, weight norm, a channel of ones."""
    return make_target(DownAndUp().eval(), (3, 4, 6), "bernoulli", 2, "signed")


def norm_and_table() -> Target:
    class Small(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table, self.norm, self.out = nn.Embedding(3, 4), nn.LayerNorm(4), nn.Linear(4, 3)

        def forward(self, x: Tensor) -> Tensor:
            moved = torch.cat([torch.zeros_like(x[..., :1]), x[..., :-1]], 3)
            return self.out(self.norm(self.table(moved[:, 0])).softmax(-1)).permute(0, 3, 1, 2)

    return make_target(Small().eval(), (1, 2, 3), levels=3, encode="integer")


def row_lstm() -> Target:
    return model_target(Recurrent((3, 3, 4), ["row"]).eval())


def diagonal_lstm() -> Target:
    return model_target(Recurrent((1, 4, 5), ["diagonal"], kind="bernoulli", levels=2).eval())


def pixelsnail() -> Target:
    config = PixelSNAILConfig((1, 3, 4), 17, filters=4, blocks=1, resnets=1, heads=2, key_channels=2, value_channels=6)
    return model_target(PixelSNAIL(config).eval())


FAMILIES = [pixelcnn, gated_pixelcnn, down_and_up, norm_and_table, row_lstm, diagonal_lstm, pixelsnail]


@pytest.mark.parametrize("make", FAMILIES)
def test_golden(make) -> None:
    torch.manual_seed(0)
    target = make()
    randomise(target.module)
    program = compile_module(target)
    text = f"{program}\n\n{list_plan(schedule(program))}\n"
    path = GOLDEN / f"{make.__name__}.txt"
    if os.environ.get("GENFAST_GOLDEN") == "write":
        path.write_text(text)
    assert text == path.read_text()


def test_every_line_is_short() -> None:
    for path in GOLDEN.glob("*.txt"):
        assert max(len(line) for line in path.read_text().splitlines()) < 220
