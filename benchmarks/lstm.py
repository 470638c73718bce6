"""row_lstm and diagonal_lstm against the loops that everyone writes, and nn.LSTM: forward, and forward + backward.

The Row LSTM's loop runs F.conv1d and a cell for each row; the Diagonal LSTM's skews the map and does the same for each
of the H + W - 1 columns. The rivals, of which the fastest counts:

    slicing, unbind   how the loop takes its lines, uncompiled
    compiled step     torch.compile of one step, a convolution and a cell, in that Python loop
    compiled loop     torch.compile of the loop, unrolled; left out, and listed as such, where a child process does not
                      compile it, forward and backward, within the limit (more than 200 s were seen)

With a state-to-state filter one pixel wide, the Row LSTM of an image is an ordinary LSTM down each of its columns, the
only case that nn.LSTM can compute: there ours is the input's matrix product and row_lstm, since nn.LSTM computes both.

The floor is the recurrent products as one dense matrix product in the same turns, three of them for forward + backward;
cells (five exponentials a hidden channel) and memory come on top. In the case of nn.LSTM the input's are counted too.
"""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from cases import Case, Options, Prepared, backends, suffix
from gradients import FORWARD, PARTS, STEP, check_steps, forward_and_step, without_gradients
from gradients import step as step_of
from torch import Tensor, nn

from genfast import ops

SIZES = ((16, 28), (64, 28), (128, 32))  # h, side
BATCH = 16
LAST = torch.channels_last
Step = Callable[[Tensor, Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]


def sliced(x: Tensor, dim: int) -> Iterable[Tensor]:
    return (x.select(dim, i) for i in range(x.shape[dim]))


def unbound(x: Tensor, dim: int) -> Iterable[Tensor]:
    return x.unbind(dim)


def cell(gates: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
    i, f, g, o = gates.chunk(4, 1)
    c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
    return torch.sigmoid(o) * torch.tanh(c), c


def row_step(row: Tensor, h: Tensor, c: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    return cell(row + F.conv1d(h, weight, padding=weight.shape[2] // 2), c)


def diagonal_step(column: Tensor, h: Tensor, c: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    return cell(column + F.conv1d(F.pad(h, (1, 0)), weight), c)


def row_loop(
    lines: Callable[..., Iterable[Tensor]], step: Step, x: Tensor, weight: Tensor, h0: Tensor, c0: Tensor
) -> Tensor:
    shape = (x.shape[0], h0.shape[0], x.shape[3])
    h, c, out = h0[None, :, None].expand(shape), c0[None, :, None].expand(shape), []
    for row in lines(x, 2):
        h, c = step(row, h, c, weight)
        out.append(h)
    return torch.stack(out, 2)


def diagonal_loop(
    lines: Callable[..., Iterable[Tensor]], step: Step, x: Tensor, weight: Tensor, h0: Tensor, c0: Tensor
) -> Tensor:
    """Row y of the skewed map begins y columns further right. Before its first pixel a row must still hold h0 and c0:
    hence the masks, which public loops lack."""
    batch, channels, height, width = x.shape
    columns = height + width - 1
    skewed = F.pad(x, (0, height)).reshape(batch, channels, -1)[:, :, : height * columns]
    skewed = skewed.reshape(batch, channels, height, columns)
    shape = (batch, h0.shape[0], height)
    start_h, start_c = h0[None, :, None].expand(shape), c0[None, :, None].expand(shape)
    h, c, out = start_h, start_c, []
    begun = torch.arange(columns)[:, None] >= torch.arange(height)
    for column, mask in zip(lines(skewed, 3), begun.unbind(0), strict=True):
        h, c = step(column, h, c, weight)
        h, c = torch.where(mask, h, start_h), torch.where(mask, c, start_c)
        out.append(h)
    flat = F.pad(torch.stack(out, 3).reshape(batch, h0.shape[0], -1), (0, height))
    return flat.reshape(batch, h0.shape[0], height, columns + 1)[..., :width]


OPERATORS = {
    "row": (ops.row_lstm, row_loop, row_step, 3),
    "diagonal": (ops.diagonal_lstm, diagonal_loop, diagonal_step, 2),
}


def make_inputs(name: str, hidden: int, side: int) -> tuple[list[Tensor], Tensor]:
    """x, weight, h0, c0 that want gradients, and a gradient of h."""
    torch.manual_seed(0)
    taps = OPERATORS[name][3]
    x, grad = torch.randn(BATCH, 4 * hidden, side, side), torch.randn(BATCH, hidden, side, side)
    weight = torch.randn(4 * hidden, hidden, taps) / (hidden * taps) ** 0.5
    return [t.requires_grad_() for t in (x, weight, torch.randn(hidden), torch.randn(hidden))], grad


def run_compiled_loop(name: str, hidden: int, side: int, threads: int) -> None:
    """Forward alone and forward + backward, as they are timed later, which finds in the cache what is compiled here."""
    torch.set_num_threads(threads)
    _, loop, step, _ = OPERATORS[name]
    compiled = torch.compile(partial(loop, unbound, step))
    inputs, grad = make_inputs(name, hidden, side)
    step_of(compiled, inputs, grad)
    without_gradients(compiled, inputs)


def compiles(name: str, hidden: int, side: int, limit: float) -> bool:
    """Whether the unrolled loop compiles within the limit, in seconds."""
    call = f"import lstm; lstm.run_compiled_loop({name!r}, {hidden}, {side}, {torch.get_num_threads()})"
    # A session of its own, so that the compiler's processes end with it.
    child = subprocess.Popen([sys.executable, "-c", call], cwd=Path(__file__).parent, start_new_session=True)
    try:
        return child.wait(limit) == 0
    except subprocess.TimeoutExpired:
        return False
    finally:
        if child.poll() is None:
            os.killpg(child.pid, signal.SIGKILL)
            child.wait()


def cases(options: Options) -> list[Case]:
    found = []
    for name, (hidden, side), backend in product(OPERATORS, SIZES, backends(options, "row_lstm")):
        facts = {"operator": f"{name}_lstm", "hidden": hidden, "side": side, "batch": BATCH}
        title = f"{name}_lstm, h = {hidden}, {side}x{side}, batch {BATCH}{suffix(backend)}"
        make = partial(prepare, name, hidden, side, backend, options)
        found.append(Case("lstm", title, facts, PARTS, make, quick=hidden == 64))
    for (hidden, side), backend in product(SIZES, backends(options, "row_lstm")):
        facts = {"operator": "row_lstm, one tap", "hidden": hidden, "side": side, "batch": BATCH}
        title = f"row_lstm with one tap, h = {hidden}, {side}x{side}, batch {BATCH}{suffix(backend)}"
        make = partial(prepare_torch, hidden, side, backend, options)
        found.append(Case("lstm", title, facts, PARTS, make, quick=hidden == 64))
    return found


def prepare(name: str, hidden: int, side: int, backend: str, options: Options) -> Prepared:
    operator, loop, step, taps = OPERATORS[name]
    inputs, grad = make_inputs(name, hidden, side)
    inputs, grad = [t.detach().to(options.device).requires_grad_() for t in inputs], grad.to(options.device)
    ours = [inputs[0].detach().contiguous(memory_format=LAST).requires_grad_(), *inputs[1:]]
    loops: dict[str, Any] = {"slicing": partial(loop, sliced, step), "unbind": partial(loop, unbound, step)}
    left_out = {}
    if options.compiled and not options.quick:
        torch.compiler.reset()
        loops["compiled step"] = partial(loop, unbound, torch.compile(step))
        if options.device == "cpu" and compiles(name, hidden, side, options.compile_limit):
            loops["compiled loop"] = torch.compile(loops["unbind"])
        else:
            left_out["compiled loop"] = f"did not compile in {options.compile_limit:.0f} s"
    a = torch.randn(BATCH * side * side, hidden * taps, device=options.device)
    b = torch.randn(hidden * taps, 4 * hidden, device=options.device)
    parts = forward_and_step(
        (partial(operator, backend=backend), ours, grad.contiguous(memory_format=LAST)),
        {key: (function, inputs, grad) for key, function in loops.items()},
        {FORWARD: lambda: a @ b, STEP: lambda: [a @ b for _ in range(3)]},
        left_out,
    )
    return Prepared(parts, lambda: check_steps(parts, 1e-3, 1e-4))


def prepare_torch(hidden: int, side: int, backend: str, options: Options) -> Prepared:
    """nn.LSTM over [H, B * W, h], and the same numbers as a map [B, h, H, W]."""
    lstm = nn.LSTM(hidden, hidden).to(options.device)
    columns = torch.randn(side, BATCH * side, hidden, device=options.device)
    grad = torch.randn_like(columns)

    def as_map(lines: Tensor) -> Tensor:
        """[H, B * W, C] -> [B, C, H, W], channels_last."""
        return lines.unflatten(1, (BATCH, side)).permute(1, 3, 0, 2).contiguous(memory_format=LAST)

    inputs = [columns, lstm.weight_ih_l0, lstm.weight_hh_l0, lstm.bias_ih_l0, lstm.bias_hh_l0]
    inputs = [t.detach().requires_grad_() for t in inputs]
    own = [as_map(inputs[0].detach()).requires_grad_(), *inputs[1:]]
    nothing = torch.zeros(hidden, device=options.device)

    def theirs(x: Tensor, *weights: Tensor) -> Tensor:
        names = ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0")
        out, _ = torch.func.functional_call(lstm, dict(zip(names, weights, strict=True)), (x,))
        return out

    def ours(x: Tensor, w_ih: Tensor, w_hh: Tensor, b_ih: Tensor, b_hh: Tensor) -> Tensor:
        gates = F.conv2d(x, w_ih[:, :, None, None], b_ih + b_hh)
        return ops.row_lstm(gates, w_hh[:, :, None], nothing, nothing, backend=backend)

    a, b = columns.flatten(0, 1), torch.randn(hidden, 4 * hidden, device=options.device)
    parts = forward_and_step(
        (ours, own, as_map(grad)),
        {"nn.LSTM": (theirs, inputs, grad)},
        {FORWARD: lambda: [a @ b for _ in range(2)], STEP: lambda: [a @ b for _ in range(6)]},
    )

    def same(rival: Tensor) -> Tensor:
        return as_map(rival) if rival.ndim == 3 else rival

    return Prepared(parts, lambda: check_steps(parts, 1e-3, 1e-4, same))
