"""What must hold for a model on another device, which tests/emulation/device.cpp makes.

``python other_device_checks.py LIBRARY`` prints a line of JSON, check -> what failed or "" (tests/kernels/apart.py).
"""

import copy
import json
import sys
import types
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import genfast
from genfast.models import (
    GatedPixelCNN,
    GatedPixelCNNConfig,
    PixelCNN,
    PixelCNNConfig,
    PixelCNNPP,
    PixelCNNPPConfig,
    PixelRNN,
    PixelRNNConfig,
    PixelSNAIL,
    PixelSNAILConfig,
)
from genfast.nn import MaskedConv2d
from genfast.sampling.sampler import example_conditions
from tests.kernels.apart import attempt, prepare

OTHER = "other"


class Foreign(nn.Module):
    """Somebody else's network: labels, a flipped and gathered map, a table of places, normalisation, a buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.label = nn.Embedding(3, 8)
        self.first, self.last = MaskedConv2d(1, 8, 3, "A"), nn.Conv2d(8, 4, 1)
        self.norm = nn.LayerNorm(8)
        self.register_buffer("order", torch.randperm(8))

    def forward(self, x: Tensor, label: Tensor) -> Tensor:
        h = self.first(x) + self.label(label)[:, :, None, None]
        h = h.index_select(1, self.order) + h[:, self.order].flip(1)
        h = self.norm(h.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        return self.last(torch.nn.functional.gelu(h))


def initialized(model: Any) -> Any:
    model.initialize(torch.randint(0, model.levels, (8, *model.image_shape), dtype=torch.uint8), labels(model, 8))
    return model


def labels(model: Any, n: int) -> Tensor | None:
    return None if model.num_classes is None else torch.arange(n) % model.num_classes


MODELS: dict[str, Callable[[], Any]] = {
    "pixelcnn": lambda: PixelCNN(PixelCNNConfig((3, 2, 3), levels=5, hidden=6, blocks=1, head=9)),
    "gated": lambda: GatedPixelCNN(GatedPixelCNNConfig((1, 3, 3), levels=2, hidden=6, layers=2, head=6, num_classes=3)),
    "row": lambda: PixelRNN(PixelRNNConfig((1, 3, 3), levels=2, variant="row", hidden=4, layers=1, head=6)),
    "diagonal": lambda: PixelRNN(PixelRNNConfig((1, 3, 3), levels=2, variant="diagonal", hidden=4, layers=1, head=6)),
    "pixelcnn++": lambda: initialized(
        PixelCNNPP(PixelCNNPPConfig((3, 3, 2), filters=4, resnets=1, scales=2, components=2, num_classes=2))
    ),
    "pixelsnail": lambda: initialized(
        PixelSNAIL(PixelSNAILConfig((1, 3, 3), 4, filters=4, blocks=1, resnets=1, key_channels=4, value_channels=4))
    ),
}


def check_model(name: str) -> None:
    """Compiled there, it draws there what it draws on the CPU, by every engine that runs anywhere."""
    here = MODELS[name]().eval()
    there = copy.deepcopy(here).to(OTHER)
    condition = None if not example_conditions(here) else example_conditions(here)[0][[0, 1, 0]]
    expected = genfast.compile_sampler(here, "eager").sample(3, condition=condition)
    for engine in ("eager", "naive", "jacobi", "auto"):
        sampler = genfast.compile_sampler(there, engine)
        drawn = sampler.sample(3, condition=condition)
        assert drawn.device.type == OTHER
        assert torch.equal(drawn.cpu(), expected), engine
        assert sampler.log_prob(drawn, condition).device.type == OTHER
        filled = sampler.complete(drawn, torch.ones(drawn.shape[2:], dtype=torch.bool), condition=condition)
        assert torch.equal(filled.cpu(), expected)
    assert sampler.reason


def check_foreign() -> None:
    """By accelerate, check_causality and, where an operator is not followed, by probing."""
    here = Foreign().eval()
    there = copy.deepcopy(here).to(OTHER)
    given = torch.tensor([0, 1, 2])
    how: dict[str, Any] = {"levels": 4, "condition": given, "engine": "eager"}
    expected = genfast.accelerate(here, (1, 3, 3), **how).sample(3, condition=given)
    for engine in ("eager", "jacobi"):
        sampler = genfast.accelerate(there, (1, 3, 3), **(how | {"engine": engine}))
        assert torch.equal(sampler.sample(3, condition=given).cpu(), expected)
    assert genfast.check_causality(there, (1, 3, 3), levels=4, condition=given).ok
    unknown = nn.Sequential(MaskedConv2d(1, 4, 3, "A"), Sorted()).to(OTHER)
    sampler = genfast.accelerate(unknown, (1, 3, 3), levels=4)
    assert sampler.engine == "jacobi"
    assert sampler.sample(2).device.type == OTHER


class Module(types.ModuleType):
    """torch.other: what PyTorch asks of a device."""

    def device_count(self) -> int:
        return 1

    def get_amp_supported_dtype(self) -> list[torch.dtype]:
        return [torch.bfloat16]

    def get_rng_state(self, device: object) -> Tensor:
        return torch.zeros(0)

    def set_rng_state(self, state: Tensor, device: object) -> None:
        pass


class Sorted(nn.Module):
    """An operator that is not followed; causal, as it stays within a pixel."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.sort(x, 1).values


def check_the_device_refuses_mixtures() -> None:
    """Else nothing here would mean anything."""
    with pytest.raises(RuntimeError, match="same device"):
        torch.ones(3, device=OTHER) + torch.ones(3)
    assert (torch.ones(3, device=OTHER) + 1).sum().item() == 6


def checks() -> list[tuple[Any, ...]]:
    found: list[tuple[Any, ...]] = [("refuses", check_the_device_refuses_mixtures)]
    found += [(name, check_model, name) for name in MODELS]
    return [*found, ("foreign", check_foreign)]


def names() -> list[str]:
    return [name for name, *_ in checks()]


def main(library: str) -> None:
    prepare()
    torch.use_deterministic_algorithms(False)
    torch.utils.rename_privateuse1_backend(OTHER)
    torch._register_device_module(OTHER, Module(OTHER))
    torch.ops.load_library(library)
    results: dict[str, str] = {}
    for name, check, *values in checks():
        torch.manual_seed(0)
        attempt(results, name, check, *values)
    print(json.dumps(results))


if __name__ == "__main__":
    main(sys.argv[1])
