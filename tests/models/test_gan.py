"""The GAN's networks, and what each turn of its game computes."""

import copy
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from genfast.errors import GenfastError
from genfast.models import GAN, GANConfig
from genfast.models.gan import PRESETS
from genfast.models.gan_networks import ConditionalBatchNorm
from genfast.models.gan_objectives import discriminator_loss, generator_loss

NETWORKS = ("mlp", "dcgan", "sngan")
OBJECTIVES = ("non_saturating", "minimax", "hinge", "wasserstein")


def tiny(**settings: object) -> GAN:
    torch.manual_seed(0)
    shape = settings.pop("image_shape", (1, 4, 5))
    values = {"levels": 5, "latent": 3, "hidden": 8, "channels": 2, **settings}
    return GAN(GANConfig(shape, **values))  # type: ignore[arg-type]


def pictures(n: int = 6, model: GAN | None = None) -> Tensor:
    shape = (1, 4, 5) if model is None else model.image_shape
    return torch.randint(0, 5, (n, *shape), generator=torch.Generator().manual_seed(1))


def take_turn(model: GAN, turn: str, labels: Tensor | None = None) -> dict[str, Tensor]:
    torch.manual_seed(3)
    loss, scores = model.turn_loss(turn, pictures(model=model), labels, 0)
    assert loss.shape == (6,)
    assert all(values.shape == (6,) for values in scores.values())
    model.zero_grad()
    loss.mean().backward()
    return scores


# ---- the networks ----


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 32, 32), (1, 8, 8), (1, 4, 5), (2, 9, 13), (1, 15, 8)])
def test_every_size_that_can_be_reached(network: str, shape: tuple[int, int, int]) -> None:
    model = tiny(network=network, image_shape=shape, num_classes=3)
    labels = torch.tensor([0, 2, 1])
    images = model.decode(torch.randn(3, 3), labels)
    assert images.shape == (3, *shape)
    assert images.abs().max() <= 1
    assert model.judge(images, labels).shape == (3,)


def test_what_a_size_takes() -> None:
    assert GANConfig((1, 28, 28)).sizes == [(28, 28), (14, 14), (7, 7)]
    assert GANConfig((3, 32, 32)).sizes == [(32, 32), (16, 16), (8, 8), (4, 4)]
    assert GANConfig((1, 9, 13)).sizes == [(9, 13), (5, 7)]
    assert GANConfig((1, 2, 2)).sizes == [(2, 2), (1, 1)]
    with pytest.raises(GenfastError, match=r"halves height and width 3 times.*8x8 pixels, not 4x32: use network mlp"):
        GANConfig((1, 4, 32))
    assert tiny(network="mlp", image_shape=(1, 1, 32)).decode(torch.zeros(1, 3)).shape == (1, 1, 1, 32)


def test_sngan_is_the_network_of_the_paper() -> None:
    """Table 3 of arXiv 1802.05957, for 32x32 images: (input, output channels, kernel, stride) of every layer."""
    model = GAN(PRESETS["cifar10"])

    def layers(part: torch.nn.Module, kind: type) -> list[tuple[int, ...]]:
        found = [m for m in part.modules() if isinstance(m, kind)]
        return [(m.in_channels, m.out_channels, m.kernel_size[0], m.stride[0]) for m in found]

    ups = [(512, 256, 4, 2), (256, 128, 4, 2), (128, 64, 4, 2)]
    assert layers(model.generator, torch.nn.ConvTranspose2d) == ups
    assert layers(model.generator, torch.nn.Conv2d) == [(64, 3, 3, 1)]
    assert layers(model.discriminator, torch.nn.Conv2d) == [
        (3, 64, 3, 1), (64, 64, 4, 2), (64, 128, 3, 1), (128, 128, 4, 2), (128, 256, 3, 1), (256, 256, 4, 2),
        (256, 512, 3, 1),
    ]  # fmt: skip
    assert model.discriminator.head.in_features == 512 * 4 * 4


def test_conditional_batch_norm_is_batch_norm_with_the_gain_and_bias_of_the_class() -> None:
    torch.manual_seed(0)
    layer, plain = ConditionalBatchNorm(4, 3), torch.nn.BatchNorm2d(4, affine=False)
    torch.nn.init.normal_(layer.gain.weight)
    torch.nn.init.normal_(layer.bias.weight)
    x, labels = torch.randn(6, 4, 3, 2), torch.tensor([0, 1, 2, 0, 1, 2])
    expected = plain(x) * layer.gain.weight.T[labels][:, :, None, None] + layer.bias.weight.T[labels][:, :, None, None]
    torch.testing.assert_close(layer(x, F.one_hot(labels, 3).float()), expected)


def test_a_label_is_projected_on_the_features() -> None:
    """Equation 4 of arXiv 1802.05637: logit = head(features) + <embedding of the label, features>."""
    model = tiny(num_classes=3).eval()
    images, labels = pictures(3), torch.tensor([2, 0, 1])
    features = model.discriminator.layers(model.scale(images))
    embedded = model.discriminator.projection.weight.T[labels]
    expected = model.discriminator.head(features)[:, 0] + (embedded * features).sum(1)
    torch.testing.assert_close(model.judge(images, labels), expected)


@pytest.mark.parametrize("network", NETWORKS)
def test_the_label_reaches_both_networks(network: str) -> None:
    model, labels = tiny(network=network, num_classes=3).eval(), torch.tensor([0, 1, 2, 0, 1, 2])
    z = torch.randn(6, 3)
    others = (labels + 1) % 3
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, 0, 0.5)
    assert not torch.isclose(model.decode(z, labels), model.decode(z, others)).flatten(1).all(1).any()
    assert not torch.isclose(model.judge(pictures(), labels), model.judge(pictures(), others)).any()


# ---- turns ----


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_each_turn_gives_gradients_to_its_own_player_alone(network: str, objective: str) -> None:
    model, labels = tiny(network=network, objective=objective, num_classes=3), torch.tensor([0, 1, 2, 0, 1, 2])
    for turn, other in (("discriminator", "generator"), ("generator", "discriminator")):
        take_turn(model, turn, labels)
        assert all(p.grad is None for p in model.get_submodule(other).parameters())
        learning = dict(model.get_submodule(turn).named_parameters())
        assert all(p.grad is not None for p in learning.values())
        assert sum(p.grad.abs().sum() > 0 for p in learning.values()) > len(learning) / 2  # type: ignore[union-attr]
        assert all(p.requires_grad for p in model.parameters())


def test_the_discriminators_turn_builds_no_graph_of_the_generator(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny()
    made: list[Tensor] = []
    model.generator.register_forward_hook(lambda module, given, out: made.append(out))
    take_turn(model, "discriminator")
    assert [out.requires_grad for out in made] == [False]
    take_turn(model, "generator")
    assert [out.requires_grad for out in made] == [False, True]


def test_the_generators_turn_computes_no_gradients_of_the_discriminators_weights() -> None:
    """Not merely none that are kept: while its graph was built, no weight of the discriminator wanted one."""
    model = tiny()
    seen: list[bool] = []
    model.discriminator.layers.register_forward_hook(
        lambda module, given, out: seen.append(any(p.requires_grad for p in module.parameters()))
    )
    take_turn(model, "generator")
    take_turn(model, "discriminator")
    assert seen == [False, True, True]


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_the_losses_are_those_of_the_objective(objective: str) -> None:
    model = tiny(network="mlp", objective=objective, discriminator_norm="none", penalty=0.0)
    images = pictures()
    torch.manual_seed(3)
    fake = model.judge(model.decode(torch.randn(6, 3)))
    expected = discriminator_loss(objective, model.judge(images), fake)  # type: ignore[arg-type]
    torch.testing.assert_close(take_turn(model, "discriminator")["discriminator_loss"], expected)
    torch.testing.assert_close(
        take_turn(model, "generator")["generator_loss"], generator_loss(objective, fake)  # type: ignore[arg-type]
    )  # fmt: skip


def test_the_penalty_is_paid_in_the_discriminators_turn() -> None:
    free, paid = (take_turn(tiny(objective="wasserstein", penalty=p), "discriminator") for p in (0.0, 3.0))
    torch.testing.assert_close(
        paid["discriminator_loss"], free["discriminator_loss"] + 3 * free["gradient_penalty"]
    )  # fmt: skip


def test_whose_turn_it_is() -> None:
    model = tiny(discriminator_steps=3)
    generator = [step for step in range(9) if "generator" in model.turns(step)]
    assert generator == [2, 5, 8]
    assert all(model.turns(step)[0] == "discriminator" for step in range(9))


# ---- spectral normalization ----


def test_exactly_one_power_iteration_a_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """In the discriminator's turn, shared by real and generated images and the penalty; none in the generator's."""
    model = tiny(network="sngan", objective="wasserstein")
    counts = dict.fromkeys(range(len(model.discriminator.spectral)), 0)
    for i, layer in enumerate(model.discriminator.spectral):
        norm = layer.parametrizations.weight[0]

        def counted(*args, i=i, real=norm._power_method):
            counts[i] += 1
            assert args[1] == 1  # iterations
            return real(*args)

        monkeypatch.setattr(norm, "_power_method", counted)
    take_turn(model, "discriminator")
    assert set(counts.values()) == {1}
    before = {name: value.clone() for name, value in model.discriminator.named_buffers()}
    take_turn(model, "generator")
    model.eval().judge(pictures())
    assert set(counts.values()) == {1}
    assert all(torch.equal(before[name], value) for name, value in model.discriminator.named_buffers())
    model.train()
    take_turn(model, "discriminator")
    assert set(counts.values()) == {2}


def test_spectral_normalization_makes_every_layer_of_norm_1() -> None:
    model = tiny(network="sngan", num_classes=3)
    labels = torch.tensor([0, 1, 2, 0, 1, 2])
    for _ in range(60):
        take_turn(model, "discriminator", labels)
    model.eval()
    assert len(model.discriminator.spectral) == 5  # three convolutions, head, projection
    for layer in model.discriminator.spectral:
        assert torch.linalg.matrix_norm(layer.weight.flatten(1), 2).item() == pytest.approx(1, rel=1e-3)


def test_power_iterations_are_in_float32_under_autocast() -> None:
    exact, half = tiny(network="sngan"), tiny(network="sngan")
    take_turn(exact, "discriminator")
    with torch.autocast("cpu", torch.bfloat16):
        take_turn(half, "discriminator")
    for (name, a), b in zip(exact.discriminator.named_buffers(), half.discriminator.buffers(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-7, msg=name)


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_half_precision_changes_little(objective: str) -> None:
    exact, half = (tiny(network="sngan", objective=objective) for _ in range(2))
    expected = take_turn(exact, "discriminator")
    with torch.autocast("cpu", torch.bfloat16):
        found = take_turn(half, "discriminator")
    for name, values in expected.items():
        torch.testing.assert_close(found[name], values, rtol=0.1, atol=0.05)


def test_a_copy_normalizes_its_own_weights() -> None:
    """The moving average is a copy: a power iteration of it must not move the original's vectors."""
    model = tiny(network="sngan")
    before = {name: value.clone() for name, value in model.named_buffers()}
    other = copy.deepcopy(model)
    take_turn(other, "discriminator")
    assert all(torch.equal(before[name], value) for name, value in model.named_buffers())
    assert any(
        not torch.equal(before[name], value)
        for name, value in other.discriminator.named_buffers(prefix="discriminator")
    )


# ---- what it is for ----


def test_images_in_levels() -> None:
    model, z = tiny().eval(), torch.randn(4, 3)
    expected = model.expected(z)
    torch.testing.assert_close(model.scale(model.draw(z, lambda: torch.empty(0))), model.decode(z), atol=0.26, rtol=0)
    torch.testing.assert_close(expected, (model.decode(z) + 1) * 2)
    assert torch.equal(model.draw(z, lambda: torch.empty(0)), expected.round().to(torch.uint8))
    for options in ({"temperature": 0.5}, {"top_k": 3}, {"top_p": 0.9}):
        with pytest.raises(GenfastError, match="no distribution over the levels"):
            model.draw(z, lambda: torch.empty(0), **options)


def test_there_is_no_density() -> None:
    model = tiny()
    for ask in (model.log_prob, model.score):
        with pytest.raises(GenfastError, match="has no density") as error:
            ask(pictures())
        assert str(error.value).count(". ") == 0


def test_what_cannot_be_asked() -> None:
    model = tiny(num_classes=3)
    with pytest.raises(GenfastError, match=r"\[B, 3\]"):
        model.decode(torch.zeros(2, 4), torch.tensor([0, 1]))
    with pytest.raises(GenfastError, match="label 0 to 2"):
        model.decode(torch.zeros(2, 3))
    with pytest.raises(GenfastError, match="0 to 2, but these are 1 to 3"):
        model.judge(pictures(2), torch.tensor([1, 3]))
    with pytest.raises(GenfastError, match="unconditional"):
        tiny().decode(torch.zeros(2, 3), torch.tensor([0, 1]))


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"network": "resnet"}, "network must be one of mlp, dcgan, sngan"),
        ({"objective": "lsgan"}, "objective must be one of non_saturating"),
        ({"discriminator_norm": "group"}, "discriminator_norm must be one of"),
        ({"latent": 0}, "latent"),
        ({"penalty": -1.0}, "penalty"),
        ({"penalty": float("nan")}, "penalty"),
        ({"discriminator_steps": 0}, "discriminator_steps"),
        ({"num_classes": 0}, "num_classes"),
        ({"objective": "wasserstein", "discriminator_norm": "batch"}, "each image alone"),
        ({"network": "mlp", "discriminator_norm": "batch"}, "fully connected"),
    ],
)
def test_bad_settings_are_refused(values: dict, words: str) -> None:
    with pytest.raises(GenfastError, match=words):
        GANConfig((1, 8, 8), **values)


def test_what_auto_normalization_is() -> None:
    config = GANConfig((1, 8, 8))
    assert config.norm == "batch"
    assert replace(config, objective="wasserstein").norm == "layer"
    assert replace(config, network="sngan").norm == "spectral"
    assert replace(config, network="mlp").norm == "none"
    assert replace(config, discriminator_norm="spectral").norm == "spectral"
