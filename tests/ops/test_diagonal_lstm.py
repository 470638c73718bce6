"""diagonal_lstm as a PyTorch operator: nn.LSTM where the two meet, every backend that runs here against the reference,
and the machinery around it."""

import pytest
import torch
from torch import nn

from genfast import ops
from genfast.kernels.diagonal_lstm.reference import diagonal_lstm as reference
from genfast.ops.backends import OPERATORS, why_not
from tests.ops.lstm_checks import SIZES, gradients, lstm_over, make_inputs

RUNNABLE = [b for b in OPERATORS["diagonal_lstm"] if b in ("reference", "cpu") and not why_not(b)]


@pytest.mark.parametrize("backend", RUNNABLE)
@pytest.mark.parametrize("reverse", [False, True])
def test_one_row_is_nn_lstm_with_the_left_tap(reverse: bool, backend: str) -> None:
    x, weight, h0, c0, _ = make_inputs((2, 3, 1, 6), 2)
    h = ops.diagonal_lstm(x, weight, h0, c0, reverse, backend)
    if reverse:
        x, h = x.flip(3), h.flip(3)
    expected = lstm_over(x[:, :, 0].transpose(1, 2), weight[:, :, 1], h0, c0)
    torch.testing.assert_close(h[:, :, 0].transpose(1, 2), expected)


@pytest.mark.parametrize("backend", RUNNABLE)
@pytest.mark.parametrize("reverse", [False, True])
def test_one_column_is_nn_lstm_cell_with_the_upper_tap(reverse: bool, backend: str) -> None:
    """h comes from above, c is c0 in every row, and the left tap reads h0."""
    x, weight, h0, c0, _ = make_inputs((2, 3, 6, 1), 2)
    cell = nn.LSTMCell(12, 3, dtype=torch.float64)
    with torch.no_grad():
        cell.weight_ih.copy_(torch.eye(12))
        cell.weight_hh.copy_(weight[:, :, 0])
        cell.bias_ih.copy_(weight[:, :, 1] @ h0)
        cell.bias_hh.zero_()
        h = torch.zeros(2, 3, dtype=torch.float64)
        actual = ops.diagonal_lstm(x, weight, h0, c0, reverse, backend)
        for y in range(6):
            h, _ = cell(x[:, :, y, 0], (h, c0.expand(2, 3)))
            torch.testing.assert_close(actual[:, :, y, 0], h)


@pytest.mark.parametrize("backend", RUNNABLE)
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_gradients_are_those_of_the_loop(size: tuple[int, int], reverse: bool, backend: str) -> None:
    *inputs, grad = make_inputs((2, 3, *size), 2)
    actual = gradients(lambda *a: ops.diagonal_lstm(*a, reverse, backend), inputs, grad)
    torch.testing.assert_close(actual, gradients(lambda *a: reference(*a, reverse), inputs, grad))


@pytest.mark.parametrize("backend", RUNNABLE)
@pytest.mark.parametrize("reverse", [False, True])
def test_gradcheck(reverse: bool, backend: str) -> None:
    inputs = [t.requires_grad_() for t in make_inputs((2, 2, 3, 4), 2)[:4]]
    assert torch.autograd.gradcheck(lambda *a: ops.diagonal_lstm(*a, reverse, backend), inputs)
