"""check_causality: what a network may be used for, and why not, as a report that a person can read."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from torch import nn

from genfast.compiler.causality import Leak, find_leaks, name_of, receptive_field, sentence
from genfast.compiler.compile import trace
from genfast.compiler.foreign import Conditions, Encode, Foreign, conditions_of, describe, is_model
from genfast.compiler.layout import Pick
from genfast.compiler.order import Order
from genfast.compiler.program import Program
from genfast.compiler.resolve import causal, observe, resolve
from genfast.compiler.target import model_target
from genfast.errors import GenfastError, NotSupported
from genfast.likelihoods import Likelihood

SHADES = {"read": (66, 133, 244), "blind": (234, 67, 53), "out of reach": (200, 200, 200), "itself": (251, 188, 4),
          "later": (245, 245, 245), "leak": (160, 0, 160)}  # fmt: skip


@dataclass(frozen=True)
class CausalityReport:
    """ok: no output reads a sub-pixel drawn at the same time or later, or another image. ``print`` it.

    leaks: one for each output that does, worst first; each has the layer and the path from the input.
    field_of(channel, y, x): the sub-pixels that an output reads.  # bool [C, H, W]
    blind_spot(channel, y, x): earlier sub-pixels that it does not read, inside the smallest box of rows above (and in
    its own row, to the left) that holds all it reads.  # bool [C, H, W]
    notes: what could not be followed, where Python looked at computed numbers.
    order: another order of generation than raster in which there are no leaks, if a search found one.
    """

    ok: bool
    leaks: tuple[Leak, ...]
    notes: tuple[str, ...]
    program: Program = field(repr=False)
    order: Order | None = None

    @property
    def layers(self) -> tuple[str, ...]:
        """The layers that look ahead, each named once."""
        return tuple(dict.fromkeys(leak.layer for leak in self.leaks))

    def field_of(self, channel: int = 0, y: int | None = None, x: int | None = None) -> np.ndarray:
        _, height, width = self.program.image_shape
        return receptive_field(self.program, channel, height - 1 if y is None else y, width // 2 if x is None else x)

    def blind_spot(self, channel: int = 0, y: int | None = None, x: int | None = None) -> np.ndarray:
        channels, height, width = self.program.image_shape
        y, x = height - 1 if y is None else y, width // 2 if x is None else x
        seen = self.field_of(channel, y, x)
        order = np.arange(height * width).reshape(1, height, width) * channels + np.arange(channels)[:, None, None]
        earlier = order < (y * width + x) * channels + channel
        if not (seen & earlier).any():
            return np.zeros_like(seen)
        rows, columns = (np.flatnonzero((seen & earlier).any(axis)) for axis in ((0, 2), (0, 1)))
        box = np.zeros((height, width), bool)
        box[rows.min() : y + 1, columns.min() : columns.max() + 1] = True
        return earlier & ~seen & box

    def picture(self, channel: int = 0, y: int | None = None, x: int | None = None, scale: int = 12) -> np.ndarray:
        """The receptive field of one output: read, blind, out of reach, later.  # uint8 [H * scale, W * scale, 3]"""
        channels, height, width = self.program.image_shape
        y, x = height - 1 if y is None else y, width // 2 if x is None else x
        seen, blind = self.field_of(channel, y, x).any(0), self.blind_spot(channel, y, x).any(0)
        after = np.arange(height * width).reshape(height, width) > y * width + x
        out = np.empty((height, width, 3), np.uint8)
        out[:] = SHADES["out of reach"]
        out[after] = SHADES["later"]
        out[blind & ~seen] = SHADES["blind"]
        out[seen] = SHADES["read"]
        out[seen & after] = SHADES["leak"]
        own = self.field_of(channel, y, x)[channel:, y, x].any()
        out[y, x] = SHADES["leak"] if own else SHADES["itself"]
        big = out.repeat(scale, 0).repeat(scale, 1)
        big[::scale], big[:, ::scale] = 255, 255
        return big

    def save_picture(self, path: str, channel: int = 0, y: int | None = None, x: int | None = None) -> None:
        """Writes ``picture`` as an image file."""
        from PIL import Image

        Image.fromarray(self.picture(channel, y, x)).save(path)

    @property
    def kinds(self) -> str:
        """How many outputs leak in which way."""
        images = sum(leak.between_images for leak in self.leaks)
        same = sum(leak.input[1:] == leak.output[1:] and not leak.between_images for leak in self.leaks)
        colours = same if self.program.image_shape[0] > 1 else 0
        own = same - colours
        counts = {
            "a later pixel": len(self.leaks) - images - same,
            "their own pixel": own,
            "a colour of their own pixel that is drawn with them or later": colours,
            "other images of the batch": images,
        }
        return ", ".join(f"{what} {n}" for what, n in counts.items() if n) or "none"

    def evidence(self) -> list[str]:
        """The way from the input to the worst leak: layer, operation, and where on its feature map."""
        if not self.leaks:
            return []
        leak, (channels, height, width) = self.leaks[0], self.program.image_shape
        if leak.between_images:
            return [f"{link.layer}: {link.operation}" for link in leak.path]
        out = [f"input: {name_of(leak.input, channels)}"]
        for link in leak.path:
            count = self.program.values[link.value].positions
            y, x = divmod(link.position, width)
            where = f"(y={y}, x={x})" if count == height * width else f"cell {link.position} of {count}"
            out.append(f"{link.layer}: {link.operation} at {where}")
        return [*out, f"output: {name_of(leak.output, channels)}"]

    def text_picture(self, channel: int = 0, y: int | None = None, x: int | None = None) -> str:
        """The receptive field of one output in letters: # read, o blind, . out of reach, X itself, ! a leak."""
        _, height, width = self.program.image_shape
        y, x = height // 2 if y is None else y, width // 2 if x is None else x
        own = self.field_of(channel, y, x)
        seen, blind = own.any(0), self.blind_spot(channel, y, x).any(0)
        after = np.arange(height * width).reshape(height, width) > y * width + x
        letters = np.where(seen, "#", np.where(blind, "o", np.where(after, " ", ".")))
        letters[seen & after] = "!"
        letters[y, x] = "!" if own[channel:, y, x].any() else "X"
        return "\n".join(" ".join(row).rstrip() for row in letters)

    def __str__(self) -> str:
        channels, height, width = self.program.image_shape
        y, x = height - 1, width // 2
        lines = []
        if self.ok:
            lines.append("Causal: no output reads its own sub-pixel, a later one, or another image.")
        else:
            lines.append(sentence(self.leaks[0], channels, len(self.leaks)))
            lines.append(f"Leaks, by what the outputs read: {self.kinds}.")
            for leak in self.leaks[:8]:
                if not leak.between_images:
                    lines.append(
                        f"  the output for {name_of(leak.output, channels)} reads {name_of(leak.input, channels)} "
                        f"(first looks ahead: {leak.layer})"
                    )
            lines.append("Evidence, from what is read to the output that reads it:")
            lines += [f"  {link}" for link in self.evidence()]
            if self.leaks[0].between_images:
                return "\n".join([*lines, *(f"Note: {note}." for note in self.notes)])
        if self.order is not None:
            lines.append(
                f"There are no leaks in another order of generation, which begins with the pixels "
                f"{', '.join(map(str, self.order.first_places(4)))}: genfast.accelerate samples in it."
            )
        for c in range(channels):
            seen, blind = self.field_of(c, y, x), self.blind_spot(c, y, x)
            lines.append(
                f"The output for {name_of((c, y, x), channels)} reads {int(seen.sum())} sub-pixels; "
                f"{int(blind.sum())} earlier ones within its reach are in a blind spot."
            )
        return "\n".join([*lines, *(f"Note: {note}." for note in self.notes)])


def check_causality(
    module: nn.Module,
    image_shape: Sequence[int] | None = None,
    likelihood: str | Likelihood | Callable[..., Any] = "categorical",
    levels: int | None = None,
    encode: Encode = "unit",
    pick: Pick | None = None,
    condition: Conditions = None,
) -> CausalityReport:
    """What each output of a network may read in raster order, read off the zeros of its effective weights.

    module: one of ours (then nothing else is needed), or any nn.Module that maps encoded images [B, C, H, W] to
    parameters; see ``accelerate`` for the rest. It is watched in the mode in which it is: BatchNorm in training mode
    mixes the images of a batch.

    Raises NotSupported for a network that the compiler cannot take apart, with the operator and the layer, and what
    changing pixels showed; GenfastError, in one sentence, for arguments that do not fit the module.
    """
    foreign = None
    if is_model(module):
        target = model_target(module, *conditions_of(condition)[0])
    else:
        foreign = resolve(describe(module, image_shape, likelihood, levels, encode, pick, condition))
        target = foreign.target()
    try:
        found = trace(target)
    except NotSupported as error:
        raise NotSupported(str(error) + ("" if foreign is None else probed(foreign))) from error
    program, opaque = found.program, found.opaque
    mixed = [step for step in opaque if step.mixes_images]
    if opaque and not mixed:
        step = opaque[0]
        raise NotSupported(
            f"Layer {program.values[step.out].layer} cannot be followed: {step.reason}."
            + ("" if foreign is None else probed(foreign))
        )
    leaks = find_leaks(program, opaque)
    order = other_order(foreign) if leaks and not mixed and foreign is not None else None
    return CausalityReport(not leaks, tuple(leaks), program.notes, program, order)


def probed(foreign: Foreign) -> str:
    """What changing pixels shows of a module that cannot be followed, as a sentence after another."""
    assert foreign.layout is not None
    fine = causal(foreign.layout, observe(foreign).last, foreign.shared)
    return f" Changing pixels showed {'no' if fine else 'that it has a'} look-ahead."


def other_order(foreign: Foreign) -> Order | None:
    """An order of generation in which a module that leaks in raster order is causal, if a search finds one."""
    try:
        return resolve(foreign, "auto").order
    except GenfastError:  # in several layouts, or too large to search
        return None
