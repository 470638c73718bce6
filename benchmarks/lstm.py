"""row_lstm and diagonal_lstm against the loops that everyone writes: forward, and forward + backward, batch 16.

    python benchmarks/lstm.py [--quick] [--cpu-time] [--hidden H] [--compile-limit SECONDS]

The Row LSTM's loop runs F.conv1d and a cell for each row; the Diagonal LSTM's skews the map and does the same for each
of the H + W - 1 columns. The rivals, of which the fastest counts:

    slicing, unbind   how the loop takes its lines, uncompiled
    compiled step     torch.compile of one step, a convolution and a cell, in that Python loop
    compiled loop     torch.compile of the loop, unrolled; left out, and listed as such, where a child process does not
                      compile it, forward and backward, within the limit (more than 200 s were seen)

The floor is the recurrent products as one dense matrix product in this run, three of them for forward + backward; cells
(five exponentials a hidden channel) and memory come on top.
"""

import argparse
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from harness import Ratio, as_row, compare, save
from torch import Tensor

from genfast import ops

SIZES = ((16, 28), (64, 28), (128, 32))  # h, side
BATCH = 16
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


def training_step(function: Callable[..., Tensor], inputs: list[Tensor], grad: Tensor) -> list[Tensor]:
    out = function(*inputs)
    return [out, *torch.autograd.grad(out, inputs, grad)]


def check(ours: list[Tensor], theirs: list[Tensor]) -> None:
    """No number without the right answer: within rounding of sums this long."""
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4 * float(b.detach().abs().max()))


def hardest(
    ours: Callable[[], Any], theirs: dict[str, Callable[[], Any]], timed: Callable[..., Ratio]
) -> tuple[str, Ratio]:
    """The loop that ours beats by least."""
    ratios = {name: timed(ours, function) for name, function in theirs.items()}
    return min(ratios.items(), key=lambda item: item[1].median)


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
    training_step(compiled, inputs, grad)
    with torch.no_grad():
        compiled(*inputs)


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


def measure(
    name: str, hidden: int, side: int, compile_limit: float | None, timed: Callable[..., Ratio]
) -> dict[str, Any]:
    """compile_limit: None for no compiled rivals; timed: harness.compare with its turns and clock."""
    operator, loop, step, taps = OPERATORS[name]
    theirs_in, grad = make_inputs(name, hidden, side)
    last = torch.channels_last
    ours_in = [theirs_in[0].detach().contiguous(memory_format=last).requires_grad_(), *theirs_in[1:]]
    loops = {"slicing": partial(loop, sliced, step), "unbind": partial(loop, unbound, step)}
    left_out = []
    if compile_limit is not None:
        torch.compiler.reset()
        loops["compiled step"] = partial(loop, unbound, torch.compile(step))
        if compiles(name, hidden, side, compile_limit):
            loops["compiled loop"] = torch.compile(loops["unbind"])
        else:
            left_out.append("compiled loop")
    ours_step = partial(training_step, operator, ours_in, grad.contiguous(memory_format=last))
    theirs_steps = {key: partial(training_step, function, theirs_in, grad) for key, function in loops.items()}
    for function in theirs_steps.values():
        check(ours_step(), function())
    with torch.no_grad():
        rival, forward = hardest(
            lambda: operator(*ours_in), {key: partial(f, *theirs_in) for key, f in loops.items()}, timed
        )
        a, b = torch.randn(BATCH * side * side, hidden * taps), torch.randn(hidden * taps, 4 * hidden)
        floor = timed(lambda: operator(*ours_in), lambda: a @ b)
    step_rival, both = hardest(ours_step, theirs_steps, timed)
    step_floor = timed(ours_step, lambda: [a @ b for _ in range(3)])
    return {
        "operator": f"{name}_lstm",
        "hidden": hidden,
        "side": side,
        "batch": BATCH,
        "left_out": left_out,
        "forward_rival": rival,
        "step_rival": step_rival,
        **as_row("forward", forward),
        **as_row("step", both),
        "forward_of_floor": round(1 / floor.median, 3),
        "step_of_floor": round(1 / step_floor.median, 3),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="three turns, nothing compiled; writes nothing")
    parser.add_argument("--hidden", type=int, choices=[h for h, _ in SIZES], help="one size; writes nothing")
    parser.add_argument(
        "--cpu-time", action="store_true", help="quick, on one thread, in its CPU time: for a busy machine"
    )
    parser.add_argument("--compile-limit", type=float, default=120, help="seconds to compile the loop of one size")
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    quick = args.quick or args.cpu_time
    torch.set_num_threads(1 if args.cpu_time else args.threads)
    clock = time.process_time if args.cpu_time else time.perf_counter
    timed = partial(compare, turns=3 if quick else 7, clock=clock)
    rows = []
    for name in OPERATORS:
        for hidden, side in SIZES:
            if args.hidden not in (None, hidden):
                continue
            row = measure(name, hidden, side, None if quick else args.compile_limit, timed)
            rows.append(row)
            parts = [
                f"{what} {row[f'{key}_median']:.1f}x [{row[f'{key}_low']:.1f}, {row[f'{key}_high']:.1f}] of "
                f"{row[f'{key}_rival']}, {row[f'{key}_of_floor']:.1f} floors"
                for what, key in (("forward", "forward"), ("forward+backward", "step"))
            ]
            parts += [f"left out: {rival}" for rival in row["left_out"]]
            print(f"{row['operator']:13} h = {hidden:3} {side}x{side}:  {';  '.join(parts)}", flush=True)
    if not quick and args.hidden is None:
        print("wrote", save("lstm", rows, compile_limit=args.compile_limit))


if __name__ == "__main__":
    main()
