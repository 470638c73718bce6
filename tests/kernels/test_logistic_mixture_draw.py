"""kernels/logistic_mixture/draw.h in the instruction set in use: levels and log-probabilities are those of
``genfast.likelihoods.LogisticMixture``, which computes them in PyTorch.

``tests/sampling/test_instruction_sets.py`` runs this file once more under narrower instruction sets.
"""

import numpy as np
import pytest
import torch
from torch import Tensor

from genfast.likelihoods import LogisticMixture

_C = pytest.importorskip("genfast._C")

LIKELIHOODS = [
    LogisticMixture(1, 256), LogisticMixture(1, 2, components=1), LogisticMixture(3, 256, components=10),
    LogisticMixture(3, 5, components=3), LogisticMixture(3, 256, components=17, min_log_scale=-1.0),
    LogisticMixture(1, 17, components=2, min_log_scale=-float("inf")),
]  # fmt: skip
OPTIONS = [{}, {"temperature": 0.5}, {"temperature": 3.0}, {"temperature": 0.0}, {"top_k": 3}, {"top_p": 0.7},
           {"temperature": 0.7, "top_k": 200, "top_p": 0.9}]  # fmt: skip


def example(likelihood: LogisticMixture, colour: int, n: int = 64, spread: float = 1.0) -> Tensor:
    """Parameters of one colour of n pixels.  # float32 [n, rows, K]"""
    generator = torch.Generator().manual_seed(7 * likelihood.components + colour)
    out = spread * torch.randn(n, likelihood.param_channels, 1, 1, generator=generator)
    out[:, likelihood.components :] -= 0.5
    images = torch.randint(0, likelihood.levels, (n, likelihood.channels, 1, 1), generator=generator)
    return likelihood.unpack(out, images)[..., colour, 0, 0].contiguous()


def draw(likelihood: LogisticMixture, params: Tensor, uniforms: Tensor, **options: float) -> tuple[Tensor, Tensor]:
    levels = np.zeros(len(params), np.int32)
    nats = _C.draw_logistic_mixture(
        params.numpy(), levels, np.zeros(len(params), np.uint8), uniforms.numpy(), likelihood.levels,
        likelihood.min_log_scale, **options,
    )  # fmt: skip
    return torch.from_numpy(levels).long(), torch.from_numpy(nats)


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("likelihood", LIKELIHOODS, ids=str)
def test_levels_and_log_probs(likelihood: LogisticMixture, options: dict[str, float]) -> None:
    for colour in range(likelihood.channels):
        for spread in (1.0, 8.0):
            params = example(likelihood, colour, spread=spread)
            uniforms = torch.rand(64, dtype=torch.float64, generator=torch.Generator().manual_seed(colour))
            levels, nats = draw(likelihood, params, uniforms, **options)
            assert torch.equal(levels, likelihood.draw(params, uniforms, **options))  # type: ignore[arg-type]
            exact = likelihood.level_logits(params).gather(1, levels[:, None])[:, 0]
            torch.testing.assert_close(nats, exact, rtol=1e-12, atol=1e-12)


def test_a_known_level_has_the_log_prob_of_a_drawn_one_to_the_bit() -> None:
    likelihood = LogisticMixture(3, 256)
    params, uniforms = example(likelihood, 2), torch.linspace(0, 0.999, 64, dtype=torch.float64)
    levels, nats = draw(likelihood, params, uniforms, temperature=0.6, top_k=9)
    given = levels.numpy().astype(np.int32)
    known = np.ones(64, np.uint8)
    assert _C.draw_logistic_mixture(params.numpy(), given, known, uniforms.numpy()).tobytes() == nats.numpy().tobytes()
    assert np.array_equal(given, levels.numpy())


@pytest.mark.parametrize("mean", [0.0, 0.9999, 1.0, -1.0, 3.0, -1e4, 1e30])
@pytest.mark.parametrize("log_scale", [-60.0, -20.0, -7.0, 0.0, 20.0, 80.0])
def test_extreme_parameters(mean: float, log_scale: float) -> None:
    """All levels together have the probability 1, and both ends of the uniforms give a level."""
    likelihood = LogisticMixture(1, 256, components=2, min_log_scale=-float("inf"))
    params = torch.tensor([[0.0, -3.0], [mean, 0.1], [log_scale, -2.0]]).expand(256, 3, 2).contiguous()
    every = np.arange(256, dtype=np.int32)
    nats = _C.draw_logistic_mixture(
        params.numpy(), every, np.ones(256, np.uint8), np.zeros(256), 256, likelihood.min_log_scale
    )
    assert np.exp(nats).sum() == pytest.approx(1, abs=1e-12)
    for u in (0.0, 1 - 2.0**-53):
        uniforms = torch.full((256,), u, dtype=torch.float64)
        levels, _ = draw(likelihood, params, uniforms)
        assert torch.equal(levels, likelihood.draw(params, uniforms))


@pytest.mark.parametrize("number", [float("nan"), float("inf"), -float("inf")])
def test_what_is_no_distribution_is_refused(number: float) -> None:
    params = example(LogisticMixture(3, 256), 1)
    params[40, 5, 3] = number
    levels = np.zeros(64, np.int32)
    assert _C.draw_logistic_mixture(params.numpy(), levels, np.zeros(64, np.uint8), np.full(64, 0.5)) is None
    assert levels[:40].any()
    assert not levels[40:].any()
