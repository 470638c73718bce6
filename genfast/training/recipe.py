"""How a model is trained: one dataclass of settings, the presets' settings, and where the images come from."""

import dataclasses
import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from genfast.errors import GenfastError

if TYPE_CHECKING:
    from genfast.data import ImageSet


@dataclass(frozen=True)
class TrainConfig:
    """Every setting of a training run. Raises GenfastError for a value that cannot be meant."""

    epochs: int = 20
    """Passes over the training images."""
    max_steps: int = 0
    """Stop after this many optimizer steps instead of after --epochs (0: go by --epochs)."""
    batch_size: int = 64
    """Images in one optimizer step, over all processes together."""
    learning_rate: float = 1e-3
    """Largest learning rate, reached after the warm-up."""
    optimizer: Literal["adam", "adamw"] = "adam"
    """Adam, or AdamW (Adam with decoupled weight decay)."""
    weight_decay: float = 0.0
    """Weight decay of AdamW."""
    beta1: float = 0.9
    """Adam's memory for gradients (a GAN wants 0 to 0.5)."""
    beta2: float = 0.999
    """Adam's memory for squared gradients (0.95 to 0.999)."""
    warmup_steps: int = 200
    """Steps over which the learning rate climbs from 0."""
    decay: Literal["cosine", "constant"] = "cosine"
    """After the warm-up: fall to 0 along half a cosine, or stay constant."""
    grad_clip: float = 1.0
    """Largest norm of the gradient of the loss (bits/dim for a density); longer ones are shortened to it (0: never)."""
    ema: float = 0.999
    """Decay of the moving average of the weights that evaluation and sampling use (0: use the last weights)."""
    amp: Literal["no", "bf16", "fp16"] = "no"
    """Mixed precision of the forward and backward pass: none, bfloat16, or float16 (GPU only)."""
    seed: int = 0
    """Seed of the initial weights, the order of the images, dynamic binarization, dropout and the sample pictures."""
    device: Literal["auto", "cpu"] = "auto"
    """auto takes a GPU when there is one."""
    num_threads: int = 0
    """CPU threads (0: PyTorch's choice)."""
    log_every: int = 50
    """Steps between two lines in metrics.jsonl."""
    eval_every: int = 1
    """Epochs between two evaluations on held-out images (0: only at the end)."""
    eval_images: int = 0
    """Held-out images in these evaluations, picked by a fixed shuffle (0: all)."""
    sample_every: int = 0
    """Epochs between two sample pictures (0: only at the end)."""
    sample_images: int = 16
    """Images in a sample picture (0: no pictures)."""
    checkpoint_every_seconds: float = 60.0
    """Seconds between two checkpoints (0: go by --checkpoint-every-steps alone)."""
    checkpoint_every_steps: int = 0
    """Steps between two checkpoints (0: go by --checkpoint-every-seconds alone)."""
    tensorboard: bool = False
    """Also write TensorBoard logs into the run folder."""

    def __post_init__(self) -> None:
        for name in ("batch_size", "log_every"):
            if getattr(self, name) < 1:
                raise GenfastError(f"{name} is {getattr(self, name)}, it must be at least 1.")
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if isinstance(value, int | float) and not (math.isfinite(value) and value >= 0):
                raise GenfastError(f"{field.name} is {value}, it must be 0 or more.")
        if self.seed >= 2**64:
            raise GenfastError(f"seed is {self.seed}, it must be below 2**64.")
        for name in ("ema", "beta1", "beta2"):
            if getattr(self, name) >= 1:
                raise GenfastError(f"{name} is {getattr(self, name)}, it must be below 1.")
        if self.epochs == 0 and self.max_steps == 0:
            raise GenfastError("Nothing to train: set epochs or max_steps to 1 or more.")

    def steps_per_epoch(self, images: int) -> int:
        """Full batches in one epoch. What is left over differs by epoch, so no image is left out for good."""
        return max(1, images // self.batch_size)

    def total_steps(self, images: int) -> int:
        """Steps of the whole run."""
        return self.max_steps or self.epochs * self.steps_per_epoch(images)

    def learning_rate_at(self, step: int, total_steps: int) -> float:
        """Learning rate of a step counted from 0: linear warm-up, then half a cosine. Pure, so nothing to save."""
        if step < self.warmup_steps:
            return self.learning_rate * (step + 1) / self.warmup_steps
        if self.decay == "constant":
            return self.learning_rate
        done = (step - self.warmup_steps) / max(1, total_steps - self.warmup_steps)
        return self.learning_rate * 0.5 * (1.0 + math.cos(math.pi * min(1.0, done)))


# These say how to watch a run, not what it computes: a resumed run may change them. So may the length (epochs,
# max_steps): the learning rate then follows the new length from there on.
FREE_ON_RESUME = {
    "epochs",
    "max_steps",
    "device",
    "num_threads",
    "log_every",
    "eval_every",
    "eval_images",
    "sample_every",
    "sample_images",
    "checkpoint_every_seconds",
    "checkpoint_every_steps",
    "tensorboard",
}


@dataclass(frozen=True)
class DataConfig:
    """Which images: enough to find the same ones again."""

    data: str
    """Data set: digits, mnist, binarized-mnist, cifar10, folder:PATH or npz:PATH."""
    binarize: str = "none"
    """Turn gray values into black and white: none, threshold (at half), or dynamic (drawn afresh in every epoch)."""
    image_size: int | None = None
    """Height and width in pixels that the images of a folder are resized to."""
    data_dir: Path | None = None
    """Folder with the downloaded data sets (default: the environment variable GENFAST_DATA, then a cache folder)."""

    def load(self, split: str) -> "ImageSet":
        """The images of "train", "valid" or "test"."""
        from genfast import data

        directory = None if self.data_dir is None else str(self.data_dir)
        return data.load(self.data, split, data_dir=directory, binarize=self.binarize, image_size=self.image_size)


# Small batches at a high rate learn most in a given time; "small" fits well within half an hour on 2 cores. A Gated
# PixelCNN soon knows the few digits by heart, so it gets fewer epochs of them, as does a PixelRNN.
_DIGITS = TrainConfig(epochs=25, batch_size=32, learning_rate=4e-3, warmup_steps=50, ema=0.998)
_GATED_DIGITS = replace(_DIGITS, epochs=15)
_MNIST = TrainConfig(epochs=8, batch_size=16, learning_rate=6e-3, warmup_steps=200, eval_images=1000)
_SMALL = replace(_MNIST, max_steps=5000, learning_rate=5e-3)
_GATED_SMALL = replace(_MNIST, max_steps=5600)
# Recurrent layers get half the rate of a PixelCNN; their small presets fit in an hour on 2 cores.
_RNN_DIGITS = replace(_GATED_DIGITS, learning_rate=3e-3)
_RNN_MNIST = replace(_MNIST, learning_rate=3e-3)
_RNN_SMALL = replace(_RNN_MNIST, max_steps=5000)
_CIFAR_SMALL = TrainConfig(epochs=1, batch_size=8, learning_rate=1e-2, warmup_steps=100, ema=0.99, eval_images=200)
_CIFAR = TrainConfig(epochs=30, batch_size=32, learning_rate=1e-3, warmup_steps=500)
# Weight normalisation makes the scale of the weights harmless, so a PixelCNN++ takes a high rate too.
_PP_DIGITS = _GATED_DIGITS
_PP_MNIST = replace(_MNIST, learning_rate=2e-3)
_PP_SMALL = replace(_MNIST, max_steps=5000, learning_rate=3e-3)
_PP_CIFAR = replace(_CIFAR, epochs=100, ema=0.9995)
_SNAIL_DIGITS = replace(_GATED_DIGITS, learning_rate=2e-3)
_SNAIL_SMALL = replace(_MNIST, max_steps=4000, learning_rate=3e-3)
# Models with a code see a whole image at once: a step costs milliseconds, so they take larger batches and more epochs.
_CODER_DIGITS = TrainConfig(epochs=100, batch_size=32, learning_rate=2e-3, warmup_steps=50, ema=0.998, eval_every=10)
_CODER_MNIST = TrainConfig(epochs=15, batch_size=100, learning_rate=2e-3)
_CODER_CIFAR = TrainConfig(epochs=50, batch_size=100, learning_rate=1e-3, warmup_steps=500, eval_every=5)
_VAE_MNIST = TrainConfig(epochs=50, batch_size=100, learning_rate=2e-3, eval_every=5, eval_images=2000)
# At a constant rate the weights never settle, and their average over ten epochs overfits less than weights that did: a
# cosine from 3e-3 reached 91.8 nats in 150 epochs, this 91.3 in 200 and 90.9 in 400. From there, dropout of the
# decoder's features, flipped input pixels, four times the rate and a decay of 0.2 were each worse after 16 more epochs.
_VAE_SMALL = replace(
    _VAE_MNIST, epochs=400, learning_rate=1e-3, decay="constant", ema=0.9998, optimizer="adamw", weight_decay=0.01,
    eval_every=10,
)  # fmt: skip
# The players of a GAN forget quickly (beta1), and gradients of any length are as good as others. The usual rate of 2e-4
# takes a DCGAN of digits five times as many steps to the same quality as 1e-3; falling to 0, that rate settles.
_GAN = TrainConfig(
    epochs=20, learning_rate=1e-3, beta1=0.5, warmup_steps=0, grad_clip=0.0, sample_every=1, sample_images=64
)
_GAN_MLP = replace(_GAN, learning_rate=2e-4)
_GAN_CRITIC = replace(_GAN, learning_rate=5e-4, beta1=0.0, beta2=0.9)
_GAN_CIFAR = replace(_GAN, epochs=100, learning_rate=2e-4, beta1=0.0, beta2=0.9, sample_every=5)
_GAN_DIGITS = replace(_GAN, epochs=100, batch_size=32, ema=0.99, sample_every=10)

# (model, preset) -> settings. The presets' model sizes are in genfast.models.
RECIPES: dict[tuple[str, str], TrainConfig] = {
    ("pixelcnn", "digits"): _DIGITS,
    ("pixelcnn", "small"): _SMALL,
    ("pixelcnn", "mnist"): _MNIST,
    ("pixelcnn", "cifar10-small"): _CIFAR_SMALL,
    ("pixelcnn", "cifar10"): _CIFAR,
    ("gated-pixelcnn", "digits"): _GATED_DIGITS,
    ("gated-pixelcnn", "small"): _GATED_SMALL,
    ("gated-pixelcnn", "mnist"): _MNIST,
    ("gated-pixelcnn", "cifar10"): _CIFAR,
    ("pixelcnn-pp", "digits"): _PP_DIGITS,
    ("pixelcnn-pp", "small"): _PP_SMALL,
    ("pixelcnn-pp", "mnist"): _PP_MNIST,
    ("pixelcnn-pp", "cifar10"): _PP_CIFAR,
    ("pixelsnail", "digits"): _SNAIL_DIGITS,
    ("pixelsnail", "small"): _SNAIL_SMALL,
    ("pixelsnail", "mnist"): _PP_MNIST,
    ("pixelsnail", "cifar10"): _PP_CIFAR,
    ("pixelrnn", "digits"): _RNN_DIGITS,
    ("pixelrnn", "small-row"): _RNN_SMALL,
    ("pixelrnn", "small-diagonal"): _RNN_SMALL,
    ("pixelrnn", "mnist-row"): _RNN_MNIST,
    ("pixelrnn", "mnist-diagonal"): _RNN_MNIST,
    ("pixelrnn", "mnist-diagonal-1"): _RNN_MNIST,
    ("pixelrnn", "cifar10-row"): _CIFAR,
    ("pixelrnn", "cifar10-diagonal"): _CIFAR,
    ("autoencoder", "digits"): _CODER_DIGITS,
    ("autoencoder", "small"): _CODER_MNIST,
    ("autoencoder", "mnist"): _CODER_MNIST,
    ("autoencoder", "mnist-mlp"): _CODER_MNIST,
    ("autoencoder", "cifar10"): _CODER_CIFAR,
    ("vae", "digits"): _CODER_DIGITS,
    ("vae", "small"): _VAE_SMALL,
    ("vae", "small-2d"): _VAE_MNIST,
    ("vae", "mnist"): _VAE_MNIST,
    ("vae", "cifar10"): _CODER_CIFAR,
    ("gan", "digits"): _GAN_DIGITS,
    ("gan", "small"): _GAN_MLP,
    ("gan", "mnist"): _GAN,
    ("gan", "mnist-wgan-gp"): _GAN_CRITIC,
    ("gan", "cifar10"): _GAN_CIFAR,
    ("classifier", "digits"): _CODER_DIGITS,
    ("classifier", "small"): _CODER_MNIST,
    ("classifier", "mnist"): _CODER_MNIST,
    ("classifier", "cifar10"): _CODER_CIFAR,
}
