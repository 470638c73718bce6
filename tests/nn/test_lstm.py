"""RowLSTM and DiagonalBiLSTM: against per-pixel formulas, what they see, their masks, their initial state."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genfast.kernels.masked_conv2d.mask import group_of
from genfast.nn import DiagonalBiLSTM, RowLSTM


def layers(in_channels: int, hidden: int, mask_type: str = "B", color_groups: int = 1) -> list[nn.Module]:
    """Both layers, in float64, with an initial state that is not zero."""
    both = [
        RowLSTM(in_channels, hidden, mask_type, color_groups),
        DiagonalBiLSTM(in_channels, hidden, mask_type, color_groups),
    ]
    for layer in both:
        layer.double()
        for name, parameter in layer.named_parameters():
            if name.endswith(("h0", "c0", "bias")):
                nn.init.normal_(parameter)
    return both


def seen(layer: nn.Module, x: Tensor, y: int, column: int, channel: int | None = None) -> Tensor:
    """True where the output at a pixel (all its features, or one) depends on the input.  # [I, H, W]"""
    x = x.clone().requires_grad_()
    out = layer(x)[:, :, y, column]
    (out if channel is None else out[:, channel]).sum().backward()
    assert x.grad is not None
    return (x.grad != 0).any(0)


def cell(gates: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
    i, f, g, o = gates.chunk(4, 1)
    c = f.sigmoid() * c + i.sigmoid() * g.tanh()
    return o.sigmoid() * c.tanh(), c


def test_row_lstm_row_by_row():
    layer = layers(5, 4)[0]
    x = torch.randn(2, 5, 6, 7, dtype=torch.float64)
    weight = layer.weight_ih * torch.tensor([1.0, 1.0, 0.0])  # mask B of a 1x3 filter
    inputs = F.conv2d(x, weight, layer.bias, padding=(0, 1))
    h, c = (state[None, :, None].expand(2, 4, 7) for state in (layer.h0, layer.c0))
    rows = []
    for y in range(6):
        h, c = cell(inputs[:, :, y] + F.conv1d(h, layer.weight_hh, padding=1), c)
        rows.append(h)
    torch.testing.assert_close(layer(x), torch.stack(rows, 2))


def test_diagonal_bilstm_pixel_by_pixel():
    layer = layers(5, 4)[1]
    x = torch.randn(2, 5, 6, 7, dtype=torch.float64)

    def direction(part, x: Tensor) -> Tensor:
        inputs = F.conv2d(x, part.weight_ih, part.bias)
        out = torch.zeros(2, 4, 6, 7, dtype=torch.float64)
        for y in range(6):
            h, c = part.h0.expand(2, 4), part.c0.expand(2, 4)
            for column in range(7):
                above = out[:, :, y - 1, column].clone() if y else torch.zeros_like(h)
                taps = above @ part.weight_hh[:, :, 0].T + h @ part.weight_hh[:, :, 1].T
                h, c = cell(inputs[:, :, y, column] + taps, c)
                out[:, :, y, column] = h
        return out

    with torch.no_grad():
        expected = direction(layer.left_to_right, x)
        expected[:, :, 1:] += direction(layer.right_to_left, x.flip(3)).flip(3)[:, :, :-1]
        torch.testing.assert_close(layer(x), expected)


@pytest.mark.parametrize(("mask_type", "kernel"), [("B", 3), ("A", 3), ("B", 5)])
def test_row_lstm_sees_a_triangle(mask_type, kernel):
    """n rows up: n * (k // 2) columns to each side by the states, and k // 2 more on the left by input-to-state."""
    layer = RowLSTM(2, 6, mask_type, kernel_size=kernel).double()
    x = torch.randn(3, 2, 7, 15, dtype=torch.float64)
    r = kernel // 2
    expected = torch.zeros(7, 15, dtype=torch.bool)
    for y in range(6):
        n = 5 - y
        expected[y, max(0, 7 - (n + 1) * r) : 7 + n * r + (mask_type == "B")] = True
    got = seen(layer, x, 5, 7)
    assert torch.equal(got[0], expected)
    assert torch.equal(got[1], expected)


def test_diagonal_bilstm_sees_every_earlier_pixel():
    layer = layers(2, 5)[1]
    x = torch.randn(3, 2, 4, 5, dtype=torch.float64)
    for y in range(4):
        for column in range(5):
            expected = torch.arange(20).reshape(4, 5) <= 5 * y + column
            assert torch.equal(seen(layer, x, y, column), expected.expand(2, 4, 5))


@pytest.mark.parametrize("mask_type", ["A", "B"])
@pytest.mark.parametrize(("in_channels", "hidden"), [(3, 3), (6, 9), (7, 5), (8, 4), (4, 16)])
def test_colours_do_not_leak(mask_type, in_channels, hidden):
    """A hidden feature reads, of its own pixel, the colours of its group's past; sizes need not divide by 3."""
    inputs, features = group_of(in_channels, 3), group_of(hidden, 3)
    for layer in layers(in_channels, hidden, mask_type, 3):
        x = torch.randn(4, in_channels, 3, 3, dtype=torch.float64)
        for j, group in enumerate(features):
            here = seen(layer, x, 1, 1, j)[:, 1, 1].tolist()
            assert here == [i < group if mask_type == "A" else i <= group for i in inputs]


def test_a_state_reads_every_colour_of_other_pixels():
    for layer in layers(3, 6, "B", 3):
        got = seen(layer, torch.randn(3, 3, 3, 3, dtype=torch.float64), 1, 1, 0)  # a feature of R
        assert got[:, 0, 1].all()
        assert got[:, 1, 0].all()


@pytest.mark.parametrize("color_groups", [1, 3])
def test_masked_weights_stay_zero_under_training(color_groups):
    for layer in (RowLSTM(4, 5, "B", color_groups), DiagonalBiLSTM(4, 5, "B", color_groups)):
        before = [p.detach().clone() for p in layer.parameters()]
        optimizer = torch.optim.AdamW(layer.parameters(), lr=0.1, weight_decay=0.1)
        for _ in range(3):
            optimizer.zero_grad()
            layer(torch.randn(2, 4, 4, 4)).square().mean().backward()
            optimizer.step()
        assert all((p != q).any() for p, q in zip(layer.parameters(), before, strict=True))
        parts = [m for m in layer.modules() if hasattr(m, "weight_ih")]
        assert all((m.weight_ih[m.mask() == 0] == 0).all() for m in parts)
        assert any((m.mask() == 0).any() for m in parts) == (color_groups == 3 or isinstance(layer, RowLSTM))


def test_state_dicts_go_round_and_masked_weights_are_dropped():
    for layer, fresh in zip(layers(4, 6, "B", 3), layers(4, 6, "B", 3), strict=True):
        x = torch.randn(2, 4, 3, 5, dtype=torch.float64)
        fresh.load_state_dict(layer.state_dict())
        assert torch.equal(fresh(x), layer(x))
        dense = {k: torch.ones_like(v) if k.endswith("weight_ih") else v for k, v in layer.state_dict().items()}
        fresh.load_state_dict(dense)
        for part in (m for m in fresh.modules() if hasattr(m, "weight_ih")):
            assert torch.equal(part.weight_ih, part.mask())


def test_parameters():
    row = {name: tuple(p.shape) for name, p in RowLSTM(10, 6, kernel_size=5).named_parameters()}
    assert row == {"weight_ih": (24, 10, 1, 5), "bias": (24,), "weight_hh": (24, 6, 5), "h0": (6,), "c0": (6,)}
    diagonal = {name: tuple(p.shape) for name, p in DiagonalBiLSTM(10, 6).named_parameters()}
    one = {"weight_ih": (24, 10, 1, 1), "bias": (24,), "weight_hh": (24, 6, 2), "h0": (6,), "c0": (6,)}
    assert diagonal == {f"{side}.{k}": v for side in ("left_to_right", "right_to_left") for k, v in one.items()}


def test_initial_scale():
    """Weights have variance 1 / (taps that exist); of the biases only the forget gates' is not zero."""
    layer = RowLSTM(64, 64)
    used = layer.weight_ih[layer.mask() == 1]
    assert used.var().item() == pytest.approx(1 / (64 * 2), rel=0.05)
    assert layer.weight_hh.var().item() == pytest.approx(1 / (64 * 3), rel=0.05)
    assert layer.bias.unflatten(0, (4, 64)).mean(1).tolist() == [0, 1, 0, 0]


def test_memory_formats_deepcopy_dtypes_and_repr():
    x = torch.randn(2, 6, 5, 4)
    for layer in (RowLSTM(6, 8, "B", 3), DiagonalBiLSTM(6, 8, "B", 3)):
        last = layer(x.to(memory_format=torch.channels_last))
        assert last.is_contiguous(memory_format=torch.channels_last)
        torch.testing.assert_close(layer(x), last)
        assert copy.deepcopy(layer).bfloat16()(x.bfloat16()).dtype == torch.bfloat16
        torch.testing.assert_close(torch.compile(layer, fullgraph=True)(x), layer(x))
        with torch.autocast("cpu", torch.bfloat16):
            narrow = layer(x)
        assert narrow.dtype == torch.bfloat16
        assert (narrow.float() - last).abs().max() < 0.05 * last.abs().max()
    assert repr(RowLSTM(6, 8, "A", 3)) == "RowLSTM(6, 8, mask_type='A', color_groups=3, kernel_size=3)"
    assert "(right_to_left): DiagonalLSTM(6, 8, mask_type='B', reverse=True)" in repr(DiagonalBiLSTM(6, 8))


@pytest.mark.parametrize(("make", "sentence"), [
    (lambda: RowLSTM(2, 4, kernel_size=2), "kernel sizes must be odd and positive"),
    (lambda: RowLSTM(2, 4, "VB"), "mask_type must be A or B, not VB: that one reads pixels to the right."),
    (lambda: DiagonalBiLSTM(2, 4, "C"), "mask_type must be one of A, B"),
    (lambda: RowLSTM(0, 4), "in_channels and hidden must be at least 1, not 0 and 4."),
    (lambda: DiagonalBiLSTM(2, 0), "in_channels and hidden must be at least 1, not 2 and 0."),
    (lambda: DiagonalBiLSTM(2, 4, "B", 0), "color_groups must be at least 1, not 0."),
])  # fmt: skip
def test_bad_sizes_are_refused(make, sentence):
    with pytest.raises(ValueError, match=sentence):
        make()
