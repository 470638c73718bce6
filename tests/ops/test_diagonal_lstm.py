"""diagonal_lstm: nn.LSTM where the two meet, and its two directions. What it shares with row_lstm is tested in
test_lstm_scans.py."""

import pytest
import torch
from torch import nn

from genfast import ops
from tests.ops.lstm_scans import RUNNABLE, lstm_over, make_inputs


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
def test_reverse_is_the_mirror_image(backend: str) -> None:
    x, weight, h0, c0, _ = make_inputs((2, 5, 4, 6), 2)
    mirrored = ops.diagonal_lstm(x.flip(3), weight, h0, c0, False, backend).flip(3)
    torch.testing.assert_close(ops.diagonal_lstm(x, weight, h0, c0, True, backend), mirrored)


def test_other_taps_than_up_and_left_are_refused() -> None:
    with pytest.raises(ValueError, match="weight must have 2 taps, up and left, but has 3"):
        ops.diagonal_lstm(*make_inputs((1, 2, 3, 3), 3)[:4])
