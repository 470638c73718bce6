"""A training step of the GAN presets: what the memory layout and a fused Adam are worth.

    python benchmarks/gan.py [--threads 1] [--batch 64]

Both turns, from a batch of levels to updated weights. Ours is channels_last, as genfast.models.GAN lays out its
weights, against contiguous ones; and Adam(fused=True), with which genfast trains on a CPU, against plain Adam.
Processor time on one thread, so that a busy machine does not decide. The floor is what the networks multiply: about 22
million products an image for "mnist", three passes of each network but for what a turn leaves out.
"""

import argparse
import copy
import time
from collections.abc import Callable

import torch
from harness import Ratio, compare

from genfast.models import GAN
from genfast.models.gan import PRESETS


def stepper(model: GAN, images: torch.Tensor, fused: bool) -> Callable[[], list[float]]:
    """One training step of a copy of the model, which gives the losses of its turns."""
    model = copy.deepcopy(model)
    optimizers = {
        player: torch.optim.Adam(model.get_submodule(player).parameters(), lr=2e-4, betas=(0.5, 0.999), fused=fused)
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


def measured(ours: Callable[[], list[float]], theirs: Callable[[], list[float]], turns: int) -> Ratio:
    """The ratio of their times, after both gave the same losses."""
    torch.testing.assert_close(ours(), theirs(), rtol=1e-3, atol=1e-4)
    return compare(ours, theirs, turns, clock=time.process_time if torch.get_num_threads() == 1 else time.perf_counter)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--turns", type=int, default=7)
    flags = parser.parse_args()
    torch.set_num_threads(flags.threads)
    torch.set_flush_denormal(True)
    for name in ("mnist", "small", "cifar10"):
        torch.manual_seed(0)
        model = GAN(PRESETS[name])
        images = torch.randint(0, model.levels, (flags.batch, *model.image_shape), dtype=torch.uint8)
        contiguous = copy.deepcopy(model).to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
        rows = {
            "channels_last against contiguous": (stepper(model, images, True), stepper(contiguous, images, True)),
            "fused Adam against Adam": (stepper(model, images, True), stepper(model, images, False)),
        }
        for title, (ours, theirs) in rows.items():
            found = measured(ours, theirs, flags.turns)
            print(
                f"{name:8} {title:33} {found.low:.2f} - {found.median:.2f} - {found.high:.2f} times as fast, "
                f"{found.ours * 1e3:.1f} ms a step",
                flush=True,
            )


if __name__ == "__main__":
    main()
