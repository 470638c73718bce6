"""Images to files: a PNG grid, a GIF of pixels appearing, or an npz for programs."""

import math
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from genfast.errors import GenfastError
from genfast.training.files import write_atomically

SUFFIXES = (".png", ".npz", ".gif")
_BLANK = np.array([60, 70, 110], dtype=np.uint8)  # colour of pixels not drawn yet, and of the gaps
_CELL = 56  # smaller images are enlarged by a whole factor to at least this many picture pixels a side


def check_output(path: Path, channels: int) -> None:
    """Raises GenfastError now if ``write_images`` could not write to ``path`` later, after the work."""
    if path.suffix.lower() not in SUFFIXES:
        raise GenfastError(f"{path}: choose a name that ends in {', '.join(SUFFIXES[:-1])} or {SUFFIXES[-1]}.")
    if path.suffix.lower() != ".npz" and channels not in (1, 3):
        raise GenfastError(f"A picture needs 1 or 3 channels and these images have {channels}: write an .npz instead.")
    folder = path.parent
    if path.is_dir():
        raise GenfastError(f"{path} is a folder: choose another name.")
    if folder.exists() and not folder.is_dir():
        raise GenfastError(f"Cannot write {path}: {folder} is not a folder.")
    existing = next(parent for parent in (folder, *folder.resolve().parents) if parent.exists())
    if not os.access(existing, os.W_OK):
        raise GenfastError(f"Cannot write {path}: no permission in {existing}.")


def grid(images: np.ndarray, levels: int, columns: int = 0, drawn: np.ndarray | None = None) -> np.ndarray:
    """Images side by side, row by row.  # levels [N, C, H, W], C 1 or 3 -> uint8 RGB [height, width, 3]

    columns: 0 for about a square. drawn: bool, broadcastable to [N, H, W]; pixels where it is False are left blank.
    """
    n, channels, height, width = images.shape
    columns = columns or math.ceil(math.sqrt(n))
    rows = math.ceil(n / columns)
    scale = max(1, math.ceil(_CELL / max(height, width)))
    gap = max(1, scale // 2)
    colours = np.rint(images.astype(np.float64) * (255.0 / (levels - 1))).astype(np.uint8).transpose(0, 2, 3, 1)
    colours = np.broadcast_to(colours, (n, height, width, 3)).copy()
    if drawn is not None:
        colours[~np.broadcast_to(drawn, (n, height, width))] = _BLANK
    colours = colours.repeat(scale, axis=1).repeat(scale, axis=2)
    high, wide = height * scale, width * scale
    picture = np.tile(_BLANK, (rows * (high + gap) + gap, columns * (wide + gap) + gap, 1))
    for i in range(n):
        top, left = gap + (i // columns) * (high + gap), gap + (i % columns) * (wide + gap)
        picture[top : top + high, left : left + wide] = colours[i]
    return picture


def write_images(
    path: Path,
    images: np.ndarray,
    levels: int,
    columns: int = 0,
    drawn: np.ndarray | None = None,
    known: np.ndarray | None = None,
    frames: int = 48,
) -> None:
    """Write levels [N, C, H, W] as a grid (.png), as pixels appearing in the order they are drawn (.gif), or as the
    array ``images`` (uint8) with ``levels`` (.npz).

    columns: of the picture, 0 for about a square. drawn: bool [N, H, W], what a PNG shows (default: everything).
    known: bool [N, H, W], what a GIF shows from the start (default: nothing).
    """
    check_output(path, images.shape[1])
    path.parent.mkdir(parents=True, exist_ok=True)
    writers: dict[str, Callable[[Path], object]] = {
        ".png": lambda to: Image.fromarray(grid(images, levels, columns, drawn)).save(to, format="PNG"),
        ".npz": lambda to: np.savez_compressed(to, images=images.astype(np.uint8), levels=np.int64(levels)),
        ".gif": lambda to: _save_gif(to, images, levels, columns, known, frames),
    }
    write_atomically(path, writers[path.suffix.lower()])


def _save_gif(path: Path, images: np.ndarray, levels: int, columns: int, known: np.ndarray | None, frames: int) -> None:
    height, width = images.shape[2:]
    order = np.arange(height * width).reshape(height, width)  # pixels are drawn row by row
    shown = np.zeros((1, height, width), bool) if known is None else known
    steps = np.unique(np.linspace(0, height * width, frames + 1).round().astype(int))
    pictures = [Image.fromarray(grid(images, levels, columns, (order < step) | shown)) for step in steps]
    durations = [60] * (len(pictures) - 1) + [2000]  # milliseconds
    pictures[0].save(path, format="GIF", save_all=True, append_images=pictures[1:], duration=durations, loop=0)
