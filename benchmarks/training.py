"""A training step, from a batch of levels to updated weights, against the same network as a user would write it.

    plain layers    F.conv2d(x, weight * mask), tanh and sigmoid of two halves, the loops of lstm.py over rows and
                    columns, and the eager formula of logistic_mixture.py in the place of genfast's operators
    contiguous      GAN and VAE, whose layers are PyTorch's own: weights not laid out channels_last, as theirs are
    Adam            PyTorch's default instead of Adam(fused=True), with which genfast trains on a CPU

The first two have our optimizer; the last, a part of its own, our layers: one difference at a time. The floor is the
FLOPs of the step's products and convolutions (of ours, where masked taps are not counted) at the peak of a large matrix
product in the same run.
"""

import copy
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache, partial
from typing import Any
from unittest import mock

import logistic_mixture
import lstm
import passes
import torch
import torch.nn.functional as F
from cases import Case, Options, Prepared, Timing
from rates import known, peak
from torch import Tensor

from genfast import ops
from genfast.kernels.masked_conv2d.mask import causal_mask
from genfast.models import MODELS, Model, build_model
from genfast.profiling.recorder import Recorder

UPDATE, OPTIMIZER = "update", "optimizer"
PLAIN, CONTIGUOUS, ADAM = "plain layers", "contiguous weights", "Adam"
# title, model, preset, images, in a quick run, rival
SIZES = (
    ("PixelCNN, 5 blocks, h = 48, 28x28", "pixelcnn", "small", 16, True, PLAIN),
    ("Gated PixelCNN, 6 layers x 32, 28x28", "gated-pixelcnn", "small", 16, False, PLAIN),
    ("PixelRNN, Row LSTM, 5 layers, h = 48, 28x28", "pixelrnn", "small-row", 16, False, PLAIN),
    ("PixelRNN, Diagonal BiLSTM, 4 layers, h = 48, 28x28", "pixelrnn", "small-diagonal", 16, False, PLAIN),
    ("PixelCNN++, 2 resnets, 32 filters, 28x28", "pixelcnn-pp", "small", 16, False, PLAIN),
    ("VAE, 2 x 400, 28x28", "vae", "small", 64, False, CONTIGUOUS),
    ("VAE, convolutions, 28x28", "vae", "mnist", 64, False, CONTIGUOUS),
    ("GAN, DCGAN, 28x28", "gan", "mnist", 64, True, CONTIGUOUS),
    ("GAN, 2 x 256, 28x28", "gan", "small", 64, False, CONTIGUOUS),
    ("GAN, SNGAN, 32x32x3", "gan", "cifar10", 64, False, CONTIGUOUS),
)


@cache
def mask_of(shape: torch.Size, mask_type: str, color_groups: int, device: torch.device) -> Tensor:
    """Made once, as a layer's buffer would be."""
    return causal_mask(shape[0], shape[1], (shape[2], shape[3]), mask_type, color_groups).to(device)


def conv(
    x: Tensor, weight: Tensor, bias: Tensor | None = None, mask_type: str = "B", color_groups: int = 1, **_: Any
) -> Tensor:
    """ops.masked_conv2d without a kernel of its own."""
    mask = mask_of(weight.shape, mask_type, color_groups, weight.device)
    return F.conv2d(x, weight * mask, bias, padding=(weight.shape[2] // 2, weight.shape[3] // 2))


def row(x: Tensor, weight: Tensor, h0: Tensor, c0: Tensor) -> Tensor:
    return lstm.row_loop(lstm.unbound, lstm.row_step, x, weight, h0, c0)


def diagonal(x: Tensor, weight: Tensor, h0: Tensor, c0: Tensor, reverse: bool = False) -> Tensor:
    loop = partial(lstm.diagonal_loop, lstm.unbound, lstm.diagonal_step)
    return loop(x.flip(3), weight, h0, c0).flip(3) if reverse else loop(x, weight, h0, c0)


def mixture(params: Tensor, images: Tensor, components: int | None = None, *_: Any, **__: Any) -> Tensor:
    return logistic_mixture.eager(params, images, components)


@contextmanager
def plain_layers() -> Iterator[None]:
    """In the place of the operators that there are: older versions, on which ``--compare`` runs this, have fewer."""
    replaced: dict[str, Any] = {"masked_conv2d": conv, "gated_activation": passes.gate, "row_lstm": row}
    replaced |= {"diagonal_lstm": diagonal, "logistic_mixture": mixture}
    with mock.patch.multiple(ops, **{name: plain for name, plain in replaced.items() if hasattr(ops, name)}):
        yield


def stepper(model: Model, images: Tensor, fused: bool) -> Callable[[], list[float]]:
    """One training step of a copy of the model, which gives the losses of its turns."""
    model = copy.deepcopy(model).train()
    optimizers = {
        player: torch.optim.Adam(
            model.get_submodule(player).parameters(), lr=2e-4, betas=(0.5, 0.999), fused=fused or None
        )
        for player in model.players
    }

    def step() -> list[float]:
        torch.manual_seed(0)
        losses = []
        for player, optimizer in optimizers.items():
            loss, _ = model.turn_loss(player, images, None, 0)
            loss.mean().backward()
            optimizer.step()
            optimizer.zero_grad()
            losses.append(loss.mean().item())
        return losses

    return step


def cases(options: Options) -> list[Case]:
    found = []
    for title, name, preset, images, quick, rival in SIZES:
        facts = {"model": title, "batch": images}
        make = partial(prepare, name, preset, images, rival, options)
        found.append(Case("training", f"{title}, batch {images}", facts, (UPDATE, OPTIMIZER), make, quick=quick))
    return found


def ceilings(options: Options) -> dict[str, float]:
    return known(options.device, peak_gflops=("peak", 1e9, 0))


def prepare(name: str, preset: str, count: int, rival: str, options: Options) -> Prepared:
    model = build_model(name, MODELS[name].presets[preset])
    images = torch.randint(0, model.levels, (count, *model.image_shape), dtype=torch.uint8)
    model.initialize(images)
    model, images = model.to(options.device), images.to(options.device)
    ours, optimizer = stepper(model, images, True), stepper(model, images, False)
    if rival == PLAIN:
        plain = stepper(model, images, True)

        def theirs() -> list[float]:
            with plain_layers():
                return plain()
    else:
        other = copy.deepcopy(model).to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
        theirs = stepper(other, images, True)
    with Recorder() as recorder:
        stepper(model, images, True)()
    floor = sum(calls.work.flops for calls in recorder.finish()) / peak(options.device)
    parts = {UPDATE: Timing(ours, {rival: theirs}, floor), OPTIMIZER: Timing(ours, {ADAM: optimizer}, floor)}
    return Prepared(parts, partial(check, ours, {rival: theirs, ADAM: optimizer}))


def check(ours: Callable[[], list[float]], rivals: Mapping[str, Callable[[], list[float]]]) -> None:
    """The losses of two steps: the second sees the gradients of the first."""
    expected = [ours(), ours()]
    for name, rival in rivals.items():
        torch.testing.assert_close(
            [rival(), rival()], expected, rtol=1e-3, atol=1e-4, msg=lambda text, name=name: f"{name}: {text}"
        )
