"""Modules that somebody else wrote, as people hand them in: each is sampled exactly, or refused in one sentence."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genfast.compiler import check_causality
from genfast.errors import GenfastError, NotCausal
from genfast.likelihoods import Categorical, make_likelihood
from genfast.sampling import compile_sampler, incremental, naive
from tests.compiler.networks_inputs import ColourConv
from tests.compiler.networks_masks import DataMask
from tests.compiler.pattern import causal_mask


class Stack(nn.Module):
    """A masked stack of two layers. between: what happens to the features; head: to the logits."""

    def __init__(self, between: Callable[[Tensor], Tensor] = torch.relu, head: Callable[[Tensor], Any] | None = None):
        super().__init__()
        torch.manual_seed(0)
        self.image_shape, self.levels = (1, 4, 5), 4
        self.likelihood: Any = make_likelihood("categorical", 1, 4)
        self.between, self.head = between, head or self.likelihood.unpack
        self.first: nn.Module = DataMask("A", 1, 6, 3, padding=1)
        self.out: nn.Module = nn.Conv2d(6, 4, 1)

    def forward(self, images: Tensor, condition: Tensor | None = None) -> Any:
        return self.head(self.out(self.between(self.first(images.float()))))


def agree(model: nn.Module) -> None:
    """The eager engine draws the naive loop's images."""
    sampler = compile_sampler(model, "eager")
    assert torch.equal(sampler.sample(3, seed=4), naive.sample(model, 3, seed=4))


class Replaced(nn.Conv2d):
    """Puts masked weights in place of its own on every call."""

    def forward(self, x: Tensor) -> Tensor:
        self.weight.data = self.weight.data * causal_mask(self.weight.data, "A")
        return super().forward(x)


class Counted(nn.Conv2d):
    """Masks its weights in a way that counts as a change of them on every call."""

    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            self.weight *= causal_mask(self.weight, "A")
        return super().forward(x)


@pytest.mark.parametrize("layer", [Replaced, Counted])
def test_weights_masked_anew_at_every_pass_are_compiled_once(
    layer: type[nn.Conv2d], monkeypatch: pytest.MonkeyPatch
) -> None:
    """They hold the same numbers each time, in other memory. (The first pass masks them: that is one change.)"""
    compiled = []
    compile_model = incremental.compile_model
    monkeypatch.setattr(incremental, "compile_model", lambda *a: compiled.append(1) or compile_model(*a))
    model = Stack()
    model.first = layer(1, 6, 3, padding=1)
    sampler = compile_sampler(model, "eager")
    images = sampler.sample(2, seed=1)
    count = len(compiled)
    assert count <= 2
    for _ in range(3):
        assert torch.equal(sampler.sample(2, seed=1), images)
        model(images)
    assert len(compiled) == count
    with torch.no_grad():
        model.out.weight.copy_(model.out.weight.flip(0))  # the same sum, other numbers
    assert torch.equal(sampler.sample(2, seed=1), naive.sample(model, 2, seed=1))
    assert len(compiled) == count + 1


def test_lazy_layers() -> None:
    model = Stack()
    model.out = nn.LazyConv2d(4, 1)
    agree(model)


class Clamps(Stack):
    def forward(self, images: Tensor, condition: Tensor | None = None) -> Tensor:
        return super().forward(images.clamp_(max=2))


@pytest.mark.parametrize("engine", ["naive", "jacobi", "eager"])
def test_a_module_that_writes_into_its_images(engine: str) -> None:
    """What it does to its input it does to a copy: a drawn 3 stays a 3."""
    model, plain = Clamps(), Stack()
    model.load_state_dict(plain.state_dict())
    sampled = compile_sampler(model, engine).sample(8, seed=2)
    assert int(sampled.max()) == 3
    clamped = Stack()
    clamped.forward = lambda images, condition=None: plain(images.clamp(max=2))  # type: ignore[method-assign]
    assert torch.equal(sampled, naive.sample(clamped, 8, seed=2))


def test_outputs_that_change_with_the_size_of_the_batch() -> None:
    model = Stack(lambda x: torch.relu(x) * len(x))
    for engine in ("auto", "eager"):
        with pytest.raises(GenfastError, match="changes with the number of images in its batch"):
            compile_sampler(model, engine)

    class Remembers(Stack):
        ones: Tensor | None = None

        def forward(self, images: Tensor, condition: Tensor | None = None) -> Tensor:
            if self.ones is None:
                self.ones = torch.ones(images.shape)
            return super().forward(images + self.ones)

    compile_sampler(Remembers(), "eager")  # fails by itself on three images, and is not wrong on two


def described(**attributes: Any) -> nn.Module:
    model = Stack()
    for name, value in attributes.items():
        setattr(model, name, value)
    return model


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: described(levels=8), r"images have 1 channels and 8 levels, but its likelihood is for 1 .* and 4"),
        (lambda: described(levels=0), "0 levels"),
        (lambda: described(levels=None), "None levels"),
        (lambda: described(levels=4.0), "4.0 levels"),
        (lambda: described(image_shape=(3, 4, 5)), "3 channels"),
        (lambda: described(image_shape=None), "three positive numbers .* not None"),
        (lambda: described(image_shape=(4, 5)), "three positive numbers"),
        (lambda: described(image_shape=(1, 0, 5)), "three positive numbers"),
        (lambda: described(image_shape=(1, 4.0, 5)), "three positive numbers"),
        (lambda: described(likelihood="categorical"), "must be a Likelihood, .* not a str"),
        (lambda: described(likelihood=Categorical), "must be a Likelihood, .* not a Categorical"),
        (lambda: described(likelihood=None), "must be a Likelihood, .* not a NoneType"),
        (lambda: Stack().to("meta"), "on the meta device and hold no numbers"),
        (lambda: Stack(head=lambda x: (x, None)), "as likelihood.unpack gives them, not tuple"),
        (lambda: Stack(head=lambda x: {"logits": x}), "not dict"),
        (lambda: Stack(head=lambda x: x), r"not \[2, 4, 4, 5\]"),
        (lambda: Stack(between=lambda x: F.embedding(None, x)), "give an example"),  # type: ignore[arg-type]
    ],
)
def test_what_a_model_says_of_itself_is_checked(make: Callable[[], nn.Module], sentence: str) -> None:
    for engine in ("auto", "eager"):
        with pytest.raises(GenfastError, match=sentence):
            compile_sampler(make(), engine)
    with pytest.raises(GenfastError, match=sentence):
        check_causality(make())


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_weights_that_are_not_finite(number: float) -> None:
    model = Stack()
    model.out.weight.data[0, 0] = number
    with pytest.raises(GenfastError, match="weights are finite"):
        compile_sampler(model).sample(2)


def test_compiled_modules_are_watched_as_they_are_written() -> None:
    """torch.compile's wrapper; its compiler is told to stand aside."""
    model = Stack()
    model.out = torch.compile(model.out, backend="eager")  # type: ignore[assignment]
    agree(model)


def test_colours_in_another_order_than_the_weights_take_them() -> None:
    """Logits that belong to R, G, B in turn, read as all of R first: the layer that made them is named, and why."""

    class Turned(Stack):
        def __init__(self) -> None:
            super().__init__()
            self.image_shape, self.levels = (3, 3, 3), 2
            self.likelihood = make_likelihood("categorical", 3, 2)
            self.first, self.out = ColourConv("A", True, 3, 6, 3), ColourConv("B", True, 6, 6, 1)
            self.head = self.likelihood.unpack

    with pytest.raises(NotCausal, match=r"layer out is the first .* which of its channels belong to which colour"):
        compile_sampler(Turned(), "eager")
    right = Turned()
    right.head = lambda x: x.unflatten(1, (2, 3))
    agree(right)


class Conditional(Stack):
    """Labels 0 to 2, or vectors of 3, added to the features."""

    def __init__(self) -> None:
        super().__init__()
        self.labels, self.vectors = nn.Embedding(3, 6), nn.Linear(3, 6)

    def forward(self, images: Tensor, condition: Tensor | None = None) -> Any:
        assert condition is not None
        shift = self.vectors(condition) if condition.is_floating_point() else self.labels(condition)
        return self.head(self.out(torch.relu(self.first(images.float()) + shift[:, :, None, None])))


@pytest.mark.parametrize("engine", ["naive", "jacobi", "eager"])
def test_conditions_that_the_module_cannot_take(engine: str) -> None:
    model, labels = Conditional(), torch.tensor([1, 2])
    sampler = compile_sampler(model, engine, condition=labels)
    assert torch.equal(sampler.sample(2, condition=labels), naive.sample(model, 2, condition=labels))
    loop = engine in ("naive", "jacobi")
    for bad, sentence in [
        (
            torch.tensor([1, 3]),
            "fails on two images .* a condition .*IndexError" if loop else "holds 3, but layer labels",
        ),
        (torch.tensor([-1, 2]), "IndexError" if loop else "holds -1, but layer labels takes 0 to 2"),
        (torch.ones(2, 4), r"fails on two images \[2, 1, 4, 5\] and a condition \[2, 4\] of torch.float32"),
        (torch.ones(2, 3).to_sparse(), "must be a dense tensor"),
        (torch.ones(3, 3), "one row per image"),
    ]:
        with pytest.raises(GenfastError, match=sentence):
            sampler.sample(2, condition=bad)


class Past(nn.Conv2d):
    """A layer that is called past its hooks."""

    def __call__(self, x: Tensor) -> Tensor:
        return self.forward(x)


def test_a_layer_without_hooks_is_named_by_its_weights() -> None:
    model = Stack()
    model.first = Past(1, 6, 3, padding=1)
    with pytest.raises(NotCausal, match="layer first is the first on the way that looks ahead"):
        compile_sampler(model, "eager")
