"""masked_conv2d against what it replaces, F.conv2d(x, weight * mask), eager and compiled: forward, forward + backward.

The floor is the multiplications of the taps that are not masked, at the peak of a large matrix product in the same run,
three times that for forward + backward. A mask B filter of k x k keeps T = (k * k + 1) / 2 taps, so the ratio would be
k^2 / T (1.80, 1.92, 1.96 for 3, 5, 7) if both ran at one rate. Both layouts are measured, each against its like.
"""

from functools import partial
from itertools import product

import torch
import torch.nn.functional as F
from cases import FORMATS, Case, Options, Prepared, backends, compiled, suffix
from gradients import FORWARD, PARTS, STEP, check_steps, forward_and_step
from rates import known, peak
from torch import Tensor

from genfast import ops
from genfast.kernels.masked_conv2d.mask import causal_mask
from genfast.kernels.masked_conv2d.work import work

EAGER, COMPILED = "F.conv2d(x, weight * mask)", "the same by torch.compile"


def dense(x: Tensor, weight: Tensor, bias: Tensor, mask: Tensor) -> Tensor:
    return F.conv2d(x, weight * mask, bias, padding=(weight.shape[2] // 2, weight.shape[3] // 2))


def cases(options: Options) -> list[Case]:
    found = []
    sizes = product(FORMATS, (3, 5, 7), (64, 128), (28, 32), (16, 64), backends(options, "masked_conv2d"))
    for layout, k, channels, side, batch, backend in sizes:
        facts = {"layout": layout, "kernel": k, "channels": channels, "side": side, "batch": batch}
        facts["flops"] = work(batch * side * side, channels, channels, (k, k), "B").flops
        title = f"{k}x{k}, {channels} channels, {side}x{side}, batch {batch}, {layout}{suffix(backend)}"
        smallest = (channels, side, batch) == (64, 28, 16)
        found.append(
            Case(
                "masked_conv2d",
                title,
                facts,
                PARTS,
                partial(prepare, facts, backend, options, smallest),
                quick=smallest and (layout == "channels_last" or k == 3),
            )
        )
    return found


def ceilings(options: Options) -> dict[str, float]:
    return known(options.device, peak_gflops=("peak", 1e9, 0))


def prepare(facts: dict, backend: str, options: Options, compile_too: bool) -> Prepared:
    """compile_too: only for the smallest of each kind, since there is nothing in it that compiling could fuse."""
    k, channels, side, batch = (facts[name] for name in ("kernel", "channels", "side", "batch"))
    device, layout = options.device, FORMATS[facts["layout"]]
    x = torch.randn(batch, channels, side, side, device=device).to(memory_format=layout)
    grad = torch.randn_like(x)
    weight = torch.randn(channels, channels, k, k, device=device) / (channels * k * k) ** 0.5
    mask = causal_mask(channels, channels, (k, k), "B").to(device)
    inputs = [t.requires_grad_() for t in (x, weight, torch.randn(channels, device=device))]
    rivals, left_out = {EAGER: dense}, {}
    if compile_too and options.compiled and not options.quick:
        fast, why = compiled(dense, *inputs, mask)
        rivals |= {COMPILED: fast} if fast else {}
        left_out |= {} if fast else {COMPILED: why}
    seconds = facts["flops"] / peak(device)
    parts = forward_and_step(
        (partial(ops.masked_conv2d, backend=backend), inputs, grad),
        {name: (function, [*inputs, mask], grad) for name, function in rivals.items()},
        {FORWARD: seconds, STEP: 3 * seconds},
        left_out,
    )

    def masked(theirs: Tensor) -> Tensor:
        """The dense gradient has numbers where the mask is zero."""
        return theirs * mask if theirs.shape == mask.shape else theirs

    return Prepared(parts, lambda: check_steps(parts, 1e-3, 1e-4, masked))
