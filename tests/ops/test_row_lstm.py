"""row_lstm as a PyTorch operator: nn.LSTM where the two meet, every backend that runs here against the reference, and
the machinery around it."""

import os
import subprocess
import sys
from decimal import Decimal, localcontext
from functools import partial

import pytest
import torch

from genfast import ops
from genfast.kernels.row_lstm.reference import row_lstm as reference
from genfast.ops.backends import BACKENDS, OPERATORS, why_not
from tests.ops import lstm_checks as checks
from tests.ops.lstm_checks import CASES, DTYPES, SIZES, lstm_over, make_inputs

RUNNABLE = [b for b in OPERATORS["row_lstm"] if b in ("reference", "cpu") and not why_not(b)]
needs_extension = pytest.mark.skipif(bool(why_not("cpu")), reason=why_not("cpu") or "built")


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
    checks.check_gradients(partial(ops.row_lstm, backend=backend), reference, 3, size)


@pytest.mark.parametrize("backend", RUNNABLE)
def test_gradcheck(backend: str) -> None:
    inputs = [t.requires_grad_() for t in make_inputs((2, 2, 3, 4), 3)[:4]]
    assert torch.autograd.gradcheck(lambda *a: ops.row_lstm(*a, backend), inputs)


@pytest.mark.parametrize("backend", RUNNABLE)
@pytest.mark.parametrize("k", [1, 3, 5])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_backends_equal_reference(case: tuple, dtype: torch.dtype, k: int, backend: str) -> None:
    checks.check_against_reference(partial(ops.row_lstm, backend=backend), reference, case, k, dtype)


@needs_extension
def test_mnist_size() -> None:
    checks.check_large_image(partial(ops.row_lstm, backend="cpu"), reference, 3)


@needs_extension
@pytest.mark.slow
@pytest.mark.parametrize("isa", ["generic", "avx2"])
def test_other_instruction_sets(isa: str) -> None:
    from genfast import _C

    order = ["generic", "avx2", "avx512"]
    if order.index(isa) > order.index(_C.best_isa()):
        pytest.skip(f"this machine has no {isa}")
    chosen = "test_backends_equal_reference or bits or huge"
    command = [sys.executable, "-m", "pytest", "-q", __file__, "-k", chosen]
    run = subprocess.run(command, env={**os.environ, "GENFAST_CPU": isa}, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout[-3000:]


@needs_extension
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_bits_do_not_depend_on_batch_or_threads(dtype: torch.dtype) -> None:
    checks.check_bits(partial(ops.row_lstm, backend="cpu"), 3, dtype)


@needs_extension
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_huge_inputs_stay_finite(dtype: torch.dtype) -> None:
    checks.check_huge_inputs(partial(ops.row_lstm, backend="cpu"), 3, dtype)


@needs_extension
def test_vanishing_gradients() -> None:
    checks.check_vanishing_gradients(partial(ops.row_lstm, backend="cpu"), 3)


@needs_extension
@pytest.mark.parametrize("shape", [(0, 3, 4, 5), (2, 3, 0, 5), (2, 3, 4, 0)], ids=str)
def test_empty_maps(shape: tuple[int, int, int, int]) -> None:
    checks.check_empty(partial(ops.row_lstm, backend="cpu"), 3, shape)


@pytest.mark.parametrize("backend", RUNNABLE)
@pytest.mark.parametrize("keep", [False, True])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
def test_opcheck(layout: str, dtype: torch.dtype, keep: bool, backend: str) -> None:
    x, weight, h0, c0, grad = make_inputs((2, 3, 3, 4), 3, dtype, layout)
    how = BACKENDS.index(backend)
    leaves = [t.requires_grad_(keep) for t in (x, weight, h0, c0)]
    torch.library.opcheck(torch.ops.genfast.row_lstm, (*leaves, keep, how))
    kept = [t.detach() for t in torch.ops.genfast.row_lstm(*leaves, True, how)]
    torch.library.opcheck(torch.ops.genfast.row_lstm_bwd, (grad, *kept, *(t.detach() for t in leaves[1:]), how))


@pytest.mark.slow
@pytest.mark.parametrize("backend", RUNNABLE)
def test_torch_compile(backend: str) -> None:
    checks.check_compile(partial(ops.row_lstm, backend=backend), 3)


@pytest.mark.parametrize("backend", RUNNABLE)
def test_autocast(backend: str) -> None:
    checks.check_autocast(partial(ops.row_lstm, backend=backend), 3)


def test_bad_inputs_are_sentences() -> None:
    checks.check_bad_inputs(ops.row_lstm, 3)
    with pytest.raises(ValueError, match="weight must have an odd number of taps, but has 2"):
        ops.row_lstm(*make_inputs((1, 2, 3, 3), 2)[:4])


@needs_extension
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
    assert checks.units_in_the_last_place(gates[:, 0], sigmoid) <= 3.5  # and half a unit of the exact values' rounding
    assert checks.units_in_the_last_place(gates[:, 2], tanh) <= 3.5
