"""ShiftedConv2d: where its filter lies, its weight, and initialisation by data."""

import pytest
import torch
import torch.nn.functional as F

from genfast.nn import ShiftedConv2d, initialized_by_data


def seen(layer: ShiftedConv2d, shape: tuple[int, int], at: tuple[int, int], size: tuple[int, int] | None = None) -> set:
    """The places (y, x) of the input that one place of the output reads."""
    x = torch.randn(1, layer.in_channels, *shape, dtype=torch.float64, requires_grad=True)
    layer.double()(x, size)[0, :, at[0], at[1]].sum().backward()
    assert x.grad is not None
    return {(int(y), int(x)) for y, x in (x.grad[0] != 0).any(0).nonzero()}


@pytest.mark.parametrize(("kernel", "right", "expected"), [
    ((2, 3), False, {(1, 2), (1, 3), (1, 4), (2, 2), (2, 3), (2, 4)}), ((1, 3), False, {(2, 2), (2, 3), (2, 4)}),
    ((2, 2), True, {(1, 2), (1, 3), (2, 2), (2, 3)}), ((2, 1), True, {(1, 3), (2, 3)}), ((1, 1), False, {(2, 3)}),
])  # fmt: skip
def test_where_the_filter_lies(kernel, right, expected):
    torch.manual_seed(0)
    assert seen(ShiftedConv2d(2, 3, kernel, right), (4, 6), (2, 3)) == expected


@pytest.mark.parametrize("right", [False, True])
@pytest.mark.parametrize("shape", [(1, 1), (2, 3), (5, 4), (7, 7), (1, 6)])
def test_down_and_up_never_look_ahead(right, shape):
    """Half the size, rounded up, and back: every place reads places at or before it, in rows or in rows and columns."""
    torch.manual_seed(0)
    kernel = (2, 2) if right else (2, 3)
    down = ShiftedConv2d(1, 4, kernel, right, stride=2).double()
    up = ShiftedConv2d(4, 1, kernel, right, stride=2, transposed=True).double()
    x = torch.randn(1, 1, *shape, dtype=torch.float64, requires_grad=True)
    small = down(x)
    assert small.shape[2:] == (-(-shape[0] // 2), -(-shape[1] // 2))
    back = up(small, shape)
    assert back.shape == x.shape
    for y in range(shape[0]):
        for column in range(shape[1]):
            (grad,) = torch.autograd.grad(back[0, 0, y, column], x, retain_graph=True)
            for y2, x2 in grad[0, 0].nonzero().tolist():
                assert y2 <= y
                assert not right or x2 <= column


def test_equals_plain_convolutions():
    torch.manual_seed(0)
    x = torch.randn(2, 3, 5, 6)
    layer = ShiftedConv2d(3, 4, (2, 3), gain=2.0)
    weight = F.normalize(layer.weight_v.flatten(1), dim=1).view_as(layer.weight_v) * 2
    torch.testing.assert_close(layer.weight(), weight)
    torch.testing.assert_close(layer(x), F.conv2d(F.pad(x, (1, 1, 1, 0)), weight, layer.bias))
    up = ShiftedConv2d(3, 4, (2, 2), True, stride=2, transposed=True)
    whole = F.conv_transpose2d(x, up.weight().transpose(0, 1), up.bias, stride=2)
    torch.testing.assert_close(up(x, (10, 12)), whole[:, :, :10, :12])


@pytest.mark.parametrize("kind", [{}, {"right": True}, {"stride": 2}, {"transposed": True, "stride": 2}])
def test_initialized_by_data(kind):
    """Mean 0 and the deviation ``gain`` in each channel, whatever the input's, and never again afterwards."""
    torch.manual_seed(0)
    layer = ShiftedConv2d(5, 7, (2, 2) if kind.get("right") else (2, 3), gain=0.3, **kind)
    x = 3 + 10 * torch.randn(8, 5, 9, 6)
    size = (18, 11) if layer.transposed else None
    with initialized_by_data(layer):
        out = layer(x, size)
    std, mean = torch.std_mean(out, (0, 2, 3), correction=0)
    torch.testing.assert_close(std, torch.full_like(std, 0.3), rtol=1e-4, atol=0)
    assert mean.abs().max() < 1e-5
    state = {name: value.clone() for name, value in layer.state_dict().items()}
    assert torch.equal(layer(x, size), out)
    layer(2 * x, size)
    assert all(torch.equal(state[name], value) for name, value in layer.state_dict().items())


def test_a_constant_channel_keeps_its_gain():
    layer = ShiftedConv2d(2, 3, (1, 1), gain=0.5)
    with initialized_by_data(layer):
        out = layer(torch.ones(4, 2, 3, 3))
    assert torch.equal(layer.weight_g, torch.full_like(layer.weight_g, 0.5))
    torch.testing.assert_close(out, torch.zeros_like(out), rtol=0, atol=1e-6)


def test_the_flag_goes_away_after_an_error():
    layer = ShiftedConv2d(2, 3, (1, 1))
    with pytest.raises(RuntimeError), initialized_by_data(layer):
        layer(torch.ones(4, 5, 3, 3))
    assert not layer.from_data


def test_gradients_and_directions():
    torch.manual_seed(0)
    layer = ShiftedConv2d(2, 3, (2, 2), True).double()
    x = torch.randn(2, 2, 3, 4, dtype=torch.float64, requires_grad=True)
    names = list(dict(layer.named_parameters()))

    def function(x, *values):
        return torch.func.functional_call(layer, dict(zip(names, values, strict=True)), (x,))

    assert torch.autograd.gradcheck(function, (x, *layer.parameters()))
    before = layer(x)
    with torch.no_grad():
        layer.weight_v.mul_(7)  # only the direction counts
    torch.testing.assert_close(layer(x), before)


def test_an_even_filter_has_no_middle():
    with pytest.raises(ValueError, match="kw must be odd, not 2"):
        ShiftedConv2d(2, 3, (2, 2))
