"""What step s sees, as a function of (seed, s) alone: nothing to save, and a resumed run continues the same curve."""

import numpy as np

from genfast.data.draws import permutation


class Order:
    """The order of ``images`` training images in batches: a new shuffle in every epoch."""

    def __init__(self, images: int, batch_size: int, steps_per_epoch: int, seed: int) -> None:
        self.images, self.batch_size, self.steps_per_epoch, self.seed = images, batch_size, steps_per_epoch, seed
        self._shuffled = (-1, np.empty(0, np.int64))  # the last epoch asked for, and its shuffle

    def epoch(self, step: int) -> int:
        """Epoch of a step, both counted from 0."""
        return step // self.steps_per_epoch

    def batch(self, step: int) -> np.ndarray:
        """Numbers of the images of a step.  # int64 [batch_size], fewer only when there are fewer images"""
        epoch, position = divmod(step, self.steps_per_epoch)
        if self._shuffled[0] != epoch:
            self._shuffled = (epoch, permutation(self.images, stream(self.seed, epoch)))
        return self._shuffled[1][position * self.batch_size : (position + 1) * self.batch_size]


def stream(*names: int) -> int:
    """A 64-bit seed for the draws called by these numbers, for instance (seed, step, process)."""
    return int(np.random.SeedSequence(names).generate_state(1, np.uint64)[0])
