"""diagonal_lstm as a PyTorch operator: nn.LSTM where the two meet, every backend that runs here against the reference,
and the machinery around it."""

import os
import subprocess
import sys
from functools import partial

import pytest
import torch
from torch import nn

from genfast import ops
from genfast.kernels.diagonal_lstm.reference import diagonal_lstm as reference
from genfast.ops.backends import BACKENDS, OPERATORS, why_not
from tests.ops import lstm_checks as checks
from tests.ops.lstm_checks import CASES, DTYPES, SIZES, lstm_over, make_inputs

RUNNABLE = [b for b in OPERATORS["diagonal_lstm"] if b in ("reference", "cpu") and not why_not(b)]
needs_extension = pytest.mark.skipif(bool(why_not("cpu")), reason=why_not("cpu") or "built")


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
    operator = partial(ops.diagonal_lstm, reverse=reverse, backend=backend)
    checks.check_gradients(operator, partial(reference, reverse=reverse), 2, size)


@pytest.mark.parametrize("backend", RUNNABLE)
@pytest.mark.parametrize("reverse", [False, True])
def test_gradcheck(reverse: bool, backend: str) -> None:
    inputs = [t.requires_grad_() for t in make_inputs((2, 2, 3, 4), 2)[:4]]
    assert torch.autograd.gradcheck(lambda *a: ops.diagonal_lstm(*a, reverse, backend), inputs)


@pytest.mark.parametrize("backend", RUNNABLE)
def test_reverse_is_the_mirror_image(backend: str) -> None:
    x, weight, h0, c0, _ = make_inputs((2, 5, 4, 6), 2)
    mirrored = ops.diagonal_lstm(x.flip(3), weight, h0, c0, False, backend).flip(3)
    torch.testing.assert_close(ops.diagonal_lstm(x, weight, h0, c0, True, backend), mirrored)


@pytest.mark.parametrize("backend", RUNNABLE)
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_backends_equal_reference(case: tuple, dtype: torch.dtype, reverse: bool, backend: str) -> None:
    operator = partial(ops.diagonal_lstm, reverse=reverse, backend=backend)
    checks.check_against_reference(operator, partial(reference, reverse=reverse), case, 2, dtype)


@needs_extension
def test_mnist_size() -> None:
    checks.check_large_image(partial(ops.diagonal_lstm, backend="cpu"), reference, 2)


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
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_bits_do_not_depend_on_batch_or_threads(dtype: torch.dtype, reverse: bool) -> None:
    checks.check_bits(partial(ops.diagonal_lstm, reverse=reverse, backend="cpu"), 2, dtype)


@needs_extension
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_huge_inputs_stay_finite(dtype: torch.dtype) -> None:
    checks.check_huge_inputs(partial(ops.diagonal_lstm, backend="cpu"), 2, dtype)


@needs_extension
def test_vanishing_gradients() -> None:
    checks.check_vanishing_gradients(partial(ops.diagonal_lstm, backend="cpu"), 2)


@needs_extension
@pytest.mark.parametrize("shape", [(0, 3, 4, 5), (2, 3, 0, 5), (2, 3, 4, 0)], ids=str)
def test_empty_maps(shape: tuple[int, int, int, int]) -> None:
    checks.check_empty(partial(ops.diagonal_lstm, backend="cpu"), 2, shape)


@pytest.mark.parametrize("backend", RUNNABLE)
@pytest.mark.parametrize("keep", [False, True])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
def test_opcheck(layout: str, dtype: torch.dtype, keep: bool, backend: str) -> None:
    x, weight, h0, c0, grad = make_inputs((2, 3, 3, 4), 2, dtype, layout)
    how = (True, BACKENDS.index(backend))
    leaves = [t.requires_grad_(keep) for t in (x, weight, h0, c0)]
    torch.library.opcheck(torch.ops.genfast.diagonal_lstm, (*leaves, how[0], keep, how[1]))
    kept = [t.detach() for t in torch.ops.genfast.diagonal_lstm(*leaves, how[0], True, how[1])]
    torch.library.opcheck(torch.ops.genfast.diagonal_lstm_bwd, (grad, *kept, *(t.detach() for t in leaves[1:]), *how))


@pytest.mark.slow
@pytest.mark.parametrize("backend", RUNNABLE)
def test_torch_compile(backend: str) -> None:
    checks.check_compile(partial(ops.diagonal_lstm, backend=backend), 2)


@pytest.mark.parametrize("backend", RUNNABLE)
def test_autocast(backend: str) -> None:
    checks.check_autocast(partial(ops.diagonal_lstm, backend=backend), 2)


def test_bad_inputs_are_sentences() -> None:
    checks.check_bad_inputs(ops.diagonal_lstm, 2)
    with pytest.raises(ValueError, match="weight must have 2 taps, up and left, but has 3"):
        ops.diagonal_lstm(*make_inputs((1, 2, 3, 3), 3)[:4])
