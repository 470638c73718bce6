"""MaskedConv2d: a drop-in for nn.Conv2d plus a mask."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from genfast.nn import MaskedConv2d


def test_equals_conv2d_with_a_masked_weight() -> None:
    torch.manual_seed(0)
    layer = MaskedConv2d(4, 6, (3, 5), "A", bias=True)
    plain = nn.Conv2d(4, 6, (3, 5), padding=(1, 2))
    x = torch.randn(2, 4, 7, 8)
    plain.load_state_dict(layer.state_dict())  # our masked weights are zeros, so the plain layer computes the same
    torch.testing.assert_close(layer(x), plain(x))
    fresh = nn.Conv2d(4, 6, (3, 5), padding=(1, 2))
    layer.load_state_dict(fresh.state_dict())  # and the other way: what the mask hides is dropped
    torch.testing.assert_close(layer(x), F.conv2d(x, fresh.weight * layer.mask(), fresh.bias, padding=(1, 2)))
    assert bool((layer.weight[layer.mask() == 0] == 0).all())


def test_masked_weights_stay_zero_under_training() -> None:
    layer = MaskedConv2d(3, 3, 3, "B", color_groups=3)
    optimizer = torch.optim.AdamW(layer.parameters(), lr=0.1, weight_decay=0.1)
    for _ in range(3):
        optimizer.zero_grad()
        layer(torch.randn(2, 3, 4, 4)).square().mean().backward()
        optimizer.step()
    assert bool((layer.weight[layer.mask() == 0] == 0).all())


def test_mask_buffer_of_other_peoples_checkpoints() -> None:
    layer = MaskedConv2d(2, 2, 3, "A")
    state = {**layer.state_dict(), "mask": layer.mask()}
    keys = set(state)
    MaskedConv2d(2, 2, 3, "A").load_state_dict(state)
    assert set(state) == keys
    with pytest.raises(RuntimeError, match="mask differs from mask B"):
        MaskedConv2d(2, 2, 3, "B").load_state_dict(state)


def test_deepcopy_dtype_and_repr() -> None:
    layer = copy.deepcopy(MaskedConv2d(2, 4, 3, "B", color_groups=2)).double()
    assert layer(torch.randn(1, 2, 5, 5, dtype=torch.float64)).dtype == torch.float64
    assert repr(layer) == "MaskedConv2d(2, 4, kernel_size=(3, 3), mask_type='B', color_groups=2)"
    assert "bias=False" in repr(MaskedConv2d(2, 4, 3, bias=False))


@pytest.mark.parametrize("kernel_size", [2, (3, 4), 0])
def test_even_kernels_are_refused(kernel_size: int) -> None:
    with pytest.raises(ValueError, match="must be odd and positive"):
        MaskedConv2d(1, 1, kernel_size)


def test_nothing_but_the_bias_is_left_of_a_1x1_mask_a() -> None:
    layer = MaskedConv2d(2, 3, 1, "A")
    y = layer(torch.randn(1, 2, 3, 3))
    torch.testing.assert_close(y, layer.bias[None, :, None, None].expand_as(y))
