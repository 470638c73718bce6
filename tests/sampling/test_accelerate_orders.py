"""accelerate: modules that are causal in another order than raster."""

from collections.abc import Sequence

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import genfast
from genfast.errors import NotCausal
from genfast.likelihoods import draw_levels
from genfast.sampling import noise
from tests.compiler.networks_inputs import Colours
from tests.compiler.networks_masks import DataMask, PlainStack
from tests.compiler.pattern import random_levels, randomise
from tests.sampling.modules import ENGINES, RGB, SHAPE, first, loop, unit


class Reordered(nn.Module):
    """A plain stack that sees another image: what it reads as raster order is some other order of this one."""

    def __init__(self, pixels: Tensor) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.network = randomise(PlainStack())
        self.pixels, self.back = pixels, torch.argsort(pixels)

    def forward(self, x: Tensor) -> Tensor:
        out = self.network(x.flatten(2)[:, :, self.pixels].reshape(x.shape))
        return out.flatten(2)[:, :, self.back].reshape(len(x), 3, *x.shape[2:])


grid = torch.arange(20).reshape(5, 4)
ORDERS = {
    "columns": grid.T.flatten(),
    "from the end": grid.flatten().flip(0),
    "back and forth": torch.cat([row.flip(0) if y % 2 else row for y, row in enumerate(grid)]),
    "random": torch.randperm(20, generator=torch.Generator().manual_seed(3)),
}


def earlier_only(order: Sequence[int], pixels: Tensor, module: nn.Module) -> None:
    """Each output changes with pixels that are earlier in the order, and with no other."""
    place = torch.argsort(torch.as_tensor(order))
    images = random_levels(SHAPE, 3, 1, 0)
    with torch.no_grad():
        for p in range(20):
            other = images.clone().flatten()
            other[p] = (other[p] + 1) % 3
            moved = (module(unit(3)(images)) != module(unit(3)(other.reshape(images.shape)))).any(1).flatten()
            assert not bool((moved & (place <= place[p])).any())


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("name", ORDERS)
def test_orders_are_found(name: str, engine: str) -> None:
    pixels = ORDERS[name]
    module = Reordered(pixels).eval()
    sampler = genfast.accelerate(module, SHAPE, levels=3, engine=engine)
    assert not sampler.order.is_raster
    order = sampler.order.pixels
    assert order is not None
    earlier_only(order.tolist(), pixels, module)
    expected = loop(
        lambda images: module(unit(3)(images)),
        first,
        SHAPE,
        order=order.tolist(),
        levels=3,
    )
    images = sampler.sample(3, seed=5)
    assert torch.equal(images, expected)
    assert torch.equal(torch.stack(list(sampler.stream(3, seed=5)), 2), images)
    with torch.no_grad():
        logits = module(unit(3)(images))
    torch.testing.assert_close(sampler.logits(images)[:, :, 0], logits, rtol=1e-4, atol=1e-4)
    exact = -F.cross_entropy(logits, images[:, 0].long(), reduction="none").flatten(1).sum(1)
    torch.testing.assert_close(sampler.log_prob(images), exact.double(), rtol=1e-5, atol=1e-5)
    known = torch.zeros(5, 4, dtype=torch.bool)
    known.view(-1)[order[:9]] = True  # what is drawn first
    shown: list[Tensor] = []
    assert torch.equal(sampler.complete(images, known, seed=5, on_row=shown.append), images)
    assert torch.equal(shown[-1], images)
    given = genfast.accelerate(module, SHAPE, levels=3, engine=engine, order=pixels)
    assert torch.equal(given.sample(3, seed=5), images)
    with pytest.raises(NotCausal, match="drawn after it"):
        genfast.accelerate(module, SHAPE, levels=3, engine="eager", order="raster")


def test_colours_in_another_order() -> None:
    """Blue first: a sub-pixel order, in which the images have one channel."""

    class Blue(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.network = randomise(Colours(False))

        def forward(self, x: Tensor) -> Tensor:
            return self.network(x.flip(1)).unflatten(1, (3, 4)).flip(1)

    module = Blue().eval()
    for engine in ENGINES:
        sampler = genfast.accelerate(module, RGB, levels=4, engine=engine)
        images = sampler.sample(3, seed=5)
        assert sampler.order.first_places(3) == [(2, 0, 0), (1, 0, 0), (0, 0, 0)]
        expected = torch.zeros(3, *RGB, dtype=torch.uint8)
        uniforms = noise.uniforms(5, 0, 3, RGB)
        for y, x, c in ((y, x, c) for y in range(3) for x in range(4) for c in (2, 1, 0)):
            with torch.no_grad():
                logits = module(unit(4)(expected))[:, c, :, y, x]
            expected[:, c, y, x] = draw_levels(logits, uniforms[:, c, y, x]).to(torch.uint8)
        assert torch.equal(images, expected)
        assert sampler.logits(images).shape == (3, 4, *RGB)


def test_a_network_that_is_causal_in_no_order() -> None:
    torch.manual_seed(0)
    module = nn.Sequential(DataMask("A", 1, 4, 3, padding=1), nn.Conv2d(4, 3, 3, padding=1)).eval()
    with pytest.raises(NotCausal, match="layer 1 is the first on the way that looks ahead"):
        genfast.accelerate(module, SHAPE, levels=3)
