"""Drawing from a VAE or a GAN, and pictures of their latent spaces."""

import math

import pytest
import torch
from torch.distributions import Normal

from genfast.errors import GenfastError
from genfast.models import GAN, VAE, Autoencoder, AutoencoderConfig, GANConfig, VAEConfig
from genfast.sampling import LatentSampler, compile_sampler, shades
from genfast.sampling.explore import interpolation, manifold, reconstructions, traversal, walk
from genfast.sampling.latent import normals
from genfast.sampling.noise import uniforms

IMAGES = torch.randint(0, 5, (6, 1, 4, 5), generator=torch.Generator().manual_seed(0))


def vae(**settings: object) -> VAE:
    torch.manual_seed(0)
    values = {"levels": 5, "network": "mlp", "latent": 3, "hidden": 8, **settings}
    return VAE(VAEConfig((1, 4, 5), **values)).eval()  # type: ignore[arg-type]


def coder() -> Autoencoder:
    torch.manual_seed(0)
    return Autoencoder(AutoencoderConfig((1, 4, 5), levels=5, network="mlp", latent=3, hidden=8)).eval()


def gan(**settings: object) -> GAN:
    torch.manual_seed(0)
    values = {"levels": 5, "network": "dcgan", "latent": 3, "channels": 2, **settings}
    model = GAN(GANConfig((1, 4, 5), **values)).eval()  # type: ignore[arg-type]
    for parameter in model.generator.parameters():
        torch.nn.init.normal_(parameter)  # the initial weights paint everything gray
    return model


# ---- drawing ----


def test_z_is_standard_normal_and_apart_from_the_pixels() -> None:
    z = normals(7, 0, 4000, 5)
    assert z.shape == (4000, 5)
    assert z.mean().abs() < 0.03
    assert (z.std() - 1).abs() < 0.02
    assert (z.T.corrcoef() - torch.eye(5)).abs().max() < 0.06
    u = Normal(0.0, 1.0).cdf(z)
    assert not torch.isclose(u[:, 0], uniforms(7, 0, 4000, (1, 1, 1))[:, 0, 0, 0]).any()


@pytest.mark.parametrize("make", [vae, gan])
def test_image_k_of_a_seed_is_the_same_in_any_number(make) -> None:
    sampler = LatentSampler(make())
    whole = sampler.sample(7, seed=3)
    assert whole.shape == (7, 1, 4, 5)
    assert whole.dtype == torch.uint8
    assert whole.max() < 5
    assert torch.equal(sampler.sample(7, seed=3, batch_size=2), whole)
    assert torch.equal(sampler.sample(3, seed=3, first=4), whole[4:])
    assert not torch.equal(sampler.sample(7, seed=4), whole)


def test_a_temperature_is_of_pixels_that_are_drawn() -> None:
    assert LatentSampler(vae()).sample(2, temperature=0).shape == (2, 1, 4, 5)
    with pytest.raises(GenfastError, match="temperature"):
        LatentSampler(gan()).sample(2, temperature=0)


def test_a_gan_draws_the_image_of_z_in_whole_levels() -> None:
    model = gan(num_classes=3)
    labels = torch.tensor([0, 2, 1])
    expected = model.expected(normals(4, 0, 3, 3).float(), labels)
    torch.testing.assert_close(LatentSampler(model).expected(3, 4, condition=labels), expected)
    assert torch.equal(LatentSampler(model).sample(3, 4, condition=labels), expected.round().to(torch.uint8))


def test_the_expected_image_is_the_mean_of_the_draws() -> None:
    model = vae()
    sampler = LatentSampler(model)
    z = normals(0, 0, 1, 3).float()
    torch.testing.assert_close(sampler.expected(1), model.expected(z))
    params = model.decode(z).expand(4000, -1, -1, -1, -1)
    draws = model.likelihood.draw(params, torch.rand(4000, 1, 4, 5, dtype=torch.float64)).double()
    assert ((draws.mean(0) - sampler.expected(1)[0]).abs() < 5 * draws.std(0) / math.sqrt(4000) + 1e-6).all()


def test_labels_choose_what_is_drawn() -> None:
    sampler = LatentSampler(vae(num_classes=2))
    zeros, ones = (sampler.expected(3, condition=torch.full((3,), label)) for label in (0, 1))
    assert not torch.allclose(zeros, ones)
    mixed = sampler.expected(3, condition=torch.tensor([0, 1, 0]), batch_size=2)
    torch.testing.assert_close(mixed, torch.stack([zeros[0], ones[1], zeros[2]]))
    with pytest.raises(GenfastError, match="label"):
        sampler.sample(2)
    with pytest.raises(GenfastError, match="1 rows for 2 images"):
        sampler.sample(2, condition=torch.tensor([0]))


def test_what_cannot_be_drawn() -> None:
    for n in (0, -1, 1.5, True):
        with pytest.raises(GenfastError, match="at least 1"):
            LatentSampler(vae()).sample(n)  # type: ignore[arg-type]
    with pytest.raises(GenfastError, match="batch size"):
        LatentSampler(vae()).sample(1, batch_size=0)
    with pytest.raises(GenfastError, match="seed"):
        LatentSampler(vae()).sample(1, seed=-1)
    with pytest.raises(GenfastError, match="no prior"):
        LatentSampler(coder())  # type: ignore[arg-type]
    with pytest.raises(GenfastError, match="LatentSampler"):
        compile_sampler(vae())  # type: ignore[arg-type]
    with pytest.raises(GenfastError, match="pixel by pixel"):
        compile_sampler(coder())  # type: ignore[arg-type]


# ---- pictures ----


@pytest.mark.parametrize("make", [vae, coder])
def test_reconstructions_and_interpolations(make) -> None:
    model = make()
    pair = reconstructions(model, IMAGES)
    assert torch.equal(pair[:6], IMAGES.float())
    torch.testing.assert_close(pair[6:], model.reconstruct(IMAGES), check_dtype=False)
    rows = interpolation(model, IMAGES[:4], 5).unflatten(0, (2, 5))
    ends = model.reconstruct(IMAGES[:4])
    torch.testing.assert_close(rows[:, 0], ends[0::2])
    torch.testing.assert_close(rows[:, -1], ends[1::2])
    middle = model.features(IMAGES[:4]).unflatten(0, (2, 2)).mean(1)
    torch.testing.assert_close(rows[:, 2], model.expected(middle))
    with pytest.raises(GenfastError, match="pairs"):
        interpolation(model, IMAGES[:3], 5)
    with pytest.raises(GenfastError, match="2 steps"):
        interpolation(model, IMAGES[:2], 1)


@pytest.mark.parametrize("make", [vae, gan])
def test_a_walk_goes_from_one_draw_to_another_at_an_even_angle(make) -> None:
    model = make(num_classes=2)
    labels = torch.tensor([1, 0])
    seen: list[torch.Tensor] = []
    real = model.expected
    model.expected = lambda z, given: (seen.append(z.clone()), real(z, given))[1]
    images = walk(model, 2, 5, seed=9, labels=labels)
    z = seen[0].unflatten(0, (2, 5)).double()
    ends = normals(9, 0, 4, 3).unflatten(0, (2, 2))
    torch.testing.assert_close(z[:, [0, -1]], ends, rtol=1e-6, atol=1e-6)
    angles = torch.cosine_similarity(z[:, :-1], z[:, 1:], dim=2).acos()
    torch.testing.assert_close(angles, angles[:, :1].expand(-1, 4), rtol=1e-4, atol=1e-4)
    lengths = z.norm(dim=2)
    torch.testing.assert_close(lengths.diff(dim=1), (lengths[:, -1:] - lengths[:, :1]).expand(-1, 4) / 4)
    with torch.inference_mode():
        torch.testing.assert_close(images, real(seen[0], labels.repeat_interleave(5)))
    with pytest.raises(GenfastError, match="2 steps"):
        walk(model, 1, 1)
    with pytest.raises(GenfastError, match="no prior"):
        walk(coder(), 1, 5)  # type: ignore[arg-type]


def test_a_traversal_moves_one_dimension() -> None:
    model = vae()
    image = IMAGES[:1]
    mean, log_variance = model.moments(image)
    kl = mean.square() + log_variance.exp() - log_variance
    order = kl[0].argsort(descending=True)
    rows = traversal(model, image, 7, 2).unflatten(0, (2, 7))
    for row, dimension in enumerate(order[:2].tolist()):
        for step, value in enumerate(range(-3, 4)):
            z = mean.clone()
            z[0, dimension] = value
            torch.testing.assert_close(rows[row, step], model.expected(z)[0])
    assert len(traversal(model, image, 2, 99)) == 6
    with pytest.raises(GenfastError, match="no posterior"):
        traversal(coder(), image, 7, 2)
    with pytest.raises(GenfastError, match="no posterior"):
        traversal(gan(), image, 7, 2)


@pytest.mark.parametrize("make", [vae, gan])
def test_the_manifold_lies_at_gaussian_quantiles(make) -> None:
    model = make(latent=2, num_classes=3)
    square = manifold(model, 5, torch.tensor([1])).unflatten(0, (5, 5))
    label = torch.tensor([1])
    torch.testing.assert_close(square[2, 2], model.expected(torch.zeros(1, 2), label)[0])  # the median
    quantile = Normal(0.0, 1.0).icdf(torch.tensor(0.9)).item()
    torch.testing.assert_close(square[2, 4], model.expected(torch.tensor([[quantile, 0.0]]), label)[0])
    torch.testing.assert_close(square[4, 2], model.expected(torch.tensor([[0.0, quantile]]), label)[0])
    with pytest.raises(GenfastError, match="2 latent dimensions"):
        manifold(vae(), 5)
    with pytest.raises(GenfastError, match="no prior"):
        manifold(coder(), 5)


def test_shades() -> None:
    assert shades(torch.tensor([0.0, 2.0, 4.0]), 5).tolist() == [0, 128, 255]
