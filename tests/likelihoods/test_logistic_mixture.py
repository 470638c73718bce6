"""DiscretizedLogistic and LogisticMixture: the contracts of every likelihood, whole pixels, draws and temperature."""

import itertools
import math

import pytest
import torch
from torch import Tensor

from genfast.errors import GenfastError
from genfast.likelihoods import DiscretizedLogistic, Likelihood, LogisticMixture

DRAWS = 2000
KINDS = [
    DiscretizedLogistic(1, 256),
    DiscretizedLogistic(4, 2),
    LogisticMixture(1, 256),
    LogisticMixture(1, 5, components=1),
    LogisticMixture(3, 256, components=2),
    LogisticMixture(3, 4, components=3),
]


def example(likelihood: Likelihood, shape: tuple[int, ...] = (2, 3, 2), dtype: torch.dtype = torch.float32):
    """The network's output and images. Scales around the distance of a few levels."""
    b, h, w = shape
    generator = torch.Generator().manual_seed(likelihood.param_channels)
    out = torch.randn(b, likelihood.param_channels, h, w, generator=generator).to(dtype) / 2
    images = torch.randint(0, likelihood.levels, (b, likelihood.channels, h, w), generator=generator)
    return out - 0.5, images


def unpacked(likelihood: Likelihood, out: Tensor, images: Tensor) -> Tensor:
    return likelihood.unpack(out, images) if isinstance(likelihood, LogisticMixture) else likelihood.unpack(out)


def grid_uniforms(n: int) -> Tensor:
    return (torch.arange(n, dtype=torch.float64) + 0.5) / n


def frequencies(likelihood: Likelihood, params: Tensor, n: int = DRAWS, **options: object) -> Tensor:
    """How often each level is drawn from the parameters of one sub-pixel, [1, ...]."""
    many = params.expand(n, *params.shape[1:])
    levels = likelihood.draw(many, grid_uniforms(n), **options)  # type: ignore[arg-type]
    return torch.bincount(levels, minlength=likelihood.levels).double() / n


@pytest.mark.parametrize("likelihood", KINDS, ids=str)
def test_contract_of_a_sub_pixel(likelihood: Likelihood) -> None:
    """params[..., c, y, x] is one sub-pixel: its level logits are normalised and agree with log_prob_map."""
    out, images = example(likelihood, dtype=torch.float64)
    params = unpacked(likelihood, out, images)
    assert params.shape[-3:] == (likelihood.channels, 3, 2)
    nats = likelihood.log_prob_map(params, images)
    logits = likelihood.level_logits(params)
    torch.testing.assert_close(logits.logsumexp(1), torch.zeros(nats.shape, dtype=torch.float64), rtol=0, atol=1e-12)
    torch.testing.assert_close(logits.gather(1, images[:, None])[:, 0], nats)
    for c, y, x in itertools.product(range(likelihood.channels), (0, 2), (1,)):
        torch.testing.assert_close(likelihood.level_logits(params[..., c, y, x]), logits[..., c, y, x])
    torch.testing.assert_close(likelihood.log_prob(params, images), nats.sum((1, 2, 3)))
    assert torch.equal(likelihood.log_prob(params, images.to(torch.uint8)), likelihood.log_prob(params, images))


@pytest.mark.parametrize("size", [0.1, 1.0, 10.0, 100.0])
@pytest.mark.parametrize("channels", [1, 3])
def test_levels_add_up_to_one_in_float32(channels: int, size: float) -> None:
    """Means far outside of the image, scales from none to all of it: of the fused operator too, whose gradients stay
    finite."""
    likelihood = LogisticMixture(channels, 256)
    out, images = example(likelihood)
    out = (size * out).requires_grad_()
    params = likelihood.unpack(out, images)
    one = torch.ones(2, 3, 2)
    for c in range(channels):
        total, joint, changed = torch.zeros(2, 3, 2), torch.full((2, 3, 2), -math.inf), images.clone()
        for level in range(256):
            changed[:, c] = level
            total = total + likelihood.log_prob_map(params, changed)[:, c].exp()
            joint = torch.logaddexp(joint, likelihood.log_prob_pixels(out, changed))
        torch.testing.assert_close(total, one, rtol=0, atol=1e-5)
    # All levels of the last colour together: what the operator says of the colours before it.
    before = likelihood.log_prob_map(params.double(), images)[:, : channels - 1].sum(1)
    torch.testing.assert_close(joint.double(), before, rtol=1e-5, atol=1e-5)
    (grad,) = torch.autograd.grad(likelihood.log_prob_pixels(out, images).sum(), out)
    assert bool(grad.isfinite().all())


@pytest.mark.parametrize("likelihood", KINDS, ids=str)
def test_parameters_do_not_depend_on_their_own_or_later_colours(likelihood: Likelihood) -> None:
    out, images = example(likelihood)
    params = unpacked(likelihood, out, images)
    for c in range(likelihood.channels):
        changed = images.clone()
        changed[:, c:] = likelihood.levels - 1 - changed[:, c:]
        assert torch.equal(unpacked(likelihood, out, changed)[..., : c + 1, :, :], params[..., : c + 1, :, :])


@pytest.mark.parametrize("likelihood", [k for k in KINDS if isinstance(k, LogisticMixture)], ids=str)
def test_sub_pixels_multiply_to_the_fused_pixel(likelihood: LogisticMixture) -> None:
    """Values and gradients: P(r) P(g | r) P(b | r, g) from the rows, and the operator's P(r, g, b) from the output."""
    out, images = example(likelihood, dtype=torch.float64)
    out.requires_grad_()
    by_colour = likelihood.log_prob(likelihood.unpack(out, images), images)
    at_once = likelihood.log_prob_pixels(out, images).flatten(1).sum(1)
    torch.testing.assert_close(by_colour, at_once)
    torch.testing.assert_close(torch.autograd.grad(by_colour.sum(), out)[0], torch.autograd.grad(at_once.sum(), out)[0])


@pytest.mark.parametrize("likelihood", KINDS, ids=str)
def test_frequencies_equal_probabilities(likelihood: Likelihood) -> None:
    out, images = example(likelihood)
    params = unpacked(likelihood, out, images)
    for c in range(likelihood.channels):
        one = params[:1, ..., c, 1, 1]
        expected = likelihood.level_logits(one)[0].exp()
        assert (frequencies(likelihood, one) - expected).abs().max() < 1.01 / DRAWS


def test_draws_are_exact_given_uniforms() -> None:
    """The smallest level with u < F(level), F being the closed form of the mixture's distribution function."""
    likelihood = LogisticMixture(1, 256, components=3)
    out, _ = example(likelihood, shape=(50, 3, 3))
    uniforms = torch.rand(50, 1, 3, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    drawn = likelihood.draw_pixels(out, uniforms)
    logits, means, log_scales = out.double().unflatten(1, (3, 3)).unbind(1)
    shares = logits.softmax(1)

    def cdf(level: Tensor) -> Tensor:  # [50, 1, 3, 3] -> the same
        edge = (2 * level + 1) / 255 - 1
        below = (shares * torch.sigmoid((edge - means) / log_scales.exp())).sum(1, keepdim=True)
        return torch.where(level == 255, 1.0, torch.where(level < 0, 0.0, below))

    assert bool((uniforms < cdf(drawn) + 1e-12).all())
    assert bool((uniforms >= cdf(drawn - 1) - 1e-12).all())
    assert torch.equal(likelihood.draw(likelihood.unpack(out), uniforms), drawn)


def test_drawn_pixels_have_the_joint_distribution() -> None:
    """All 27 colours of three levels against the fused operator: chi-square, 26 degrees of freedom, p = 0.001."""
    likelihood, n = LogisticMixture(3, 3, components=2), 40_000
    out, _ = example(likelihood, shape=(1, 1, 1))
    uniforms = torch.rand(n, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(5))
    drawn = likelihood.draw_pixels(out[..., 0, 0].expand(n, -1), uniforms)
    every = torch.cartesian_prod(*[torch.arange(3)] * 3)
    expected = n * likelihood.log_prob_pixels(out.expand(27, -1, -1, -1), every[:, :, None, None]).exp().flatten()
    counts = torch.bincount((drawn * torch.tensor([9, 3, 1])).sum(1), minlength=27)
    assert float(((counts - expected) ** 2 / expected).sum()) < 54.1
    as_a_map = likelihood.draw_pixels(out.expand(1, -1, 40, 1000), uniforms.T.reshape(1, 3, 40, 1000))
    assert torch.equal(as_a_map.flatten(2)[0].T, drawn)


@pytest.mark.parametrize("temperature", [0.3, 2.0])
@pytest.mark.parametrize("channels", [1, 3])
def test_temperature_acts_on_logits_and_scales(channels: int, temperature: float) -> None:
    """The draws of the mixture whose logits are divided, and whose scales multiplied, by the temperature: after the
    least scale, and for what the earlier colours tell about the component too."""
    likelihood = LogisticMixture(channels, 16, components=3, min_log_scale=-1.0)
    plain = LogisticMixture(channels, 16, components=3, min_log_scale=-math.inf)
    out, _ = example(likelihood, shape=(400, 1, 2), dtype=torch.float64)
    changed = out.clone()
    changed[:, :3] /= temperature
    colours = changed[:, 3:].unflatten(1, (channels, -1, 3))
    colours[:, :, 1] = colours[:, :, 1].clamp(min=-1.0) + math.log(temperature)
    uniforms = torch.rand(400, channels, 1, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    drawn = likelihood.draw_pixels(out, uniforms, temperature)
    assert torch.equal(drawn, plain.draw_pixels(changed, uniforms))
    assert not torch.equal(drawn, likelihood.draw_pixels(out, uniforms))


def test_temperature_of_one_logistic() -> None:
    likelihood = DiscretizedLogistic(1, 16, min_log_scale=-1.0)
    params = torch.tensor([[0.3, -2.0]], dtype=torch.float64)
    scaled = torch.tensor([[0.3, -1.0 + math.log(0.5)]], dtype=torch.float64)
    expected = DiscretizedLogistic(1, 16).level_logits(scaled)[0].exp()
    assert (frequencies(likelihood, params, temperature=0.5) - expected).abs().max() < 1.01 / DRAWS


def test_temperature_zero_is_the_heaviest_component_at_its_mean() -> None:
    u = grid_uniforms(1)
    for mean, level in ((0.0, 127), (1 / 255, 128), (0.31, 167), (-3.0, 0), (9.0, 255)):  # 0.0 is an edge: the lower
        params = torch.tensor([[mean, -1.0]])
        assert DiscretizedLogistic(1, 256).draw(params, u, temperature=0).item() == level
    out = torch.tensor([[0.1, 0.2, 0.5, -0.5, -1.0, 3.0]])  # the second is heavier, though flat
    assert LogisticMixture(1, 256, components=2).draw_pixels(out, u[:, None], temperature=0).item() == 64
    colours = torch.zeros(1, 10)
    colours[0, 1], colours[0, 3], colours[0, 7] = 0.5, math.atanh(0.5), 0.2  # red's mean, c0, blue's mean
    drawn = LogisticMixture(3, 256, components=1).draw_pixels(colours, u.expand(1, 3), temperature=0)
    assert drawn.tolist() == [[191, 159, 153]]  # 0.5; 0.5 * 0.498; 0.2, in levels


def test_truncation_is_on_the_levels() -> None:
    likelihood = DiscretizedLogistic(1, 16)
    params = torch.tensor([[0.1, -1.0]])
    kept = frequencies(likelihood, params, top_k=3) > 0
    best = likelihood.level_logits(params)[0].topk(3)
    assert kept.nonzero()[:, 0].tolist() == sorted(best.indices.tolist())
    before_third = best.values[:2].exp().sum().item()
    assert torch.equal(kept, frequencies(likelihood, params, top_p=before_third + 1e-6) > 0)


@pytest.mark.parametrize("likelihood", KINDS, ids=str)
def test_mean_is_the_mean_of_the_draws(likelihood: Likelihood) -> None:
    out, images = example(likelihood)
    params = unpacked(likelihood, out, images)
    levels = torch.arange(likelihood.levels, dtype=torch.float64)
    for c in range(likelihood.channels):
        one = params[:1, ..., c, 0, 1]
        drawn = (frequencies(likelihood, one) * levels).sum().item()
        assert likelihood.mean(one).item() == pytest.approx(drawn, abs=likelihood.levels / DRAWS)  # type: ignore[attr-defined]


@pytest.mark.parametrize("likelihood", KINDS, ids=str)
def test_half_precision_and_empty_batches(likelihood: Likelihood) -> None:
    out, images = example(likelihood)
    low = out.to(torch.bfloat16)
    nats = likelihood.log_prob(unpacked(likelihood, low, images), images)
    torch.testing.assert_close(nats, likelihood.log_prob(unpacked(likelihood, low.float(), images), images))
    empty_out, no_images = example(likelihood, shape=(0, 3, 2))
    params = unpacked(likelihood, empty_out, no_images)
    assert likelihood.log_prob(params, no_images).shape == (0,)
    assert likelihood.draw(params, no_images.double()).shape == no_images.shape


def test_bad_input_is_refused_in_a_sentence() -> None:
    for make, sentence in [
        (lambda: LogisticMixture(2, 256), "for images of 1 or 3 channels, not 2"),
        (lambda: LogisticMixture(3, 256, components=0), "at least one component, not 0"),
        (lambda: LogisticMixture(3, 256, min_log_scale=math.nan), "min_log_scale must be a number"),
        (lambda: DiscretizedLogistic(3, 256, min_log_scale=math.inf), "min_log_scale must be a number"),
        (lambda: DiscretizedLogistic(3, 257), "2 to 256 levels, not 257"),
    ]:
        with pytest.raises(GenfastError, match=sentence):
            make()
    likelihood = LogisticMixture(3, 4, components=3)
    out, images = example(likelihood)
    params = likelihood.unpack(out, images)
    u = torch.zeros(2, 3, 3, 2, dtype=torch.float64)
    for call, sentence in [
        (lambda: likelihood.unpack(out), "needs images"),
        (lambda: likelihood.unpack(out[:, 1:], images), "unpacks"),
        (lambda: likelihood.unpack(out, images + 4), "must hold levels 0 to 3"),
        (lambda: likelihood.log_prob_pixels(out, images[:1]), "2 sets of parameters for 1 images"),
        (lambda: likelihood.log_prob_map(params[:, 1:], images), "see unpack"),
        (lambda: likelihood.log_prob_map(params, images.float()), "integer levels"),
        (lambda: likelihood.draw_pixels(out, u[:, :1]), "needs its own uniform"),
        (lambda: likelihood.draw_pixels(out[:, 1:], u), r"out must be \[B, 30, ...\]"),
        (lambda: likelihood.draw_pixels(out, u, temperature=-1), "temperature must be"),
        (lambda: likelihood.draw_pixels(out * math.nan, u), "not a distribution"),
        (lambda: likelihood.draw_pixels(out + math.inf, u), "not a distribution"),
        (lambda: likelihood.draw_pixels(out, u + 1), r"lie in \[0, 1\)"),
        (lambda: DiscretizedLogistic(3, 4).level_logits(out), "see unpack"),
        (lambda: DiscretizedLogistic(1, 4).draw(torch.full((1, 2), math.inf), u[:1, 0, 0, 0]), "not a distribution"),
    ]:
        with pytest.raises(GenfastError, match=sentence):
            call()
