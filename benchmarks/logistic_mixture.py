"""logistic_mixture against the eager formula of published PixelCNN++ code, and torch.compile of it: forward, and
forward + backward.

The eager formula is about thirty elementwise passes over tensors of K * C maps, and autograd keeps most of them;
torch.compile makes a few passes of them. It is an approximation where P < 1e-5; the parameters here have scales of some
levels, where both agree.

The floor: every parameter read once and (backward) every gradient written once at the bandwidth of a copy, plus the
exponentials (kernels/logistic_mixture/work.py) at the rate of torch.exp in cache, twice for forward + backward, which
computes them again instead of keeping them. Both are measured in the same run.
"""

from functools import partial
from itertools import product

import torch
import torch.nn.functional as F
from cases import FORMATS, Case, Options, Prepared, backends, compiled, suffix
from gradients import FORWARD, PARTS, STEP, check_steps, forward_and_step
from rates import bandwidth, exponentials, known
from torch import Tensor

from genfast import ops
from genfast.kernels.logistic_mixture.work import work

EAGER, COMPILED = "eager formula", "the same by torch.compile"
# title, B, C, side, components
SIZES = (
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


def floor(params: Tensor, images: Tensor, components: int | None, device: str) -> dict[str, float]:
    """Seconds of forward, and of forward + backward."""
    pixels, channels = images.numel() // images.shape[1], images.shape[1]
    sums = work(pixels, channels, components or 0).exponentials / exponentials(device)
    moved = params.nbytes / bandwidth(device)
    return {FORWARD: moved + sums, STEP: 3 * moved + 2 * sums}


def ceilings(options: Options) -> dict[str, float]:
    return known(options.device, copy_gb_per_s=("copy", 1e9, 1), g_exp_per_s=("exp", 1e9, 2))


def cases(options: Options) -> list[Case]:
    found = []
    for (title, *sizes), layout, backend in product(SIZES, FORMATS, backends(options, "logistic_mixture")):
        facts = {"case": title, "batch": sizes[0], "layout": layout}
        # Compiling takes half a minute or so: a quick run has one of them.
        compile_too = options.compiled and not (options.quick and title != SIZES[0][0])
        make = partial(prepare, tuple(sizes), layout, backend, options, compile_too)
        name = f"{title}, batch {sizes[0]}, {layout}{suffix(backend)}"
        found.append(Case("logistic_mixture", name, facts, PARTS, make, quick=layout == "channels_last"))
    return found


def prepare(sizes: tuple, layout: str, backend: str, options: Options, compile_too: bool) -> Prepared:
    params, images, grad = (t.to(options.device) for t in make_inputs(*sizes))
    components = sizes[3]
    params = params.contiguous(memory_format=FORMATS[layout]).requires_grad_()

    def theirs(p: Tensor) -> Tensor:
        return eager(p, images, components)

    rivals, left_out = {EAGER: theirs}, {}
    if compile_too:
        fast, why = compiled(theirs, params)
        rivals |= {COMPILED: fast} if fast else {}
        left_out |= {} if fast else {COMPILED: why}
    parts = forward_and_step(
        (lambda p: ops.logistic_mixture(p, images, components, backend=backend), [params], grad),
        {name: (function, [params], grad) for name, function in rivals.items()},
        floor(params, images, components, options.device),
        left_out,
    )
    # Both agree within the width of a bin, squared, over 24, of their density.
    return Prepared(parts, lambda: check_steps(parts, 1e-3, 3e-3))
