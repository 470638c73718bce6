"""ImageSet: one split of one data set, in memory as bytes."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from genfast.data.draws import bernoulli, permutation
from genfast.errors import GenfastError

SPLITS = ("train", "valid", "test")
_BINARIZATIONS = ("none", "static", "dynamic", "threshold")


@dataclass(frozen=True, eq=False)
class ImageSet:
    """One split of one data set.

    name: as given to `load`; split: "train", "valid" or "test".
    images: uint8 [N, C, H, W], levels; while `gray_levels` is set, the gray values that `batch` draws from.
    levels: how many values a sub-pixel of a batch can take (2 to 256).
    labels: int64 [N] classes, or None.
    binarization: "none", "static" (the files are binary), "threshold" or "dynamic".
    gray_levels: set where each batch is a new Bernoulli draw, to the number of gray levels; else None.
    numbers: int64 [N], each image's number in the whole split, or None for 0 to N-1; dynamic draws are keyed by it.
    total: how many images the whole split has, where this is only a part; else None.

    Raises GenfastError where the parts do not fit together.
    """

    name: str
    split: str
    images: np.ndarray
    levels: int
    labels: np.ndarray | None = None
    binarization: str = "none"
    gray_levels: int | None = None
    numbers: np.ndarray | None = None
    total: int | None = None

    def __post_init__(self) -> None:
        where = f"{self.name} {self.split}"
        check_split(self.split)
        if self.binarization not in _BINARIZATIONS:
            known = ", ".join(_BINARIZATIONS)
            raise GenfastError(f"{where}: binarization {self.binarization!r} is not one of {known}.")
        if self.images.dtype != np.uint8 or self.images.ndim != 4:
            raise GenfastError(
                f"{where}: images must be uint8 [N, C, H, W], not {self.images.dtype} of shape {self.images.shape}."
            )
        if self.images.size == 0:
            raise GenfastError(f"{where}: there are no pixels in images of shape {self.images.shape}.")
        highest = int(self.images.max())
        for levels in (self.levels, self.gray_levels or 256):
            if not 2 <= levels <= 256:
                raise GenfastError(f"{where}: levels must be between 2 and 256, not {levels}.")
        if highest >= (self.gray_levels or self.levels):
            raise GenfastError(
                f"{where}: a pixel has the value {highest}, out of range for {self.gray_levels or self.levels} levels."
            )
        for what, values in (("labels", self.labels), ("numbers", self.numbers)):
            if values is not None and (values.shape != (len(self),) or values.dtype != np.int64):
                raise GenfastError(
                    f"{where}: {what} must be int64 [{len(self)}], one for each image, "
                    f"not {values.dtype} of shape {values.shape}."
                )

    def __len__(self) -> int:
        return len(self.images)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(C, H, W)."""
        channels, height, width = self.images.shape[1:]
        return channels, height, width

    @property
    def title(self) -> str:
        """Name, split, binarization, and how much of the split this is: what every result must state."""
        gray = self.binarization == "none"
        parts = [f"no binarization, {self.levels} levels" if gray else f"{self.binarization} binarization"]
        if self.binarization == "dynamic" and self.gray_levels is None:
            parts.append("drawn once")
        if self.total is not None:
            parts.append(f"{len(self)} of {self.total} images")
        return f"{self.name} {self.split} ({', '.join(parts)})"

    def batch(self, indices: Sequence[int] | np.ndarray | torch.Tensor, seed: int = 0, epoch: int = 0) -> torch.Tensor:
        """The images at `indices` as levels: uint8 [B, C, H, W], a copy.

        With dynamic binarization each is a Bernoulli draw keyed by (seed, epoch, image number), so that it depends on
        neither the batch nor the process; otherwise seed and epoch change nothing.
        Raises GenfastError if an index is not in 0 to N-1.
        """
        at = np.asarray(indices, dtype=np.int64).reshape(-1)
        if at.size and not 0 <= at.min() <= at.max() < len(self):
            last = len(self) - 1
            raise GenfastError(f"{self.name} {self.split} has images 0 to {last}, not {at.min()} to {at.max()}.")
        images = self.images[at]
        if self.gray_levels is not None:
            numbers = at if self.numbers is None else self.numbers[at]
            images = bernoulli(images, self.gray_levels, seed, epoch, numbers)
        return torch.from_numpy(images)

    def subset(self, n: int, seed: int = 0) -> "ImageSet":
        """n images of a fixed shuffle, one for each seed (all in their own order if there are no more than n).

        Shuffled because some test sets are sorted by class; subset(100) is the beginning of subset(1000). The title
        says how many of how many. Raises GenfastError if n < 1.
        """
        if n < 1:
            raise GenfastError(f"A subset of {self.name} {self.split} needs at least 1 image, not {n}.")
        if n >= len(self):
            return self
        return self.take(permutation(len(self), seed)[:n])

    def take(self, indices: np.ndarray) -> "ImageSet":
        """The images at ``indices``, int64 [n], in that order, as a part of this set."""
        return replace(
            self,
            images=self.images[indices],
            labels=None if self.labels is None else self.labels[indices],
            numbers=indices if self.numbers is None else self.numbers[indices],
            total=self.total or len(self),
        )


def check_split(split: str) -> None:
    """Raise GenfastError unless split is "train", "valid" or "test"."""
    if split not in SPLITS:
        raise GenfastError(f"There is no split {split!r}: choose one of {', '.join(SPLITS)}.")


def tenths(n: int, split: str) -> np.ndarray:
    """The numbers, rising, of the images of `split` where one array of n images has to serve all three: int64.

    Of a fixed shuffle of range(n), the last tenth is the test split, the tenth before it the validation split. The
    rule depends on n alone, so an image is in the same split in every run. For n < 10 all are training images.
    """
    shuffled, tenth = permutation(n), n // 10
    start, stop = {"train": (0, n - 2 * tenth), "valid": (n - 2 * tenth, n - tenth), "test": (n - tenth, n)}[split]
    return np.sort(shuffled[start:stop])


def without_tenth(n: int, split: str) -> np.ndarray:
    """As `tenths` where the test images lie elsewhere: the last tenth of the shuffle is "valid", the rest "train"."""
    shuffled, training = permutation(n), n - n // 10
    return np.sort(shuffled[:training] if split == "train" else shuffled[training:])
