"""masked_conv2d against what it replaces, F.conv2d(x, weight * mask): forward, and forward + backward.

    python benchmarks/masked_conv2d.py [--quick]

The floor: a mask B filter of k x k keeps T = (k*k + 1) / 2 taps, so the work is T / k^2 of the dense convolution's
and the ratio would be k^2 / T (1.80, 1.92, 1.96 for 3, 5, 7) if both ran at one rate. Both layouts are measured, each
against its like.
"""

import argparse
from collections.abc import Callable
from itertools import product

import torch
import torch.nn.functional as F
from harness import as_row, compare, save
from torch import Tensor

from genfast import ops
from genfast.kernels.masked_conv2d.mask import causal_mask
from genfast.kernels.masked_conv2d.work import work
from genfast.profiling.ceilings import product_rate

FORMATS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}


def dense(x: Tensor, weight: Tensor, bias: Tensor, mask: Tensor) -> Tensor:
    return F.conv2d(x, weight * mask, bias, padding=(weight.shape[2] // 2, weight.shape[3] // 2))


def step(function: Callable[..., Tensor], inputs: list[Tensor], grad: Tensor, *more: Tensor) -> list[Tensor]:
    out = function(*inputs, *more)
    return [out, *torch.autograd.grad(out, inputs, grad)]


def check(ours: list[Tensor], theirs: list[Tensor]) -> None:
    """No number without the right answer: within rounding of sums this long."""
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4 * float(b.abs().max()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="batch 16 and 28x28 only; writes nothing")
    parser.add_argument("--threads", type=int, default=2)
    quick, threads = (lambda a: (a.quick, a.threads))(parser.parse_args())
    torch.set_num_threads(threads)
    peak = product_rate()
    print(f"peak of a float32 matrix product: {peak / 1e9:.0f} GFLOP/s on {threads} threads")
    rows = []
    for layout, k, channels, side, batch in product(FORMATS, (3, 5, 7), (64, 128), (28, 32), (16, 64)):
        if quick and (side, batch) != (28, 16):
            continue
        torch.manual_seed(0)
        x = torch.randn(batch, channels, side, side).to(memory_format=FORMATS[layout])
        grad = torch.randn_like(x)
        weight, bias = torch.randn(channels, channels, k, k) / (channels * k * k) ** 0.5, torch.randn(channels)
        mask = causal_mask(channels, channels, (k, k), "B")
        inputs = [t.requires_grad_() for t in (x, weight, bias)]
        ours_step, theirs_step = (
            lambda inputs=inputs, grad=grad: step(ops.masked_conv2d, inputs, grad),
            lambda inputs=inputs, grad=grad, mask=mask: step(dense, inputs, grad, mask),
        )
        check(ours_step(), [t * mask if t.shape == mask.shape else t for t in theirs_step()])
        with torch.no_grad():
            forward = compare(
                lambda inputs=inputs: ops.masked_conv2d(*inputs), lambda inputs=inputs, mask=mask: dense(*inputs, mask)
            )
        both = compare(ours_step, theirs_step, turns=5)
        flops = work(batch * side * side, channels, channels, (k, k), "B").flops
        row = {"layout": layout, "kernel": k, "channels": channels, "side": side, "batch": batch, "flops": flops,
               **as_row("forward", forward), **as_row("step", both),
               "forward_of_peak": round(flops / forward.ours / peak, 3), "step_of_peak": round(3 * flops / both.ours /
               peak, 3)}  # fmt: skip
        rows.append(row)
        shape = f"{layout:13} {k}x{k} {channels:3} channels {side}x{side} batch {batch:2}"
        parts = [
            f"{name} {ratio.median:.2f}x [{ratio.low:.2f}, {ratio.high:.2f}] {share:4.0%} of peak"
            for name, ratio, share in (
                ("forward", forward, row["forward_of_peak"]),
                ("forward+backward", both, row["step_of_peak"]),
            )
        ]
        print(f"{shape}:  {'   '.join(parts)}", flush=True)
    if not quick:
        print("wrote", save("masked_conv2d", rows, peak_gflops=round(peak / 1e9)))


if __name__ == "__main__":
    main()
