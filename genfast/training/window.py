"""What training says between two logged lines, added up without waiting for the device."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from genfast.errors import GenfastError


class Window:
    """Sums of training scores since the last logged line.

    A turn's numbers stay on the device until ``read``, which fetches those of all turns in one transfer and checks
    them; the sums are then taken in the order of the turns, so it does not matter when it is called.
    """

    def __init__(self) -> None:
        self._turns: list[tuple[str, int, int, Sequence[str]]] = []  # player, step, images, names of the scores
        self._numbers: list[Tensor] = []  # and of each: loss, norm of the gradient, scores
        self.sums: dict[str, float] = {}
        self.images: dict[str, int] = {}
        self.norms: dict[str, float | None] = {}  # by player: of the last gradient; None where it overflowed
        self.loss = math.nan  # mean of the last turn that was read

    def add(self, player: str, step: int, images: int, names: Sequence[str], numbers: Tensor) -> None:
        """Take in one turn: numbers are the sum of the losses, the norm of the gradient and the sums of the scores."""
        self._turns.append((player, step, images, names))
        self._numbers.append(numbers)

    def __len__(self) -> int:
        """Turns that were not read yet."""
        return len(self._turns)

    def read(self, overflow: bool = False) -> None:
        """Fetch what was added: on a GPU the one wait for all these turns.

        overflow: gradients that are not finite are expected, as a gradient scaler skips their step. Raises
        GenfastError, naming the first step whose loss or gradient was not a finite number.
        """
        if not self._turns:
            return
        numbers, turns = torch.cat(self._numbers).tolist(), self._turns
        self._turns, self._numbers = [], []
        start = 0
        for player, step, images, names in turns:
            loss, norm, *values = numbers[start : start + 2 + len(names)]
            start += 2 + len(names)
            if not math.isfinite(loss) or not (math.isfinite(norm) or overflow):
                what = "loss" if not math.isfinite(loss) else "gradient"
                raise GenfastError(
                    f"The {what}{f' of the {player}' if player else ''} was not a finite number at step {step}"
                )
            self.norms[player] = norm if math.isfinite(norm) else None
            self.loss = loss / images
            for name, value in zip(names, values, strict=True):
                self.sums[name] = self.sums.get(name, 0.0) + value
                self.images[name] = self.images.get(name, 0) + images

    def close(self) -> tuple[dict[str, float], dict[str, float | None]]:
        """The mean of each score and the last norm of each player's gradient; the window is then empty."""
        means = {name: value / self.images[name] for name, value in self.sums.items()}
        norms = self.norms
        self.sums, self.images, self.norms = {}, {}, {}
        return means, norms

    # ---- checkpoints ----

    def state(self) -> dict[str, Any]:
        """What was read, as JSON values."""
        return {"sums": self.sums, "images": self.images, "norms": self.norms}

    def restore(self, state: dict[str, Any]) -> None:
        """The inverse of state. Raises KeyError, TypeError or ValueError for anything else."""
        self.sums = {str(name): float(value) for name, value in dict(state["sums"]).items()}
        self.images = {str(name): int(state["images"][name]) for name in self.sums}
        self.norms = {str(name): None if v is None else float(v) for name, v in dict(state["norms"]).items()}
