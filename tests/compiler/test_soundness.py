"""What must not go wrong silently: shared memory, rounding, and state that a forward pass leaves behind."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genfast.compiler import compile_module, make_target
from genfast.compiler.evaluate import evaluate
from genfast.errors import NotSupported
from tests.compiler.networks_masks import DataMask
from tests.compiler.pattern import random_levels, randomise

SHAPE = (1, 5, 4)


class Between(nn.Module):
    """A masked convolution, some function of its features, and a 1x1 convolution."""

    def __init__(self, function: Callable[[Tensor], Tensor], dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.first, self.out = DataMask("A", 1, 4, 3, padding=1), nn.Conv2d(4, 3, 1)
        self.function = function
        self.to(dtype)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.function(self.first(x.to(self.out.weight.dtype))))


def error(module: nn.Module) -> float:
    """Largest difference between Program and module, of the largest output."""
    torch.manual_seed(0)
    target = make_target(randomise(module).eval(), SHAPE, levels=3)
    program = compile_module(target)
    images = random_levels(SHAPE, 3, 4, 1)
    with torch.no_grad():
        expected = target.forward(images).double()
    got = torch.stack(evaluate(program, images), 2).reshape(expected.shape)
    return float((got - expected).abs().max() / expected.abs().max())


def flipped(x: Tensor) -> Tensor:
    x = x.clone()
    x[:, 0].copy_(x[:, 1])
    x[:, 1:3] = x[:, 2:4].clone()
    return x


def buffered(x: Tensor) -> Tensor:
    """Features written into a buffer of constants, part by part, which is used before and after."""
    buffer = torch.ones_like(x) * torch.arange(4.0).view(1, 4, 1, 1)
    before = buffer.clone()
    buffer[:, :2] = x[:, :2]
    middle = buffer * 2
    buffer[:, 1:] += x[:, 1:]
    buffer.narrow(1, 3, 1).zero_()
    return before + middle + buffer


def aliases(x: Tensor) -> Tensor:
    """In-place operators whose operands share memory with what they write."""
    y = torch.cat([x, torch.ones_like(x)], 1)
    y.mul_(y.view_as(y))
    y.addcmul_(y.detach(), y[:], value=0.5)
    half = y.transpose(2, 3)[:, ::2].unsqueeze_(0).squeeze_(0)
    half.add_(1)
    return y[:, :4] + y.view(len(x), 2, 4, 5, 4)[:, 1]


def strided(x: Tensor) -> Tensor:
    """Views of views: expanded, strided, transposed, and written through."""
    wide = x.unsqueeze(2).expand(-1, -1, 3, -1, -1).reshape(len(x), 12, 5, 4)
    wide[:, 1::3].neg_()
    diagonal = x.clone()
    diagonal.as_strided((len(x), 4, 4), (80, 20, 5)).mul_(2)
    return wide[:, ::3] + wide[:, 1::3] * 0.5 + diagonal


def outs(x: Tensor) -> Tensor:
    """Results put where the caller says, over what was computed there before."""
    a, b = torch.tanh(x), torch.empty_like(x)
    torch.exp(x, out=b)
    torch.add(a, b, out=a)
    torch.clamp(a, max=2.0, out=b)
    return torch.where(b > 1, a, b)


def constants_of_computed_shape(x: Tensor) -> Tensor:
    """Numbers made in the image of computed ones hold none of theirs."""
    places = torch.arange(x.shape[2]).to(x).view(1, 1, -1, 1)
    return (
        x * x.new_full((1, 4, 1, 1), 0.5)
        + torch.full_like(x, 2) * places
        + x.new_zeros(1).add_(1)
        + x.new_tensor([3.0])
    )


@pytest.mark.parametrize("function", [flipped, buffered, aliases, strided, outs, constants_of_computed_shape])
def test_memory(function: Callable[[Tensor], Tensor]) -> None:
    assert error(Between(function)) < 1e-5


def test_a_mask_of_minus_infinity() -> None:
    """Whole rows masked give NaN, which is told apart from a number."""

    def masked(x: Tensor) -> Tensor:
        scores = x.masked_fill(torch.tensor([True, False, True, False]).view(1, 4, 1, 1), -torch.inf)
        return scores.softmax(1)

    assert error(Between(masked)) < 1e-5
    everything = Between(lambda x: x.masked_fill(torch.ones(1).bool(), -torch.inf).softmax(1).nan_to_num() + x)
    assert error(everything) < 1e-5


def test_zero_times_infinity_is_not_passed_over() -> None:
    """log(0) * 0 is NaN in the module, where a constant 0 was expected."""
    with pytest.raises(NotSupported, match="does not reproduce|constants that differ"):
        error(Between(lambda x: x + torch.log(torch.relu(x)) * torch.zeros(1)))


@pytest.mark.parametrize(("dtype", "bound"), [(torch.float64, 1e-6), (torch.bfloat16, 0.03), (torch.float16, 0.004)])
def test_dtypes(dtype: torch.dtype, bound: float) -> None:
    """Half precision is held to its own rounding, and no other to it."""
    assert error(Between(lambda x: torch.sigmoid(x) * x, dtype)) < bound


def test_autocast() -> None:
    def half(x: Tensor) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            return F.linear(x.movedim(1, 3), torch.eye(4) + 0.1).movedim(3, 1).float()

    assert error(Between(half)) < 0.03


@pytest.mark.parametrize("size", [1e-3, 1e-2])
def test_a_small_wrong_number_is_refused(size: float) -> None:
    """A computation that the trace cannot see, as small as a thousandth of the output."""

    def hidden(x: Tensor) -> Tensor:
        return x + size * float(x[0, 0, 4, 2])

    with pytest.raises(NotSupported, match="does not reproduce"):
        error(Between(hidden))


def test_weights_that_the_forward_pass_masks_stay_masked() -> None:
    """Compiling runs the module; it must leave it computing the same."""
    torch.manual_seed(0)
    module = randomise(Between(torch.tanh)).eval()
    target = make_target(module, SHAPE, levels=3)
    images = random_levels(SHAPE, 3, 2, 0)
    with torch.no_grad():
        before = target.forward(images)
        compile_module(target)
        assert torch.equal(target.forward(images), before)
    assert module.first.weight.requires_grad
    assert not module.training


def test_batch_caches() -> None:
    """A buffer made for the first batch that comes: the trace's own."""

    class Cache(Between):
        ones: Tensor | None = None

        def forward(self, x: Tensor) -> Tensor:
            if self.ones is None:
                self.ones = torch.ones(len(x), 1, *x.shape[2:])
            return super().forward(x + self.ones)

    torch.manual_seed(0)
    compile_module(make_target(randomise(Cache(torch.tanh)).eval(), SHAPE, levels=3))


def test_threads_and_modes_are_given_back() -> None:
    torch.set_num_threads(2)
    with pytest.raises(NotSupported):
        error(Between(lambda x: x.sort(1).values))
    assert torch.get_num_threads() == 2
    torch.set_num_threads(1)
