"""Layouts: where in a network's output the parameters of each sub-pixel are.

People write logits as [B, C * L, H, W] (by colour or interleaved), [B, L, C, H, W], [B, H, W, L], [B, H * W, L], flat,
in a tuple. All of these are the axes C, L, and H W next to each other, in some order, some of them merged. Which of
them an output can be follows from its shape; which it is, from what its elements read, where only one is causal.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import permutations
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils._pytree import tree_flatten, tree_map

from genfast.errors import GenfastError

Shape = tuple[int, int, int]
Pick = Callable[..., Tensor]


@dataclass(frozen=True, eq=False)
class Layout:
    """name: the axes in the order in which they are, for messages.

    places: [width, C, H, W], the place in all the tensors' numbers of an image, one tensor after the other.
    arrange(tensors of an output, B): the parameters [B, width, C, H, W].
    """

    name: str
    places: np.ndarray
    arrange: Callable[[list[Tensor], int], Tensor] = field(repr=False)


def tensors_of(out: Any) -> list[Tensor]:
    """The tensors of an output, whatever holds them."""
    return [leaf for leaf in tree_flatten(out)[0] if isinstance(leaf, Tensor)]


def flat(tensors: Sequence[Tensor], batch: int) -> Tensor:
    """All numbers of every image, one tensor after the other; tensors that have no batch are left out.  # [B, N]"""
    return torch.cat([t.reshape(batch, -1) for t in tensors if has_images(t, batch)], 1)


def has_images(tensor: Tensor, batch: int) -> bool:
    """Whether the first axis is the batch, or has it merged in."""
    return tensor.dim() > 0 and tensor.shape[0] > 0 and tensor.shape[0] % batch == 0 and tensor.is_floating_point()


def layouts_of(tensors: list[Tensor], batch: int, shape: Shape, width: int | None, whole: bool) -> list[Layout]:
    """Every way in which one of the tensors can be [B, width, C, H, W], the most usual first.

    width: parameters of a sub-pixel; None: any number, but at least one. whole: the colours share the parameters.
    """
    found: dict[bytes, Layout] = {}
    offset = 0
    for leaf, tensor in enumerate(tensors):
        if not has_images(tensor, batch):
            continue
        for layout in layouts_of_tensor(leaf, offset, tensor, batch, shape, width, whole):
            found.setdefault(layout.places.tobytes() + str(layout.places.shape).encode(), layout)
        offset += tensor.numel() // batch
    return list(found.values())


def layouts_of_tensor(
    leaf: int, offset: int, tensor: Tensor, batch: int, shape: Shape, width: int | None, whole: bool
) -> list[Layout]:
    channels, height, width_of_image = shape
    colours = 1 if whole else channels
    count = tensor.numel() // batch
    unit = colours * height * width_of_image
    if width is None:
        width = count // unit
    if width < 1 or count != width * unit:
        return []
    sizes = {"C": colours, "L": width, "H": height, "W": width_of_image}
    own = (tensor.shape[0] // batch, *tensor.shape[1:])
    out = []
    for order in (("C", "L", "HW"), ("L", "C", "HW"), *permutations(("HW", "C", "L"))):
        axes = "".join(order)
        if not can_be(own, [sizes[a] for a in axes]):
            continue
        places = np.arange(count).reshape([sizes[a] for a in axes]).transpose([axes.index(a) for a in "LCHW"]) + offset
        places = np.broadcast_to(places, (width, channels, height, width_of_image))
        split = [axes.index(a) + 1 for a in "LCHW"]

        def arrange(tensors: list[Tensor], batch: int, axes: str = axes, split: list[int] = split) -> Tensor:
            apart = tensors[leaf].reshape(batch, *(sizes[a] for a in axes)).permute(0, *split)
            return apart.expand(-1, -1, channels, -1, -1)

        name = ", ".join(axes if colours > 1 else axes.replace("C", ""))
        out.append(Layout(f"[B, {name}]", np.ascontiguousarray(places), arrange))
    return out


def can_be(shape: Sequence[int], axes: Sequence[int]) -> bool:
    """Whether a shape is these axes, neighbours merged or not."""
    return {int(p) for p in np.cumprod(shape)} <= {int(p) for p in np.cumprod(axes)} | {1}


def picked(out: Any, pick: Pick, shape: Shape, batch: int, whole: bool) -> Layout:
    """The layout that ``pick`` tells: run once for every sub-pixel, on the places of the output's elements.

    pick(out, y, x, c) sees what the module returns (of a tuple with a single tensor, this tensor), and chooses
    [B, width] numbers; pick(out, y, x) where the colours of a pixel share them.
    Raises GenfastError, in one sentence, for a pick that fails or that computes.
    """
    channels, height, width = shape
    offset = 0
    if len(tensors_of(out)) == 1:
        out = tensors_of(out)[0]

    def numbered(leaf: Any) -> Any:
        nonlocal offset
        if not isinstance(leaf, Tensor) or not has_images(leaf, batch):
            return leaf
        own = (leaf.shape[0] // batch, *leaf.shape[1:])
        places = torch.arange(offset, offset + leaf.numel() // batch).reshape(own)
        offset += places.numel()
        return places

    places = tree_map(numbered, out)

    def choose(output: Any, c: int, y: int, x: int) -> Tensor:
        try:
            chosen = pick(output, y, x) if whole else pick(output, y, x, c)
        except Exception as error:
            arguments = "out, y, x" if whole else "out, y, x, c"
            raise GenfastError(
                f"pick({arguments}) fails at y = {y}, x = {x}{'' if whole else f', c = {c}'} with "
                f"{type(error).__name__}: {error} (out is what the module returns)."
            ) from error
        if not isinstance(chosen, Tensor):
            raise GenfastError(f"pick must give a tensor [B, width] of the output's numbers, not {chosen!r}.")
        return chosen

    rows = []
    for c in range(1 if whole else channels):
        for y in range(height):
            for x in range(width):
                rows.append(choose(places, c, y, x).reshape(-1))
    if (
        len({len(row) for row in rows}) != 1
        or rows[0].is_floating_point()
        or not len(rows[0])
        or not all(int(row.min()) >= 0 and int(row.max()) < offset for row in rows)
    ):
        raise GenfastError(
            "pick must choose as many numbers for every sub-pixel, [B, width], and not compute with them: leave a "
            "softmax or a division to the likelihood."
        )
    index = torch.stack(rows, 1).reshape(-1, 1 if whole else channels, height, width)
    index = index.expand(-1, channels, -1, -1).contiguous()

    used, own = used_tensors(tensors_of(out), batch, index)

    def arrange(tensors: list[Tensor], batch: int) -> Tensor:
        return torch.cat([tensors[i].reshape(batch, -1) for i in used], 1)[:, own.to(tensors[used[0]].device)]

    numbers = flat(tensors_of(out), batch)
    for c, y, x in {(0, 0, 0), (channels - 1, height - 1, width - 1), (channels // 2, height // 2, width // 2)}:
        chosen = choose(out, c, y, x)
        if chosen.numel() != batch * len(index) or not same(chosen.reshape(batch, -1), numbers[:, index[:, c, y, x]]):
            raise GenfastError(
                f"pick must choose [B, width] numbers of the output for one sub-pixel, and not compute with them, but "
                f"at y = {y}, x = {x} it gives {list(chosen.shape)} that are not the output's own."
            )
    return Layout("pick", index.numpy(), arrange)


def used_tensors(tensors: Sequence[Tensor], batch: int, index: Tensor) -> tuple[list[int], Tensor]:
    """Which tensors the places are in, and the places in these alone."""
    used, own, offset, begin = [], torch.zeros_like(index), 0, 0
    for i, tensor in enumerate(tensors):
        if not has_images(tensor, batch):
            continue
        count = tensor.numel() // batch
        here = (index >= begin) & (index < begin + count)
        if bool(here.any()):
            own[here] = index[here] - begin + offset
            used.append(i)
            offset += count
        begin += count
    return used, own


def same(one: Tensor, two: Tensor) -> bool:
    return bool(((one == two) | (one.isnan() & two.isnan())).all())
