"""The objectives of a GAN against closed forms and numbers worked out by hand."""

import math

import pytest
import torch
from torch import Tensor

from genfast.models.gan_objectives import (
    believed,
    discriminator_loss,
    generator_loss,
    gradient_penalty,
    softplus,
)

LOGITS = torch.tensor([-30.0, -2.0, 0.0, 0.5, 3.0, 30.0], dtype=torch.float64)


def gradient(objective: str, logits: Tensor) -> Tensor:
    at = logits.clone().requires_grad_(True)
    (found,) = torch.autograd.grad(generator_loss(objective, at).sum(), at)  # type: ignore[arg-type]
    return found


def test_softplus_is_exact_for_every_logit() -> None:
    for x, expected in ((0.0, math.log(2)), (25.0, 25 + math.log1p(math.exp(-25))), (-40.0, math.exp(-40))):
        assert softplus(torch.tensor(x, dtype=torch.float64)).item() == pytest.approx(expected, rel=1e-15)
    assert softplus(torch.tensor([-1e30, 1e30])).tolist() == [0, pytest.approx(1e30)]


def test_losses_against_the_formulas_of_the_paper() -> None:
    """-ln D(x) - ln(1 - D(G(z))), ln(1 - D(G(z))) and -ln D(G(z)), where a probability can be trusted."""
    real, fake = LOGITS[1:5], LOGITS[1:5].flip(0)
    d_real, d_fake = 1 / (1 + (-real).exp()), 1 / (1 + (-fake).exp())
    for objective in ("minimax", "non_saturating"):
        expected = -d_real.log() - (1 - d_fake).log()
        torch.testing.assert_close(discriminator_loss(objective, real, fake), expected)
        torch.testing.assert_close(believed(objective, real), d_real)
    torch.testing.assert_close(generator_loss("minimax", fake), (1 - d_fake).log())
    torch.testing.assert_close(generator_loss("non_saturating", fake), -d_fake.log())
    undecided = torch.zeros(1, dtype=torch.float64)
    assert discriminator_loss("minimax", undecided, undecided).item() == pytest.approx(math.log(4))


def test_where_minimax_saturates() -> None:
    """The derivative of the generator's loss by the logit of its image: minimax -D, non_saturating D - 1."""
    for dtype in (torch.float32, torch.float64):
        found_out = torch.tensor([-30.0], dtype=dtype)
        assert gradient("non_saturating", found_out).item() == pytest.approx(-1, abs=1e-12)
        assert gradient("minimax", found_out).item() == pytest.approx(-math.exp(-30), rel=1e-5)
    torch.testing.assert_close(gradient("minimax", LOGITS), -LOGITS.sigmoid())
    torch.testing.assert_close(gradient("non_saturating", LOGITS), LOGITS.sigmoid() - 1)
    for objective in ("hinge", "wasserstein"):
        assert torch.equal(gradient(objective, LOGITS), -torch.ones_like(LOGITS))


def test_losses_stay_finite_where_a_probability_rounds_to_0() -> None:
    far = torch.tensor([-1000.0, 1000.0])
    for objective in ("minimax", "non_saturating", "hinge", "wasserstein"):
        assert discriminator_loss(objective, far, -far).isfinite().all()
        assert generator_loss(objective, far).isfinite().all()
        assert gradient(objective, far).isfinite().all()


def test_hinge_by_hand() -> None:
    real, fake = torch.tensor([2.0, 0.5, -1.0]), torch.tensor([-3.0, 0.25, 1.0])
    assert discriminator_loss("hinge", real, fake).tolist() == [0, 0.5 + 1.25, 2 + 2]
    assert generator_loss("hinge", fake).tolist() == [3, -0.25, -1]
    assert torch.equal(believed("hinge", fake), fake)


def test_wasserstein_by_hand() -> None:
    real, fake = torch.tensor([2.0, 0.5]), torch.tensor([-3.0, 0.25])
    assert discriminator_loss("wasserstein", real, fake).tolist() == [-5, -0.25]
    assert generator_loss("wasserstein", fake).tolist() == [3, -0.25]


def test_the_penalty_of_a_linear_critic_is_exact() -> None:
    weight = torch.tensor([3.0, 4.0, 0.0, 12.0], dtype=torch.float64).view(1, 2, 2).requires_grad_(True)  # |w| = 13
    real, fake = torch.randn(2, 5, 1, 2, 2, dtype=torch.float64)
    penalty = gradient_penalty(lambda x: (x * weight).sum((1, 2, 3)), real, fake)
    torch.testing.assert_close(penalty, torch.full((5,), 144.0, dtype=torch.float64))
    penalty.mean().backward()  # d (|w| - 1)^2 / dw = 2 (|w| - 1) w / |w|
    torch.testing.assert_close(weight.grad, 2 * 12 * weight.detach() / 13)


def test_the_penalty_looks_between_the_images() -> None:
    """The critic |x|^2 / 2 has the gradient x, so the penalty tells where it looked: on the line, evenly."""
    fake = torch.zeros(4000, 1, 1, 1, dtype=torch.float64)
    torch.manual_seed(0)
    penalty = gradient_penalty(lambda x: (x**2).sum((1, 2, 3)) / 2, fake + 1, fake)
    share = 1 - penalty.sqrt()
    assert share.min() >= 0
    assert share.max() <= 1
    assert share.mean().item() == pytest.approx(0.5, abs=0.02)
    assert share.std().item() == pytest.approx(1 / math.sqrt(12), abs=0.01)
