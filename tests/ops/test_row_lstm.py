"""row_lstm as a PyTorch operator: nn.LSTM where the two meet, every backend that runs here against the reference, and
the machinery around it."""

import pytest
import torch

from genfast import ops
from genfast.kernels.row_lstm.reference import row_lstm as reference
from genfast.ops.backends import OPERATORS, why_not
from tests.ops.lstm_checks import SIZES, gradients, lstm_over, make_inputs

RUNNABLE = [b for b in OPERATORS["row_lstm"] if b in ("reference", "cpu") and not why_not(b)]


@pytest.mark.parametrize("backend", RUNNABLE)
@pytest.mark.parametrize("k", [1, 3, 5])
def test_one_column_is_nn_lstm_with_the_centre_tap(k: int, backend: str) -> None:
    x, weight, h0, c0, _ = make_inputs((2, 3, 6, 1), k)
    expected = lstm_over(x[..., 0].transpose(1, 2), weight[:, :, k // 2], h0, c0)
    torch.testing.assert_close(ops.row_lstm(x, weight, h0, c0, backend)[..., 0].transpose(1, 2), expected)


def test_rows_are_conv1d_and_lstm_cells() -> None:
    """Against the formula of the docstring, a whole row at a time: a wrong order of taps shows."""
    x, weight, h0, c0, _ = make_inputs((2, 3, 4, 5), 3)
    h, c = h0[None, :, None].expand(2, 3, 5), c0[None, :, None].expand(2, 3, 5)
    for y in range(4):
        total = x[:, :, y] + torch.nn.functional.conv1d(h, weight, padding=1)
        i, f, g, o = total.chunk(4, 1)
        c = f.sigmoid() * c + i.sigmoid() * g.tanh()
        h = o.sigmoid() * c.tanh()
        torch.testing.assert_close(reference(x, weight, h0, c0)[:, :, y], h)


@pytest.mark.parametrize("backend", RUNNABLE)
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_gradients_are_those_of_the_loop(size: tuple[int, int], backend: str) -> None:
    *inputs, grad = make_inputs((2, 3, *size), 3)
    actual = gradients(lambda *a: ops.row_lstm(*a, backend), inputs, grad)
    torch.testing.assert_close(actual, gradients(reference, inputs, grad))


@pytest.mark.parametrize("backend", RUNNABLE)
def test_gradcheck(backend: str) -> None:
    inputs = [t.requires_grad_() for t in make_inputs((2, 2, 3, 4), 3)[:4]]
    assert torch.autograd.gradcheck(lambda *a: ops.row_lstm(*a, backend), inputs)
