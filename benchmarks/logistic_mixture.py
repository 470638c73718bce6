"""logistic_mixture against the eager formula of published PixelCNN++ code: forward, and forward + backward.

    python benchmarks/logistic_mixture.py [--quick] [--only TEXT]

The eager formula is about thirty elementwise passes over tensors of K * C maps, and autograd keeps most of them. It is
an approximation where P < 1e-5; the parameters here have scales of some levels, where both agree.

The floor: every parameter read once and (backward) every gradient written once at the bandwidth of a copy, plus the
exponentials (kernels/logistic_mixture/work.py) at the rate of torch.exp in cache, twice for forward + backward, which
computes them again instead of keeping them. Both are measured in the same run. "Floors" is our time over that.
"""

import argparse
from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from harness import as_row, compare, save
from torch import Tensor

from genfast import ops
from genfast.kernels.logistic_mixture.work import work
from genfast.profiling.ceilings import copy_rate, exponential_rate

FORMATS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}
# title, B, C, side, components
CASES = (
    ("PixelCNN++, 32x32x3, K = 10", 16, 3, 32, 10),
    ("PixelCNN++, 28x28x1, K = 10", 64, 1, 28, 10),
    ("VAE, 32x32x3, one logistic", 64, 3, 32, None),
    ("VAE, 28x28x1, one logistic", 128, 1, 28, None),
)


def eager_bins(x: Tensor, means: Tensor, log_scales: Tensor) -> Tensor:
    """The published formula, approximation included: x in -1 .. 1, 256 levels."""
    log_scales = log_scales.clamp(min=-7.0)
    inverse = torch.exp(-log_scales)
    centred = x - means
    plus, minus, middle = inverse * (centred + 1 / 255), inverse * (centred - 1 / 255), inverse * centred
    delta = torch.sigmoid(plus) - torch.sigmoid(minus)
    density = middle - log_scales - 2 * F.softplus(middle)
    inside = torch.where(delta > 1e-5, torch.log(delta.clamp(min=1e-12)), density - 4.8481164)  # ln 127.5
    return torch.where(x < -0.999, plus - F.softplus(plus), torch.where(x > 0.999, -F.softplus(minus), inside))


def eager(params: Tensor, images: Tensor, components: int | None) -> Tensor:
    x = images.float() / 127.5 - 1
    channels = x.shape[1]
    if components is None:
        return eager_bins(x, *params.chunk(2, 1))
    colours = params[:, components:].unflatten(1, (channels, -1, components))
    means, log_scales = colours[:, :, 0], colours[:, :, 1]
    if channels == 3:
        c = torch.tanh(colours[:, :, 2])
        red, green = x[:, :1], x[:, 1:2]
        of_red, of_green, of_blue = means.unbind(1)
        means = torch.stack([of_red, of_green + c[:, 0] * red, of_blue + c[:, 1] * red + c[:, 2] * green], 1)
    bins = eager_bins(x[:, :, None], means, log_scales)
    return torch.logsumexp(bins.sum(1) + F.log_softmax(params[:, :components], 1), 1)


def step(function: Callable[..., Tensor], params: Tensor, grad: Tensor) -> list[Tensor]:
    out = function(params)
    return [out, *torch.autograd.grad(out, params, grad)]


def check(ours: list[Tensor], theirs: list[Tensor]) -> None:
    """No number without the right answer: within the width of a bin, squared, over 24, of their density."""
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=3e-3 * float(b.detach().abs().max()))


def make_inputs(batch: int, channels: int, side: int, components: int | None) -> tuple[Tensor, Tensor, Tensor]:
    torch.manual_seed(0)
    images = torch.randint(0, 256, (batch, channels, side, side), dtype=torch.uint8)
    count = 2 * channels if components is None else components * (10 if channels == 3 else 3)
    params = torch.randn(batch, count, side, side) / 2
    if components is None:
        params[:, channels:] -= 2
    else:
        params[:, components:].unflatten(1, (channels, -1, components))[:, :, 1] -= 2
    grad = torch.randn(batch, side, side) if components else torch.randn(images.shape)
    return params, images, grad


def four(function: Callable[[Tensor], Tensor], params: Tensor) -> None:
    """Forward alone takes a millisecond or less: one preemption would be all that is seen."""
    for _ in range(4):
        function(params)


def floor(params: Tensor, images: Tensor, components: int | None, ceiling: tuple[float, float]) -> tuple[float, float]:
    """Seconds of forward, and of forward + backward."""
    pixels, channels = images.numel() // images.shape[1], images.shape[1]
    exponentials = work(pixels, channels, components or 0).exponentials / ceiling[1]
    return params.nbytes / ceiling[0] + exponentials, 3 * params.nbytes / ceiling[0] + 2 * exponentials


def measure(title: str, sizes: tuple[int, int, int, int | None], layout: str, ceiling: tuple[float, float], turns: int):
    """One row of the results."""
    params, images, grad = make_inputs(*sizes)
    components = sizes[3]
    params = params.contiguous(memory_format=FORMATS[layout]).requires_grad_()
    ours, theirs = (
        lambda p: ops.logistic_mixture(p, images, components, backend="cpu"),
        lambda p: eager(p, images, components),
    )
    check(step(ours, params, grad), step(theirs, params, grad))
    with torch.no_grad():
        forward = compare(partial(four, ours, params), partial(four, theirs, params), turns)
    both = compare(partial(step, ours, params, grad), partial(step, theirs, params, grad), turns)
    forward_floor, step_floor = floor(params, images, components, ceiling)
    return {
        "case": title, "batch": sizes[0], "layout": layout, **as_row("forward", forward), **as_row("step", both),
        "forward_floors": round(forward.ours / 4 / forward_floor, 2), "step_floors": round(both.ours / step_floor, 2),
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="three turns; writes nothing")
    parser.add_argument("--only", default="", help="cases with this in their title; writes nothing")
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    ceiling = copy_rate(), exponential_rate()
    print(f"copy {ceiling[0] / 1e9:.1f} GB/s, {ceiling[1] / 1e9:.2f} G exponentials a second, {args.threads} threads")
    rows = []
    for title, *sizes in (case for case in CASES if args.only in case[0]):
        for layout in FORMATS:
            row = measure(title, tuple(sizes), layout, ceiling, turns=3 if args.quick else 9)
            rows.append(row)
            parts = [
                f"{what} {row[f'{key}_median']:.1f}x [{row[f'{key}_low']:.1f}, {row[f'{key}_high']:.1f}] "
                f"{row[f'{key}_ours'] * 1e3 / calls:.2f} ms, {row[f'{key}_floors']:.1f} floors"
                for what, key, calls in (("forward", "forward", 4), ("forward+backward", "step", 1))
            ]
            print(f"{title} batch {row['batch']} {layout:13}:  {';  '.join(parts)}", flush=True)
    if not args.quick and not args.only:
        gb, exps = round(ceiling[0] / 1e9, 1), round(ceiling[1] / 1e9, 2)
        print("wrote", save("logistic_mixture", rows, copy_gb_per_s=gb, g_exp_per_s=exps))


if __name__ == "__main__":
    main()
