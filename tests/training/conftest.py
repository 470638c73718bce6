"""A model and a data set small enough to train in a blink."""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest
import torch

from genfast.data import ImageSet
from genfast.models import GatedPixelCNNConfig, PixelCNNConfig
from genfast.training import TrainConfig

MODEL = PixelCNNConfig((1, 4, 5), levels=4, hidden=4, blocks=1, head=4, first_kernel=3)
CONDITIONAL = GatedPixelCNNConfig((1, 4, 5), levels=4, hidden=4, layers=1, head=4, first_kernel=3, num_classes=3)
QUICK = TrainConfig(
    epochs=3, batch_size=8, learning_rate=0.01, warmup_steps=2, ema=0.9, log_every=2, sample_images=0, num_threads=1,
    device="cpu",
)  # fmt: skip


def toy_images(n: int, split: str = "train", labels: bool = True) -> ImageSet:
    """n stripes: each row of an image is one level, the next row the next level."""
    start = np.arange(n) % 4
    images = ((start[:, None, None, None] + np.arange(4)[:, None]) % 4) * np.ones((1, 1, 5), int)
    return ImageSet("toy", split, images.astype(np.uint8), 4, (start % 3).astype(np.int64) if labels else None)


@contextmanager
def power_cut(after: int) -> Iterator[None]:
    """What is done inside fails when it asks for one more than so many training batches, and must ask."""
    real, calls = ImageSet.batch, 0

    def fail(self, *args, **kwargs):
        nonlocal calls
        calls += self.split == "train"
        if calls > after:
            raise RuntimeError("power cut")
        return real(self, *args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ImageSet, "batch", fail)
        with pytest.raises(RuntimeError, match="power cut"):
            yield


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
