"""Public models' habits, one small network each: Program and engine compute the module, and tell who reads what."""

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import Tensor

from genfast.compiler import compile_module
from genfast.compiler.causality import receptive_field
from genfast.compiler.evaluate import evaluate
from genfast.compiler.program import Program
from genfast.sampling import compile_sampler, naive
from tests.compiler import (  # noqa: F401  (they register themselves)
    networks_attention,
    networks_inputs,
    networks_masks,
    networks_stacks,
)
from tests.compiler.pattern import PATTERNS, Pattern, Wrapped, influence, random_levels


@pytest.fixture(autouse=True)
def _double() -> Iterator[None]:
    """Float64, in which a wrong number cannot hide behind rounding."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def footprints(program: Program) -> Tensor:
    """receptive_field of every output.  # bool [C, H, W, C, H, W]: out, in"""
    shape = program.image_shape
    fields = [receptive_field(program, *place) for place in np.ndindex(*shape)]
    return torch.from_numpy(np.stack(fields)).reshape(*shape, *shape)


def close(got: Tensor, expected: Tensor) -> None:
    assert got.shape == expected.shape
    assert float((got - expected).abs().max()) <= 1e-11 * float(1 + expected.abs().max())


@pytest.mark.parametrize("case", PATTERNS, ids=lambda p: p.name)
@torch.no_grad()
def test_pattern(case: Pattern) -> None:
    module = case.build()
    target = case.target(module)
    program = compile_module(target)
    example = case.condition() if case.condition is not None else None

    images = random_levels(case.shape, case.levels, 3, 7)
    given = () if example is None else (example[[1, 0, 1]],)
    expected = target.forward(images, *given)
    meant = torch.stack(evaluate(program, images, given), 2).reshape(3, -1, *case.shape)
    close(meant, expected.reshape(3, -1, *case.shape))

    def forward(batch: Tensor) -> Tensor:
        return target.forward(batch, *(c[:1].expand(len(batch), *c.shape[1:]) for c in given))

    assert torch.equal(footprints(program), influence(forward, case.shape, case.levels))

    model = Wrapped(target).eval()
    sampler = compile_sampler(model, "eager", condition=example)
    condition = None if example is None else given[0]
    close(sampler.logits(images, condition), expected)
    samples = sampler.sample(3, seed=5, condition=condition)
    assert torch.equal(samples, naive.sample(model, 3, seed=5, condition=condition))
