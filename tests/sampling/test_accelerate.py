"""accelerate: modules as their authors wrote them, sampled exactly, or refused in one sentence."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import genfast
from genfast.errors import GenfastError, NotCausal, NotSupported
from genfast.likelihoods import Categorical
from tests.compiler import networks_inputs, networks_masks, networks_stacks  # noqa: F401  (they register themselves)
from tests.compiler.networks_inputs import Colours
from tests.compiler.networks_masks import DataMask, PlainStack
from tests.compiler.pattern import PATTERNS, Pattern, random_levels, randomise
from tests.sampling.modules import ENGINES, RGB, SHAPE, Arranged, first, loop, unit


@pytest.fixture
def stack() -> nn.Module:
    torch.manual_seed(0)
    return randomise(PlainStack()).eval()


# ---- the patterns of other people's models ----


@pytest.mark.parametrize("case", PATTERNS, ids=lambda p: p.name)
def test_patterns_are_accepted_as_they_are(case: Pattern) -> None:
    module = case.build()
    example = None if case.condition is None else case.condition()
    arguments: dict[str, Any] = {"likelihood": case.likelihood, "levels": case.levels, "encode": case.encode}
    sampler = genfast.accelerate(module, case.shape, pick=case.pick, condition=example, **arguments)
    assert (sampler.engine, sampler.reason, sampler.order.is_raster) == ("cpu", "", True)
    given = None if example is None else example[[1, 0, 1]]
    images = random_levels(case.shape, case.levels, 3, 7)
    with torch.no_grad():
        expected = case.target(module).forward(images, *(() if given is None else (given,)))
    torch.testing.assert_close(sampler.logits(images, given), expected, rtol=2e-4, atol=2e-4)
    naive = genfast.accelerate(module, case.shape, pick=case.pick, condition=example, engine="naive", **arguments)
    assert torch.equal(sampler.sample(3, seed=5, condition=given), naive.sample(3, seed=5, condition=given))


# ---- outputs ----

LAYOUTS: dict[str, tuple[Callable[[Tensor], Any], Callable[..., Tensor]]] = {
    "[B, C L, H, W]": (lambda out: out, lambda out, y, x, c: out[:, 4 * c : 4 * c + 4, y, x]),
    "[B, C, L, H, W]": (lambda out: out.unflatten(1, (3, 4)), lambda out, y, x, c: out[:, c, :, y, x]),
    "[B, C, H, W, L]": (
        lambda out: out.unflatten(1, (3, 4)).permute(0, 1, 3, 4, 2), lambda out, y, x, c: out[:, c, y, x],
    ),
    "[B, H, W, C, L]": (
        lambda out: out.permute(0, 2, 3, 1).unflatten(3, (3, 4)), lambda out, y, x, c: out[:, y, x, c],
    ),
    "[B, H W C, L], merged": (
        lambda out: out.permute(0, 2, 3, 1).reshape(len(out), -1, 4), lambda out, y, x, c: out[:, (y * 4 + x) * 3 + c],
    ),
    "the batch merged with the pixels": (
        lambda out: out.permute(0, 2, 3, 1).reshape(-1, 12),
        lambda out, y, x, c: out.reshape(-1, 12, 12)[:, y * 4 + x, 4 * c : 4 * c + 4],
    ),
    "flat": (lambda out: out.flatten(1), lambda out, y, x, c: out.reshape(-1, 12, 3, 4)[:, 4 * c : 4 * c + 4, y, x]),
    "a tuple": (lambda out: (out, None, 3), lambda out, y, x, c: out[0][:, 4 * c : 4 * c + 4, y, x]),
    "a dictionary with a loss": (
        lambda out: {"loss": out.mean(), "logits": out}, lambda out, y, x, c: out["logits"][:, 4 * c : 4 * c + 4, y, x],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", LAYOUTS)
def test_layouts_follow_from_what_outputs_read(name: str) -> None:
    arrange, choose = LAYOUTS[name]
    torch.manual_seed(0)
    module = Arranged(randomise(Colours(False)), arrange).eval()
    sampler = genfast.accelerate(module, RGB, levels=4)
    expected = loop(lambda images: module(unit(4)(images)), choose, RGB)
    assert torch.equal(sampler.sample(3, seed=5), expected)


def test_interleaved_colours_are_told_from_grouped_ones() -> None:
    """The same shape [B, 12, H, W]; which colour each channel belongs to follows from what it reads."""
    torch.manual_seed(0)
    module = randomise(Colours(True)).eval()
    sampler = genfast.accelerate(module, RGB, levels=4)
    expected = loop(lambda images: module(unit(4)(images)), lambda out, y, x, c: out[:, c::3, y, x], RGB)
    assert torch.equal(sampler.sample(3, seed=5), expected)


def test_outputs_that_can_be_read_in_two_ways_are_refused() -> None:
    torch.manual_seed(0)
    blind = randomise(nn.Sequential(DataMask("A", 3, 6, 3, padding=1), nn.Tanh(), nn.Conv2d(6, 12, 1))).eval()
    with pytest.raises(GenfastError, match=r"read as \[B, C, L, H, W\] or \[B, L, C, H, W\].* say which by pick="):
        genfast.accelerate(blind, RGB, levels=4)
    sampler = genfast.accelerate(blind, RGB, levels=4, pick=lambda out, y, x, c: out[:, c::3, y, x])
    expected = loop(lambda images: blind(unit(4)(images)), lambda out, y, x, c: out[:, c::3, y, x], RGB)
    assert torch.equal(sampler.sample(3, seed=5), expected)
    twice = Arranged(PlainStack().eval(), lambda out: (out, out * 2))
    with pytest.raises(GenfastError, match=r"in several of its tensors.* say which by pick="):
        genfast.accelerate(twice, SHAPE, levels=3)
    sampler = genfast.accelerate(twice, SHAPE, levels=3, pick=lambda out, y, x, c: out[1][:, :, y, x])
    expected = loop(lambda images: twice(unit(3)(images)), lambda out, y, x, c: out[1][:, :, y, x], SHAPE, levels=3)
    assert torch.equal(sampler.sample(3, seed=5), expected)


# ---- inputs and conditions ----


class ManyConditions(nn.Module):
    """A label, a one-hot vector and an image, of which two may be given by name."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.out = DataMask("A", 1, 6, 3, padding=1), nn.Conv2d(6, 3, 1)
        self.label, self.vector, self.map = nn.Embedding(4, 6), nn.Linear(5, 6), nn.Conv2d(1, 6, 3, padding=1)

    def forward(self, x: Tensor, label: Tensor, code: Tensor | None = None, sketch: Tensor | None = None) -> Tensor:
        x = self.first(x) + self.label(label)[:, :, None, None]
        if code is not None:
            x = x + self.vector(code)[:, :, None, None]
        return self.out(torch.tanh(x if sketch is None else x + self.map(sketch)))


def conditions(n: int) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(n)
    label, hot = (torch.randint(4, (n,), generator=generator) for _ in range(2))
    sketch = torch.rand(n, 1, 5, 4, generator=generator)
    return {"label": label, "code": F.one_hot(hot, 5).float(), "sketch": sketch}


@pytest.mark.parametrize("engine", ENGINES)
def test_several_conditions_by_place_and_by_name(engine: str) -> None:
    module = ManyConditions().eval()
    for n in (1, 4, 7):  # sizes and values other than those of the example
        given = conditions(n)
        expected = loop(
            lambda images, c=given: module(unit(3)(images), **c),
            first,
            SHAPE,
            n,
            levels=3,
        )
        for kind in (dict, lambda c: list(c.values())):
            example = kind(conditions(2))
            sampler = genfast.accelerate(module, SHAPE, levels=3, condition=example, engine=engine)
            assert torch.equal(sampler.sample(n, seed=5, condition=kind(given)), expected)
    label = given["label"]
    sampler = genfast.accelerate(module, SHAPE, levels=3, condition=label[:1], engine=engine)
    expected = loop(lambda images: module(unit(3)(images), label), first, SHAPE, 7, levels=3)
    assert torch.equal(sampler.sample(7, seed=5, condition=label), expected)
    with pytest.raises(GenfastError, match="without a name"):
        sampler.sample(7, condition={"label": label})
    named = genfast.accelerate(module, SHAPE, levels=3, condition=conditions(2), engine=engine)
    with pytest.raises(GenfastError, match="conditions named label, code, sketch, not label"):
        named.sample(7, condition={"label": label})


@pytest.mark.parametrize("engine", ENGINES)
def test_code_maps_of_many_levels(engine: str) -> None:
    """300 codes, int64 [B, H, W] in, as the priors of VQ-VAEs take them."""
    from examples.vqvae_prior import Prior, accelerated

    torch.manual_seed(0)
    prior = randomise(Prior(300, 10, width=8, layers=1)).eval()
    with torch.no_grad():
        prior.out.weight.mul_(20)
    sampler = genfast.accelerate(
        prior,
        (1, 4, 5),
        levels=300,
        encode=lambda levels: levels[:, 0].long(),
        condition=torch.tensor([3]),
        engine=engine,
    )
    labels = torch.tensor([3, 0, 9])
    codes = sampler.sample(3, seed=5, condition=labels)
    expected = loop(lambda codes: prior(codes[:, 0], labels), first, (1, 4, 5), levels=300)
    assert codes.dtype == torch.int64
    assert int(codes.max()) > 255
    assert torch.equal(codes, expected)
    known = torch.zeros(4, 5, dtype=torch.bool)
    known[:2] = True
    assert torch.equal(sampler.complete(codes, known, seed=5, condition=labels), codes)
    nats = sampler.log_prob(codes, condition=labels)
    with torch.no_grad():
        exact = -F.cross_entropy(prior(codes[:, 0], labels), codes[:, 0], reduction="none").flatten(1).sum(1)
    torch.testing.assert_close(nats, exact.double(), rtol=1e-5, atol=1e-5)
    if engine == "cpu":
        assert accelerated(prior, (4, 5), 300).engine == "cpu"
        with pytest.raises(GenfastError, match="levels 0 to 299, but they hold 300"):
            sampler.log_prob(codes.clamp(min=300), condition=labels)


def test_levels_have_an_end() -> None:
    with pytest.raises(GenfastError, match="2 to 16384 levels, not 20000"):
        genfast.accelerate(nn.Conv2d(1, 20000, 1), (1, 2, 2), levels=20000)
    torch.manual_seed(0)
    module = nn.Sequential(DataMask("A", 1, 2, 3, padding=1), nn.Conv2d(2, 16384, 1)).eval()
    sampler = genfast.accelerate(module, (1, 2, 2), levels=16384, engine="cpu")
    images = sampler.sample(2, seed=5, top_k=9000, top_p=0.9)
    naive = genfast.accelerate(module, (1, 2, 2), levels=16384, engine="naive")
    assert torch.equal(images, naive.sample(2, seed=5, top_k=9000, top_p=0.9))


# ---- what the compiler cannot take ----


class Sorted(nn.Module):
    """Sorts features, which the compiler cannot follow. leak: and looks at the pixel itself."""

    def __init__(self, leak: bool = False) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.out = DataMask("B" if leak else "A", 1, 6, 3, padding=1), nn.Conv2d(6, 3, 1)
        randomise(self)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.first(x).sort(1).values)


def test_unknown_operators_fall_back_to_jacobi_and_say_so() -> None:
    module = Sorted().eval()
    sampler = genfast.accelerate(module, SHAPE, levels=3)
    assert sampler.engine == "jacobi"
    assert "operator sort" in sampler.reason
    expected = loop(lambda images: module(unit(3)(images)), first, SHAPE, levels=3)
    assert torch.equal(sampler.sample(3, seed=5), expected)
    assert 1 <= sampler.stats.passes <= 21
    assert "forward passes" in str(sampler.stats)
    with pytest.raises(NotSupported, match="operator sort"):
        genfast.accelerate(module, SHAPE, levels=3, engine="cpu")


@pytest.mark.parametrize("engine", ["auto", "jacobi", "naive"])
def test_leaks_are_found_where_nothing_can_be_followed(engine: str) -> None:
    with pytest.raises(NotCausal, match=r"their own pixel or a later one \(seen by changing pixels"):
        genfast.accelerate(Sorted(leak=True).eval(), SHAPE, levels=3, engine=engine)
    mixed = nn.Sequential(Sorted(), nn.BatchNorm2d(3, track_running_stats=False)).eval()
    with pytest.raises(NotCausal, match="other images of its batch|mixes the images"):
        genfast.accelerate(mixed, SHAPE, levels=3, engine=engine)


def test_layouts_of_what_cannot_be_followed() -> None:
    """Probing tells interleaved colours from grouped ones, too."""
    torch.manual_seed(0)
    module = Arranged(randomise(Colours(True)), lambda out: out + 0 * out[:, :, :, :1].sort(1).values)
    sampler = genfast.accelerate(module.eval(), RGB, levels=4)
    expected = loop(lambda images: module(unit(4)(images)), lambda out, y, x, c: out[:, c::3, y, x], RGB)
    assert torch.equal(sampler.sample(3, seed=5), expected)


# ---- the module is left alone ----


class Keeps(nn.Module):
    """Keeps a tensor of the size of its first batch, and would fail on another."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.network, self.ones = randomise(PlainStack()), None

    def forward(self, x: Tensor) -> Tensor:
        if self.ones is None:
            self.ones = torch.ones_like(x)
        return self.network(x * self.ones)


@pytest.mark.parametrize("engine", ENGINES)
def test_a_module_is_left_as_it_was(engine: str) -> None:
    module = Keeps().train()
    before = {k: v.clone() for k, v in module.state_dict().items()}
    sampler = genfast.accelerate(module, SHAPE, levels=3, engine=engine)
    images = sampler.sample(5, seed=5)
    assert module.training
    assert module.ones is None
    assert sampler.module is module
    module.eval()
    expected = loop(lambda x: module.network(unit(3)(x)), first, SHAPE, 5, levels=3)
    assert torch.equal(images, expected)
    masked = {k: v for k, v in before.items() if not k.endswith("weight")}
    assert all(torch.equal(module.state_dict()[k], v) for k, v in masked.items())


def test_new_weights(stack: nn.Module) -> None:
    sampler = genfast.accelerate(stack, SHAPE, levels=3)
    other = randomise(PlainStack()).eval()
    assert sampler.load_state_dict(other.state_dict()) in ("replaced", "recompiled")
    expected = loop(lambda images: other(unit(3)(images)), first, SHAPE, levels=3)
    assert torch.equal(sampler.sample(3, seed=5), expected)


def test_float64(stack: nn.Module) -> None:
    """Images go in as float64, and the logits are the module's to 1e-12."""
    stack.double()
    sampler = genfast.accelerate(stack, SHAPE, levels=3, engine="eager")
    images = random_levels(SHAPE, 3, 3, 0)
    with torch.no_grad():
        expected = stack(images.double() / 2)
    torch.testing.assert_close(sampler.logits(images)[:, :, 0], expected, rtol=1e-12, atol=1e-12)


# ---- wrong arguments ----


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"likelihood": "poisson"}, "Unknown likelihood"),
    ({"likelihood": 3}, "must be a name .* not a int"),
    ({"likelihood": Categorical(1, 5)}, "levels is 3, but the likelihood has 5"),
    ({"likelihood": Categorical(3, 3)}, "for 3 channels, but the images have 1"),
    ({"image_shape": (5, 4)}, "three positive numbers"),
    ({"image_shape": (1, 0, 4)}, "three positive numbers"),
    ({"image_shape": 5}, "three positive numbers"),
    ({"image_shape": (2, 5, 4)}, "forward pass fails on two images"),
    ({"levels": 2.5}, "levels must be a whole number, not 2.5"),
    ({"levels": 1}, "2 to 16384 levels, not 1"),
    ({"levels": 7}, r"The output \[2, 3, 5, 4\] is not 7 x 1 x 5 x 4 .*levels=3 would fit"),
    ({"encode": "half"}, "encode must be unit, signed, integer or a function"),
    ({"encode": lambda levels: levels / 0.0 * torch.ones(7)}, "forward pass fails"),
    ({"pick": 3}, "pick must be a function"),
    ({"pick": lambda out, y, x, c: out[:, :, y, x, 7]}, "pick.* fails at y = 0, x = 0, c = 0 with IndexError"),
    ({"pick": lambda out, y, x, c: out[:, :, y, x] * 2}, "not compute"),
    ({"pick": lambda out, y, x, c: out[:, :2, y, x]}, "pick gives 2 numbers .* takes 3"),
    ({"pick": lambda out, y, x, c: out[:, : x + 1, y, x]}, "as many numbers for every sub-pixel"),
    ({"pick": lambda out, y, x, c: 5}, "pick must give a tensor"),
    ({"condition": "label"}, "condition must be a tensor .* not a str"),
    ({"condition": torch.tensor(3)}, "needs a row per image"),
    ({"condition": [torch.zeros(2), torch.zeros(3)]}, "have 2, 3 rows"),
    ({"condition": torch.zeros(2, 4)}, "forward pass fails .* and a condition"),
    ({"order": "spiral"}, 'order must be "auto", "raster", or all the pixels'),
    ({"order": [0, 1, 2]}, "20 whole numbers"),
    ({"engine": "gpu"}, "Unknown engine"),
    ({"threads": 0}, "threads must be"),
    ({"precision": "float16"}, "Unknown precision"),
]


@pytest.mark.parametrize(("arguments", "sentence"), WRONG, ids=[sentence[:40] for _, sentence in WRONG])
def test_wrong_arguments(arguments: dict[str, Any], sentence: str, stack: nn.Module) -> None:
    with pytest.raises(GenfastError, match=sentence) as error:
        genfast.accelerate(stack, **{"image_shape": SHAPE, "levels": 3} | arguments)
    assert str(error.value).count("\n") == 0


def test_what_is_no_module() -> None:
    with pytest.raises(GenfastError, match="must be a torch.nn.Module, not the class PlainStack: call it first"):
        genfast.accelerate(PlainStack, SHAPE)  # type: ignore[arg-type]
    with pytest.raises(GenfastError, match="on the meta device"):
        genfast.accelerate(PlainStack().to("meta"), SHAPE, levels=3)
    with pytest.raises(GenfastError, match="no floating numbers"):
        genfast.accelerate(Arranged(PlainStack().eval(), lambda out: None), SHAPE, levels=3)
