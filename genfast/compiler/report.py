"""check_causality: what a network may be used for, and why not, as a report that a person can read."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from torch import Tensor, nn

from genfast.compiler.causality import Leak, find_leaks, name_of, receptive_field, sentence
from genfast.compiler.compile import trace
from genfast.compiler.foreign import make_target
from genfast.compiler.program import Program
from genfast.errors import NotSupported

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
    """

    ok: bool
    leaks: tuple[Leak, ...]
    notes: tuple[str, ...]
    program: Program = field(repr=False)

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

    def __str__(self) -> str:
        channels, height, width = self.program.image_shape
        y, x = height - 1, width // 2
        lines = []
        if self.ok:
            lines.append("Causal: no output reads its own sub-pixel, a later one, or another image.")
        else:
            lines.append(sentence(self.leaks[0], channels, len(self.leaks)))
            for leak in self.leaks[:8]:
                if not leak.between_images:
                    lines.append(
                        f"  the output for {name_of(leak.output, channels)} reads {name_of(leak.input, channels)} "
                        f"(first looks ahead: {leak.layer})"
                    )
            path = self.leaks[0].path
            lines.append("  the way there: " + " -> ".join(dict.fromkeys(link.layer for link in path)))
        for c in range(channels):
            seen, blind = self.field_of(c, y, x), self.blind_spot(c, y, x)
            lines.append(
                f"The output for {name_of((c, y, x), channels)} reads {int(seen.sum())} sub-pixels; "
                f"{int(blind.sum())} earlier ones within its reach are in a blind spot."
            )
        return "\n".join([*lines, *(f"Note: {note}." for note in self.notes)])


def check_causality(
    module: nn.Module,
    image_shape: tuple[int, int, int] | None = None,
    likelihood: str = "categorical",
    levels: int | None = None,
    encode: str | Callable[[Tensor], Tensor] = "unit",
    pick: Callable[..., Tensor] | None = None,
    condition: Tensor | Sequence[Tensor] | None = None,
) -> CausalityReport:
    """What each output of a network may read, read off the zeros of its effective weights.

    module: one of ours (then nothing else is needed), or any nn.Module that maps encoded images [B, C, H, W] to
    parameters; see ``make_target`` for encode, pick and condition.

    Raises NotSupported for a network that the compiler cannot take apart, with the operator and the layer.
    """
    target = make_target(module, image_shape, likelihood, levels, encode, pick, condition)
    found = trace(target)
    program, opaque = found.program, found.opaque
    mixed = [step for step in opaque if step.mixes_images]
    if opaque and not mixed:
        step = opaque[0]
        raise NotSupported(f"Layer {program.values[step.out].layer} cannot be followed: {step.reason}.")
    leaks = find_leaks(program, opaque)
    return CausalityReport(not leaks, tuple(leaks), program.notes, program)
