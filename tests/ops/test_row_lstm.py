"""row_lstm: nn.LSTM where the two meet, its formula a row at a time, and the error of its gates. What it shares with
diagonal_lstm is tested in test_lstm_scans.py."""

import math
from decimal import Decimal, localcontext

import pytest
import torch
from torch import Tensor

from genfast import ops
from genfast.kernels.row_lstm.reference import row_lstm as reference
from genfast.ops.backends import BACKENDS, why_not
from tests.ops.lstm_scans import RUNNABLE, lstm_over, make_inputs


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


def test_an_even_number_of_taps_is_refused() -> None:
    with pytest.raises(ValueError, match="weight must have an odd number of taps, but has 2"):
        ops.row_lstm(*make_inputs((1, 2, 3, 3), 2)[:4])


def units_in_the_last_place(actual: Tensor, exact: list[float]) -> float:
    """The largest error of float64 numbers."""
    return max(abs(a - e) / math.ulp(e) for a, e in zip(actual.tolist(), exact, strict=True))


@pytest.mark.skipif(bool(why_not("cpu")), reason=why_not("cpu") or "built")
def test_gates_of_doubles_keep_their_stated_error() -> None:
    """Three units in the last place, as common/math.h says; with zero weights the kept gates are the functions
    themselves."""
    values = torch.cat([torch.linspace(-40, 40, 2001), torch.logspace(-12, 2.8, 800), -torch.logspace(-12, 2.8, 800)])
    values = values.double()
    x = values[None, None, None].expand(1, 4, 1, -1)
    weight, state = torch.zeros(4, 1, 1, dtype=torch.float64), torch.zeros(1, dtype=torch.float64)
    gates = torch.ops.genfast.row_lstm(x, weight, state, state, True, BACKENDS.index("cpu"))[1][0, 0]
    with localcontext(prec=60):
        growth = [Decimal(v).exp() for v in values.tolist()]
        sigmoid = [float(e / (1 + e)) for e in growth]
        tanh = [float((e * e - 1) / (e * e + 1)) for e in growth]
    assert units_in_the_last_place(gates[:, 0], sigmoid) <= 3.5  # and half a unit of the exact values' rounding
    assert units_in_the_last_place(gates[:, 2], tanh) <= 3.5
