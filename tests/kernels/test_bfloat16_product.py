"""Products of bfloat16 numbers, as the cpu engine makes them."""

import numpy as np
import pytest
import torch

_C = pytest.importorskip("genfast._C", reason="no compiled extension")


@pytest.mark.parametrize("rows", [1, 2, 3, 4, 7, 13, 14, 30])
def test_sums_of_products_of_rounded_factors(rows: int) -> None:
    for depth in (0, 1, 2, 3, 8, 17, 129):
        for columns in (1, 7, 8, 9, 16, 17, 33, 70):
            torch.manual_seed(depth * 100 + columns)
            x, w = torch.randn(rows, depth), torch.randn(depth, columns)
            exact = x.bfloat16().double() @ w.bfloat16().double()
            budget = x.double().abs() @ w.double().abs() * 2e-6 + 1e-30
            got = torch.from_numpy(_C.bfloat16_product(x.numpy(), w.numpy()))
            assert bool(((got - exact).abs() <= budget).all()), (depth, columns)


def test_rounds_to_nearest_and_ties_to_even_as_pytorch() -> None:
    bits = np.concatenate([np.arange(0x3F7F0000, 0x3F820000, 0x1000), np.arange(0x3F7FFF80, 0x3F800080)])
    numbers = torch.from_numpy(np.concatenate([bits, bits + (1 << 31)]).astype(np.uint32).view(np.float32))
    numbers = torch.cat([numbers, torch.tensor([3.4e38, -3.4e38, 1e-30, 0.0, torch.inf, torch.nan])])
    got = torch.from_numpy(_C.bfloat16_product(numbers[:, None].numpy(), np.ones((1, 1), np.float32)))[:, 0]
    torch.testing.assert_close(got, numbers.bfloat16().float(), rtol=0, atol=0, equal_nan=True)
    weights = _C.bfloat16_product(np.ones((1, 1), np.float32), numbers[None].numpy())[0]
    assert np.array_equal(weights, got.numpy(), equal_nan=True)


def test_a_row_is_the_same_among_any_others() -> None:
    x, w = torch.randn(30, 45).numpy(), torch.randn(45, 70).numpy()
    whole = _C.bfloat16_product(x, w)
    for first, last in ((0, 1), (4, 6), (7, 10), (3, 30)):
        assert np.array_equal(_C.bfloat16_product(x[first:last], w), whole[first:last])
