"""What ``sample`` and ``complete`` show beyond a grid of finished images."""

from pathlib import Path

import torch
from torch import Tensor

from genfast.errors import GenfastError
from genfast.sampling import check_path

_BLANK = (60, 70, 110)  # colour of a pixel that is not known


def check_output(path: Path, channels: int) -> None:
    """Raises GenfastError now if images of so many channels could not be written to ``path`` after the work."""
    check_path(path)
    if path.suffix.lower() != ".npz" and channels not in (1, 3):
        raise GenfastError(f"A picture needs 1 or 3 channels and these images have {channels}: write an .npz instead.")


def appearing(images: Tensor, known: Tensor | None = None, most: int = 48) -> list[Tensor]:
    """Frames in which the pixels of finished images appear in the order they were drawn; not drawn yet is level 0.

    images: levels [N, C, H, W]; known: bool [N, 1, H, W], there from the start (default: nothing). most: frames.
    """
    height, width = images.shape[2:]
    order = torch.arange(height * width).reshape(height, width)  # pixels are drawn row by row
    frames = min(most, height * width)
    counts = [round(height * width * i / frames) for i in range(frames + 1)]
    masks = [order < count if known is None else (order < count) | known for count in counts]
    return [images * mask for mask in masks]


def colours(images: Tensor, levels: int, shown: Tensor) -> Tensor:
    """Levels [N, C, H, W], C 1 or 3, as 8-bit RGB with the pixels outside ``shown`` left blank.  # uint8 [N, 3, H, W]

    shown: bool, broadcastable to [N, 1, H, W].
    """
    rgb = (images.double() * (255 / (levels - 1))).round().to(torch.uint8).expand(-1, 3, -1, -1)
    return torch.where(shown, rgb, torch.tensor(_BLANK, dtype=torch.uint8)[:, None, None])
