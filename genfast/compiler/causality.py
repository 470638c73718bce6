"""Causality: what each output reads, where it reads what it must not, and which layer let it.

Everything is read off a traced Program, so off the zeros of the effective weights: nothing is declared, and nothing is
assumed from the names of classes. Zero-initialised or pruned weights hide edges: the verdict holds for these weights.
"""

from dataclasses import dataclass

import numpy as np

from genfast.compiler.blame import Blame
from genfast.compiler.builder import Opaque
from genfast.compiler.footprint import Link, chain, gather, generation_order, latest, needed
from genfast.compiler.program import Program
from genfast.errors import NotCausal

COLORS = {3: ("R", "G", "B")}


@dataclass(frozen=True)
class Leak:
    """An output that reads what is drawn at the same time or later.

    output, input: (channel, y, x) of the sub-pixel that is predicted and of the latest that it reads.
    layer: the first layer on the way from that input whose output looks ahead. path: all of the way, input first.
    between_images: the output reads other images of its batch (then ``input`` is its own sub-pixel).
    """

    output: tuple[int, int, int]
    input: tuple[int, int, int]
    layer: str
    path: tuple[Link, ...]
    between_images: bool = False


def name_of(subpixel: tuple[int, int, int], channels: int) -> str:
    """ "pixel (y=2, x=3)", with its colour where there are several."""
    c, y, x = subpixel
    color = "" if channels == 1 else f", channel {COLORS.get(channels, tuple(map(str, range(channels))))[c]}"
    return f"pixel (y={y}, x={x}{color})"


def find_leaks(program: Program, opaque: list[Opaque]) -> list[Leak]:
    """One leak for each output sub-pixel that has any, worst look-ahead first."""
    for step in opaque:
        if step.mixes_images:
            layer = program.values[step.out].layer
            return [Leak((0, 0, 0), (0, 0, 0), layer, (Link(layer, step.reason, step.out, 0),), True)]
    channels, _, width = program.image_shape
    last = latest(program, generation_order(program))
    found: list[tuple[int, int, int, int]] = []
    for c, draw in enumerate(program.draws):
        seen = gather(last[draw.params.value], draw.params.at)
        for p in np.flatnonzero(seen >= np.arange(len(seen)) * channels + c).tolist():
            found.append((int(seen[p]) - (p * channels + c), c, p, int(seen[p])))
    leaks = []
    paths: dict[tuple, tuple[Link, ...]] = {}
    blame = Blame(program, last) if found else None
    for _, c, p, latest_seen in sorted(found, key=lambda f: (-f[0], f[2], f[1])):
        draw = program.draws[c]
        cell = (draw.params.value, int(draw.params.at[p]))
        if len(paths) < 64 and cell not in paths:  # explanations cost time; nobody reads hundreds
            paths[cell] = tuple(chain(program, last, *cell))
        path = paths.get(cell, ())
        pixel, channel = divmod(latest_seen, channels)
        layer = blame.layer(path, c, p == pixel and channels > 1) if blame is not None else ""
        leaks.append(Leak((c, *divmod(p, width)), (channel, *divmod(pixel, width)), layer, path))
    return leaks


def refuse_leaks(program: Program, opaque: list[Opaque]) -> None:
    """Raises NotCausal, with the first layer that looks ahead and what it sees, unless the program is causal."""
    if opaque and not any(step.mixes_images for step in opaque):
        return  # what it reads is not known: refused as not supported, not as a leak
    leaks = find_leaks(program, opaque)
    if leaks:
        raise NotCausal(sentence(leaks[0], program.image_shape[0], len(leaks)))


def sentence(leak: Leak, channels: int, count: int) -> str:
    if leak.between_images:
        return (
            f"The network is not causal: layer {leak.layer} mixes the images of a batch ({leak.path[0].operation}); "
            "put the module into evaluation mode."
        )
    own = leak.input == leak.output
    what = "itself" if own else f"{name_of(leak.input, channels)}, which is drawn after it"
    remedy = "mask its weights"
    if channels > 1 and leak.input[1:] == leak.output[1:]:
        remedy += ", or check which of its channels belong to which colour"
    others = f" ({count} outputs look ahead in all)" if count > 1 else ""
    return (
        f"The network is not causal: the output for {name_of(leak.output, channels)} reads {what}, and layer "
        f"{leak.layer} is the first on the way that looks ahead{others}; {remedy}."
    )


def receptive_field(program: Program, channel: int, y: int, x: int) -> np.ndarray:
    """The sub-pixels that one output reads.  # bool [C, H, W]"""
    _, height, width = program.image_shape
    params = program.draws[channel].params
    start = [np.zeros(v.positions, bool) for v in program.values]
    if params.at[y * width + x] >= 0:
        start[params.value][params.at[y * width + x]] = True
    need = needed(program, start)
    return np.stack([need[v] for v in program.inputs]).reshape(-1, height, width)
