"""Which sub-pixels a logit depends on, by gradients: exactly those that the model's order and reach allow."""

import math

import pytest
import torch
from torch import Tensor

from genfast.models import (
    GatedPixelCNN,
    GatedPixelCNNConfig,
    ImageModel,
    PixelCNN,
    PixelCNNConfig,
    PixelCNNPP,
    PixelCNNPPConfig,
    PixelRNN,
    PixelRNNConfig,
    PixelSNAIL,
    PixelSNAILConfig,
)


def dependencies(model: ImageModel, condition: Tensor | None = None, tries: int = 6) -> Tensor:
    """True where the logits of one sub-pixel have a gradient with respect to another.  # [C, H, W, C, H, W]: out, in

    Image i of a batch of C * H * W answers for sub-pixel i. Several random inputs: a ReLU may be closed for one.
    """
    model.double()
    shape, n = model.image_shape, math.prod(model.image_shape)
    seen = torch.zeros(n, n, dtype=torch.bool)
    for seed in range(tries):
        generator = torch.Generator().manual_seed(seed)
        x = torch.randn(1, *shape, generator=generator, dtype=torch.float64).repeat(n, 1, 1, 1).requires_grad_()
        params = model(x, None if condition is None else condition.expand(n, *condition.shape[1:]))
        params = params.reshape(n, -1, n)  # [sub-pixel asked for, logits of one sub-pixel, all sub-pixels]
        weights = torch.rand(params.shape[1], generator=generator, dtype=torch.float64) + 0.5
        (weights @ params.diagonal(dim1=0, dim2=2)).sum().backward()
        assert x.grad is not None
        assert torch.isfinite(x.grad).all()
        seen |= (x.grad != 0).reshape(n, n)
    return seen.reshape(*shape, *shape)


def expected(model: ImageModel) -> Tensor:
    """The same from geometry alone: rows above and pixels to the left within reach, then the colours in order."""
    config = model.config
    if isinstance(config, PixelRNNConfig):
        return expected_of_rnn(config)
    if isinstance(config, PixelCNNPPConfig | PixelSNAILConfig):
        return everything_earlier(config)
    assert isinstance(config, PixelCNNConfig | GatedPixelCNNConfig)
    moves = config.blocks if isinstance(config, PixelCNNConfig) else config.layers - 1
    first, step = config.first_kernel // 2, config.kernel // 2
    reach = first + moves * step
    channels, height, width = model.image_shape
    table = torch.zeros(*model.image_shape, *model.image_shape, dtype=torch.bool)
    for y in range(height):
        for x in range(width):
            for y2 in range(height):
                for x2 in range(width):
                    above, right = y - y2, x2 - x
                    if above == 0 and right == 0:
                        table[:, y, x, :, y2, x2] = torch.ones(channels, channels).tril(-1).bool()
                    elif above == 0:
                        table[:, y, x, :, y2, x2] = -reach <= right < 0
                    elif 1 <= above <= reach:
                        blind = isinstance(config, PixelCNNConfig) and right > first + min(above - 1, moves) * step
                        table[:, y, x, :, y2, x2] = abs(right) <= reach and not blind
    return table


def everything_earlier(config: PixelRNNConfig | PixelCNNPPConfig | PixelSNAILConfig) -> Tensor:
    channels, height, width = config.image_shape
    n = math.prod(config.image_shape)
    order = torch.arange(n).reshape(height, width, channels).permute(2, 0, 1)  # row, column, then colour
    return order[:, :, :, None, None, None] > order


def expected_of_rnn(config: PixelRNNConfig) -> Tensor:
    """Diagonal: every earlier sub-pixel. Row: what the first filter sees from any pixel that the layers reach."""
    channels, height, width = config.image_shape
    n = math.prod(config.image_shape)
    if config.variant == "diagonal":
        return everything_earlier(config)
    first, r = config.first_kernel // 2, config.kernel // 2
    filters, layer = torch.zeros(2, *config.image_shape, *config.image_shape).unbind(0)
    for y in range(height):
        for x in range(width):
            for y2 in range(y + 1):
                for x2 in range(width):
                    above, right = y - y2, x2 - x
                    own = torch.ones(channels, channels).tril()
                    if above == 0 and right == 0:
                        filters[:, y, x, :, y2, x2], layer[:, y, x, :, y2, x2] = own.tril(-1), own
                        continue
                    filters[:, y, x, :, y2, x2] = above <= first and abs(right) <= first and (above > 0 or right < 0)
                    states = range(max(0, x - above * r), min(width, x + above * r + 1))  # of row y2
                    layer[:, y, x, :, y2, x2] = any(0 <= at - x2 <= r for at in states)
    reach = filters.reshape(n, n)
    for _ in range(config.layers):
        reach = (layer.reshape(n, n) @ reach).clamp(max=1)
    return reach.bool().reshape(*config.image_shape, *config.image_shape)


SHAPES = [(1, 6, 7), (3, 5, 6), (2, 3, 4), (1, 7, 1), (3, 4, 1), (3, 1, 5), (1, 1, 1), (3, 1, 1)]
SIZES = [(3, 3, 2), (5, 3, 3), (7, 3, 2), (5, 5, 2), (3, 1, 2), (5, 3, 1)]  # first kernel, kernel, layers


def pixelcnn(shape: tuple[int, int, int], levels: int, likelihood: str, size: tuple[int, int, int]) -> PixelCNN:
    torch.manual_seed(0)
    first_kernel, kernel, layers = size
    return PixelCNN(
        PixelCNNConfig(
            shape, levels, hidden=24, blocks=layers - 1, head=24, first_kernel=first_kernel, kernel=kernel,
            likelihood=likelihood,
        )
    )  # fmt: skip


def gated(
    shape: tuple[int, int, int], levels: int, likelihood: str, size: tuple[int, int, int], **condition: int
) -> GatedPixelCNN:
    torch.manual_seed(0)
    first_kernel, kernel, layers = size
    return GatedPixelCNN(
        GatedPixelCNNConfig(
            shape, levels, hidden=12, layers=layers, head=24, first_kernel=first_kernel, kernel=kernel,
            likelihood=likelihood, **condition,
        )
    )  # fmt: skip


def pixelrnn(
    variant: str, shape: tuple[int, int, int], levels: int, likelihood: str, size: tuple[int, int, int]
) -> PixelRNN:
    torch.manual_seed(0)
    first_kernel, kernel, layers = size
    return PixelRNN(
        PixelRNNConfig(
            shape, levels, variant=variant, hidden=8, layers=layers, head=24, first_kernel=first_kernel,
            kernel=kernel, likelihood=likelihood,
        )
    )  # fmt: skip


def row(*args) -> PixelRNN:
    return pixelrnn("row", *args)


def diagonal(*args) -> PixelRNN:
    return pixelrnn("diagonal", *args)


MODELS = [pixelcnn, gated, row, diagonal]


@pytest.mark.parametrize("make", MODELS)
@pytest.mark.parametrize(("levels", "likelihood"), [(2, "bernoulli"), (2, "categorical"), (5, "categorical")])
@pytest.mark.parametrize("shape", SHAPES)
def test_every_shape_and_likelihood(make, shape, levels, likelihood):
    model = make(shape, levels, likelihood, SIZES[0])
    assert torch.equal(dependencies(model), expected(model))


@pytest.mark.parametrize("make", MODELS)
@pytest.mark.parametrize("size", SIZES)
def test_every_filter_size(make, size):
    model = make((3, 5, 6), 2, "bernoulli", size)
    assert torch.equal(dependencies(model), expected(model))


@pytest.mark.parametrize("shape", [(1, 6, 7), (3, 5, 6)])
@pytest.mark.parametrize(("name", "value"), [("num_classes", torch.tensor([2])), ("condition_dim", torch.randn(1, 4))])
def test_conditioned(shape, name, value):
    model = gated(shape, 2, "bernoulli", SIZES[0], **{name: 4})
    assert torch.equal(dependencies(model, value), expected(model))


@pytest.mark.parametrize("make", MODELS)
def test_colour_order(make):
    """Within one pixel G reads R, B reads R and G, and never the reverse; of other pixels all colours are read."""
    seen = dependencies(make((3, 3, 3), 4, "categorical", SIZES[0]))
    assert seen[:, 1, 1, :, 1, 1].tolist() == [[False, False, False], [True, False, False], [True, True, False]]
    assert seen[:, 1, 1, :, 1, 0].all()
    assert seen[:, 1, 1, :, 0, 1].all()


def test_blind_spot():
    """PixelCNN misses pixels above and far to the right, however deep; Gated PixelCNN sees every earlier pixel."""
    shape = (1, 5, 9)
    deep = (3, 3, 9)
    blind = dependencies(pixelcnn(shape, 2, "bernoulli", deep))[0, 3, 1, 0]
    assert blind[2].tolist() == [True, True, True] + [False] * 6  # one row up: first_kernel // 2 columns to the right
    assert blind[1].tolist() == [True, True, True, True] + [False] * 5
    seeing = dependencies(gated(shape, 2, "bernoulli", deep))[0, 3, 1, 0]
    assert seeing[:3].all()
    assert seeing[3].tolist() == [True] + [False] * 8
    assert not seeing[4].any()


def test_pixelrnn_blind_spot():
    """One layer of 3x3 filters: the row variant misses what is far above and aside, the diagonal one nothing, not even
    the last pixel of the row above, which no feature of its own row contains."""
    shape, one = (1, 5, 9), (3, 3, 1)
    blind = dependencies(row(shape, 2, "bernoulli", one))[0, 3, 4, 0]
    assert blind[2].tolist() == [
        False,
        True,
        True,
        True,
        True,
        True,
        False,
        False,
        False,
    ]  # features 2 to 5 here and 3, 4 below
    seeing = dependencies(diagonal(shape, 2, "bernoulli", one))[0, 3, 1, 0]
    assert seeing[:3].all()
    assert seeing[3].tolist() == [True] + [False] * 8
    assert not seeing[4].any()


def pixelcnn_pp(shape: tuple[int, int, int], scales: int = 3, **values: int) -> PixelCNNPP:
    """Levels between the whole ones have gradients too, so the colours show as well."""
    torch.manual_seed(0)
    config = PixelCNNPPConfig(shape, 256, filters=8, resnets=2, scales=scales, components=2, dropout=0.0, **values)
    return PixelCNNPP(config)


@pytest.mark.parametrize("scales", [2, 3])
@pytest.mark.parametrize("shape", [(1, 6, 7), (3, 5, 6), (1, 7, 1), (3, 4, 1), (3, 1, 5), (1, 1, 1), (3, 1, 1)])
def test_pixelcnn_pp(shape, scales):
    """Every earlier sub-pixel, of small images: the streams run down, where all is near, and up again."""
    model = pixelcnn_pp(shape, scales)
    assert torch.equal(dependencies(model, tries=3), expected(model))


def test_conditioned_pixelcnn_pp():
    model = pixelcnn_pp((3, 4, 5), num_classes=3)
    assert torch.equal(dependencies(model, torch.tensor([2]), tries=3), expected(model))


def test_a_leak_of_pixelcnn_pp_is_seen():
    """One column too far to the right on the way up: the place of a tap in a transposed convolution."""
    model = pixelcnn_pp((1, 4, 6), scales=2)
    model.larger[0].horizontal.right = False
    seen = dependencies(model, tries=3)
    assert bool((seen & ~expected(model)).any())


@pytest.mark.parametrize("shape", [(1, 6, 7), (3, 4, 5), (1, 7, 1), (3, 1, 5), (1, 1, 1), (3, 1, 1)])
@pytest.mark.parametrize("more", [{}, {"heads": 2, "num_classes": 3}], ids=str)
def test_pixelsnail(shape, more):
    """Every earlier sub-pixel, by one block: attention reaches all of the image."""
    torch.manual_seed(0)
    sizes = {"filters": 8, "blocks": 1, "resnets": 1, "key_channels": 4, "value_channels": 6, "components": 2}
    model = PixelSNAIL(PixelSNAILConfig(shape, 256, **sizes, dropout=0.0, **more))
    condition = torch.tensor([2]) if more else None
    assert torch.equal(dependencies(model, condition, tries=3), expected(model))


def test_a_leak_is_seen():
    """The test can fail: a filter that reads its own pixel shows up in the gradients."""
    model = pixelcnn((1, 4, 4), 2, "bernoulli", SIZES[0])
    model.first.mask_type = "B"
    with torch.no_grad():
        model.first.weight[:, :, 1, 1] = 1.0
    seen = dependencies(model)
    assert not torch.equal(seen, expected(model))
    assert seen[0, 2, 2, 0, 2, 2]
