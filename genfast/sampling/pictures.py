"""Writing images: a grid as png, the levels as npz, or pixels appearing as gif, chosen by the suffix of the path."""

import math
import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from genfast.errors import GenfastError

SUFFIXES = (".png", ".npz", ".gif")
SHOWN_SIZE = 64  # small images are enlarged by a whole factor towards so many pixels
GAP = 2  # pixels of gray between images, so that black and white ones both have an edge
GRAY = 96
FRAME_MS, LAST_FRAME_MS = 80, 2000


def grid(images: Tensor, levels: int, columns: int | None = None, scale: int | None = None) -> Image.Image:
    """The images side by side as one picture, levels 0 .. levels - 1 shown as 0 .. 255.

    images: uint8 or int64 levels [N, C, H, W], C = 1 (gray) or 3 (RGB). columns: as many as make a square.
    scale: enlarge by this whole factor, to the nearest pixel; by itself it makes small images visible.

    Raises GenfastError for another shape, no images, or levels out of range.
    """
    if images.ndim != 4 or images.shape[1] not in (1, 3) or 0 in images.shape:
        raise GenfastError(
            f"A picture needs images of the shape [N, 1, H, W] (gray) or [N, 3, H, W] (RGB), not {list(images.shape)}."
        )
    values = images.detach().cpu().numpy()
    if levels < 2 or values.min() < 0 or values.max() >= levels:
        raise GenfastError(f"A picture of {levels} levels cannot show the levels {values.min()} to {values.max()}.")
    n, channels, height, width = values.shape
    columns = columns or math.ceil(math.sqrt(n))
    rows = math.ceil(n / columns)
    scale = scale or max(1, SHOWN_SIZE // max(height, width))

    tones = np.round(np.arange(levels) * (255 / (levels - 1))).astype(np.uint8)
    big = tones[values].repeat(scale, axis=2).repeat(scale, axis=3).transpose(0, 2, 3, 1)  # [N, H, W, C]
    step_y, step_x = height * scale + GAP, width * scale + GAP
    canvas = np.full((rows * step_y + GAP, columns * step_x + GAP, channels), GRAY, dtype=np.uint8)
    for i, tile in enumerate(big):
        y, x = GAP + i // columns * step_y, GAP + i % columns * step_x
        canvas[y : y + height * scale, x : x + width * scale] = tile
    return Image.fromarray(canvas[..., 0] if channels == 1 else canvas)


def shades(expected: Tensor, levels: int) -> Tensor:
    """Levels that need not be whole, 0 .. levels - 1, as 8-bit gray or colour.  # uint8, levels 0 .. 255"""
    return (expected.detach().cpu().double() * (255 / (levels - 1))).round().clamp(0, 255).to(torch.uint8)


def save_images(path: str | Path, images: Tensor, levels: int, frames: Sequence[Tensor] | None = None) -> None:
    """Writes images as the path's suffix says: .png (a grid), .npz (the levels) or .gif (the frames, from ``on_row``).

    Raises GenfastError for another suffix, a gif without frames, images that cannot be shown, and a path that cannot be
    written; the old file, if there is one, is then still there.
    """
    path = Path(path)
    check_path(path)
    if path.suffix.lower() == ".npz":
        save_npz(path, images, levels)
    elif path.suffix.lower() == ".png":
        save_grid(path, images, levels)
    else:
        save_gif(path, frames or [], levels)


def save_grid(path: str | Path, images: Tensor, levels: int, columns: int | None = None) -> None:
    """Writes ``grid`` as a png."""
    picture = grid(images, levels, columns)
    _write(path, lambda file: picture.save(file, format="PNG"))


def save_npz(path: str | Path, images: Tensor, levels: int) -> None:
    """Writes the arrays ``images`` (uint8 levels [N, C, H, W]) and ``levels``."""
    values = images.detach().cpu().numpy().astype(np.uint8)
    _write(path, lambda file: np.savez_compressed(file, images=values, levels=np.int64(levels)))


def save_gif(path: str | Path, frames: Sequence[Tensor], levels: int) -> None:
    """Writes the frames, each a batch of images, as a moving grid that rests on its last frame."""
    if not frames:
        raise GenfastError("A gif needs frames: collect them with on_row while sampling, or write a png.")
    first, *rest = [grid(frame, levels) for frame in frames]
    durations = [FRAME_MS] * len(rest) + [LAST_FRAME_MS]
    _write(
        path,
        lambda file: first.save(
            file, format="GIF", save_all=True, append_images=rest, duration=durations, loop=0, disposal=1
        ),
    )


def check_path(path: str | Path) -> None:
    """Raises GenfastError if save_images could not write there, so that nobody samples for an hour to find out."""
    path = Path(path)
    if path.suffix.lower() not in SUFFIXES:
        raise GenfastError(f"Cannot tell how to write {str(path)!r}: name a file that ends in .png, .npz or .gif.")
    if path.is_dir():
        raise GenfastError(f"Cannot write {path}: it is a folder.")
    if not path.parent.is_dir():
        raise GenfastError(f"Cannot write {path}: there is no folder {path.parent}; create it first.")
    if not os.access(path.parent, os.W_OK):
        raise GenfastError(f"Cannot write {path}: the folder {path.parent} is not writable.")


def _write(path: str | Path, save: Callable[[BinaryIO], object]) -> None:
    """Writes a temporary file beside the target, then puts it in its place: never half a file under the real name."""
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as file:
            save(file)
        os.replace(temporary, path)
    except OSError as error:
        raise GenfastError(f"Cannot write {path}: {error.strerror or error}.") from error
    finally:
        with suppress(OSError):
            temporary.unlink()
