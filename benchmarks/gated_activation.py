"""gated_activation against the three passes that everyone writes, tanh(f) * sigmoid(g), eager and by torch.compile:
forward, and forward + backward.

Eager PyTorch writes tanh and sigmoid to memory, and keeps them for backward; torch.compile makes one pass of it, as
ours is one. The floor: each number read and written once, x and the result forward, besides both gradients and x again
backward, at the bandwidth of a copy, plus two exponentials a result (kernels/gated_activation/work.py) at the rate of
torch.exp in cache, which backward computes again. Both are measured in the same run.
"""

from functools import partial
from itertools import product

import torch
from cases import FORMATS, Case, Options, Prepared, backends, compiled, suffix
from gradients import FORWARD, PARTS, STEP, check_steps, forward_and_step
from passes import gate
from rates import bandwidth, exponentials, known
from torch import Tensor

from genfast import ops
from genfast.kernels.gated_activation.work import work

EAGER, COMPILED = "tanh(f) * sigmoid(g)", "the same by torch.compile"
SIZES = ((16, 128, 28, 1), (64, 128, 28, 1), (16, 192, 32, 3))  # B, h, side, colour groups: the presets' layers


def cases(options: Options) -> list[Case]:
    found = []
    for (batch, hidden, side, groups), layout, backend in product(
        SIZES, FORMATS, backends(options, "gated_activation")
    ):
        facts = {"batch": batch, "hidden": hidden, "side": side, "groups": groups, "layout": layout}
        colours = f", {groups} colours" if groups > 1 else ""
        title = f"gated_activation, h = {hidden}, {side}x{side}{colours}, batch {batch}, {layout}{suffix(backend)}"
        quick = layout == "channels_last" and hidden == 128 and batch == 16
        make = partial(prepare, batch, hidden, side, groups, layout, backend, options)
        found.append(Case("gated_activation", title, facts, PARTS, make, quick=quick))
    return found


def ceilings(options: Options) -> dict[str, float]:
    return known(options.device, copy_gb_per_s=("copy", 1e9, 1), g_exp_per_s=("exp", 1e9, 2))


def prepare(batch: int, hidden: int, side: int, groups: int, layout: str, backend: str, options: Options) -> Prepared:
    x, grad = (
        torch.randn(batch, channels, side, side, device=options.device).contiguous(memory_format=FORMATS[layout])
        for channels in (2 * hidden, hidden)
    )
    x.requires_grad_()

    def theirs(x: Tensor) -> Tensor:
        return gate(x, groups)

    rivals, left_out = {EAGER: theirs}, {}
    if options.compiled and not options.quick:
        fast, why = compiled(theirs, x)
        rivals |= {COMPILED: fast} if fast else {}
        left_out |= {} if fast else {COMPILED: why}
    moved = grad.nbytes / bandwidth(options.device)
    sums = work(grad.numel()).exponentials / exponentials(options.device)
    parts = forward_and_step(
        (lambda x: ops.gated_activation(x, groups, backend), [x], grad),
        {name: (function, [x], grad) for name, function in rivals.items()},
        {FORWARD: 3 * moved + sums, STEP: 8 * moved + 2 * sums},
        left_out,
    )
    return Prepared(parts, lambda: check_steps(parts, 1e-4, 1e-5))
