"""Attention that is refused, and by which name; what is kept of it; what a recognised one is."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import genfast
from genfast.compiler import check_causality, compile_module, make_target, schedule
from genfast.compiler.cost import cost
from genfast.compiler.program import Attend, Program
from genfast.errors import NotCausal, NotSupported
from tests.compiler.networks_attention import Attending
from tests.compiler.pattern import randomise

SHAPE = (1, 4, 4)


class Layer(nn.Module):
    """The attention has a name of its own."""

    def __init__(self, attend: Callable[..., Tensor]) -> None:
        super().__init__()
        self.call = attend

    def forward(self, *args: Tensor) -> Tensor:
        return self.call(*args)


class Named(Attending):
    def __init__(self, attend: Callable[..., Tensor]) -> None:
        super().__init__()
        self.look = Layer(attend)

    def attend(self, q: Tensor, k: Tensor, v: Tensor, earlier: Tensor) -> Tensor:
        return self.look(q, k, v, earlier)


def network(attend: Callable[..., Tensor]) -> nn.Module:
    torch.manual_seed(0)
    return randomise(Named(attend)).eval()


def compiled(module: nn.Module) -> Program:
    return compile_module(make_target(module, SHAPE, levels=3))


def scores(q: Tensor, k: Tensor) -> Tensor:
    return q @ k.mT


LEAKS: dict[str, Callable[..., Tensor]] = {
    "no mask": lambda q, k, v, e: F.scaled_dot_product_attention(q, k, v),
    "a mask off by one": lambda q, k, v, e: F.scaled_dot_product_attention(q, k, v, is_causal=True),
    "a mask the wrong way round": lambda q, k, v, e: scores(q, k).masked_fill(e, -1e10).softmax(-1) @ v,
    "the first row uniform": lambda q, k, v, e: scores(q, k).masked_fill(~e, -1e10).softmax(-1) @ v,
    "the first row uniform, mask multiplied": lambda q, k, v, e: (scores(q, k) * e - 1e10 * ~e).softmax(-1) @ v,
    "the first row not masked at all": lambda q, k, v, e: (scores(q, k) - 1e10 * ~e).softmax(-1) @ v,
    "masked after the softmax alone": lambda q, k, v, e: (scores(q, k).softmax(-1) * e) @ v,
    "one key too many": lambda q, k, v, e: F.scaled_dot_product_attention(
        q, k, v, e.index_put((torch.tensor(5), torch.tensor(7)), torch.tensor(True))
    ),
}


@pytest.mark.parametrize("kind", LEAKS)
def test_a_leak_is_blamed_on_the_attention(kind: str) -> None:
    module = network(LEAKS[kind])
    report = check_causality(module, SHAPE, levels=3)
    assert not report.ok
    assert report.layers == ("look",), report.layers
    with pytest.raises(NotCausal, match="layer look is the first on the way that looks ahead"):
        compiled(module)


NOT_TAKEN: dict[str, tuple[Callable[..., Tensor], str]] = {
    "a small mask": (
        lambda q, k, v, e: (scores(q, k).masked_fill(~e, -50).softmax(-1) * e) @ v,
        "a masked score is -50, so that what is masked weighs something",
    ),
    "scores times the mask": (
        lambda q, k, v, e: ((scores(q, k) * e).softmax(-1) * e) @ v,
        "so that what is masked weighs something",
    ),
    "a softmax over the queries": (
        lambda q, k, v, e: (scores(q, k).masked_fill(~e, -1e10).softmax(-2) * e) @ v,
        "attention weights are summed over several queries",
    ),
    "no softmax": (lambda q, k, v, e: (scores(q, k) * e) @ v, "in attention only, whose scores go through a softmax"),
    "a log_softmax": (
        lambda q, k, v, e: scores(q, k).masked_fill(~e, -1e10).log_softmax(-1).exp() * e @ v, "operator _log_softmax",
    ),
    "scores added to scores": (
        lambda q, k, v, e: ((scores(q, k) + scores(k, q)).masked_fill(~e, -1e10).softmax(-1) * e) @ v, "operator add",
    ),
    "weights that are scaled": (
        lambda q, k, v, e: (scores(q, k).masked_fill(~e, -1e10).softmax(-1) * 0.5 * e) @ v, "operator mul",
    ),
    "scores that are scaled by place": (
        lambda q, k, v, e: ((scores(q, k) * torch.arange(1.0, 17)).masked_fill(~e, -1e10).softmax(-1) * e) @ v,
        "scaled by numbers that differ",
    ),
    "a mask that is computed": (
        lambda q, k, v, e: (scores(q, k) + v.sum(-1, keepdim=True)).masked_fill(~e, -1e10).softmax(-1) * e @ v,
        "operator add",
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", NOT_TAKEN)
def test_what_is_no_attention_is_refused_by_layer(kind: str) -> None:
    attend, reason = NOT_TAKEN[kind]
    with pytest.raises(NotSupported, match=f"cannot take layer look: .*{reason}"):
        compiled(network(attend))
    with pytest.raises(NotSupported, match="look"):
        check_causality(network(attend), SHAPE, levels=3)


def test_half_precision_masks_weigh_nothing_either() -> None:
    """-1e4 is all that float16 holds; -1e3 and above is too near."""
    for mask in (-1e4, -2e3):
        compiled(network(lambda q, k, v, e, m=mask: (scores(q, k).masked_fill(~e, m).softmax(-1) * e) @ v))
    with pytest.raises(NotSupported, match="a masked score is -500"):
        compiled(network(lambda q, k, v, e: (scores(q, k).masked_fill(~e, -500.0).softmax(-1) * e) @ v))


def test_scores_too_low_for_their_mask() -> None:
    """A mask of -2000 hides nothing where the scores are as low."""

    def low(q: Tensor, k: Tensor, v: Tensor, e: Tensor) -> Tensor:
        return ((scores(q, k) - 1990).masked_fill(~e, -2e3).softmax(-1) * e) @ v

    with pytest.raises(NotSupported, match="a masked score is -2000, so that what is masked weighs something"):
        compiled(network(low))


def test_what_a_step_holds() -> None:
    program = compiled(network(lambda q, k, v, e: F.scaled_dot_product_attention(q, k, v, e)))
    (step,) = (s for s in program.steps if isinstance(s, Attend))
    earlier = np.tril(np.ones((16, 16), bool), -1)[:, : step.key.at.shape[1]]
    assert step.heads == 2
    assert step.scale == pytest.approx(2**-0.5)
    assert step.bias is None
    assert ((step.key.at >= 0) == earlier).all()
    assert ((step.value.at >= 0) == earlier).all()
    assert step.key.value == step.value.value  # the two halves of one projection, not copied, not scaled
    assert "attend v" in str(program)
    assert "120 pairs before, 2 heads" in str(program)


def test_keys_and_values_are_kept_and_counted() -> None:
    """Each is computed once, when its pixel is drawn, and kept to the end; a query goes through half of them."""
    program = compiled(network(lambda q, k, v, e: F.scaled_dot_product_attention(q, k, v, e)))
    plan = schedule(program)
    (kernel,) = (k for k in plan.kernels if isinstance(k.head, Attend))
    head = kernel.head
    assert isinstance(head, Attend)
    assert plan.slot_count[head.key.value] == 15
    assert plan.slope == 4  # the last pixel of the row above is seen
    pairs = 16 * 15 // 2
    rest = sum(2 * t.weight.size * int((t.read.at >= 0).sum()) for s in program.steps for t in getattr(s, "taps", ()))
    assert cost(plan).flops <= rest + 2 * pairs * (4 + 6)
    assert cost(plan).flops > 2 * pairs * (4 + 6)


def test_two_attentions_share_their_tables() -> None:
    class Twice(Attending):
        def attend(self, q: Tensor, k: Tensor, v: Tensor, earlier: Tensor) -> Tensor:
            one = F.scaled_dot_product_attention(q, k, v, earlier)
            return F.scaled_dot_product_attention(one[..., :2], k, v, earlier)

    first, second = (s for s in compiled(randomise(Twice()).eval()).steps if isinstance(s, Attend))
    assert first.key.at is second.key.at or np.array_equal(first.key.at, second.key.at)


def test_automatic_choice_takes_the_compiler() -> None:
    module = network(lambda q, k, v, e: F.scaled_dot_product_attention(q, k, v, e))
    sampler = genfast.accelerate(module, SHAPE, levels=3)
    assert sampler.engine in ("cpu", "eager")
    assert not sampler.reason
