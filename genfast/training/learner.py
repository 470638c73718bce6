"""Learning: a model, its players and its averaged weights, one step at a time. Nothing is written here."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import torch

from genfast.data import ImageSet
from genfast.errors import GenfastError
from genfast.models import ImageConfig, Model, build_model
from genfast.training.ema import AveragedModel
from genfast.training.evaluate import check_match, labels_of
from genfast.training.order import Order, stream
from genfast.training.players import Player
from genfast.training.recipe import TrainConfig
from genfast.training.window import Window

if TYPE_CHECKING:
    from accelerate import Accelerator

INITIAL_IMAGES = 64  # that a model may look at before its first step


def stepper(
    model_name: str, data: ImageSet, train_config: TrainConfig, initial: Model
) -> tuple[Callable[[], object], Model]:
    """(a function that makes one training step at each call, as ``train`` does, the model that learns by it).

    The model is a copy of ``initial``. Nothing is written, and losses are not looked at. Like ``train``, it seeds
    PyTorch's global generator and flushes denormal numbers. Raises GenfastError for images that the model cannot read.
    """
    learner = Learner(model_name, initial.config, data, train_config, initial)
    learner.model.train()
    return learner.advance, learner.model


class Learner:
    """What training changes: the weights, their average, and what the players' optimizers remember.

    step: how many are done, of ``total``. window: what they said, until it is logged. initial: a model of the same
    settings to start from, instead of random weights. Seeds PyTorch's global generator, flushes denormal numbers to
    zero and, if asked, sets the thread count. Raises GenfastError for settings that do not fit together.
    """

    def __init__(
        self,
        model_name: str,
        model_config: ImageConfig,
        data: ImageSet,
        config: TrainConfig,
        initial: Model | None,
    ) -> None:
        self.config, self.data = config, data
        if config.num_threads:
            torch.set_num_threads(config.num_threads)
        # Saturated gates leave gradients below 1e-38, on which a CPU computes a hundred times slower: as training goes
        # on, a step of a Gated PixelCNN comes to take twice as long. They make no difference to the weights.
        torch.set_flush_denormal(True)
        self.accelerator = _accelerator(config)
        if min(config.batch_size, len(data)) < self.accelerator.num_processes:
            raise GenfastError(
                f"A batch of {min(config.batch_size, len(data))} images cannot be shared by "
                f"{self.accelerator.num_processes} processes: use a larger batch or fewer processes."
            )
        torch.manual_seed(config.seed)
        model = build_model(model_name, model_config)
        if initial is not None:
            if initial.config != model_config:
                raise GenfastError("The model to start from has other settings than the model to train.")
            model.load_state_dict(initial.state_dict())
        check_match(model, data)
        self.model = model.to(self.accelerator.device)
        self.average = AveragedModel(self.model, config.ema)
        self.players = {name: Player(self.model, name, config, self.accelerator) for name in self.model.players}
        self.total = config.total_steps(len(data))
        self.order = Order(len(data), config.batch_size, config.steps_per_epoch(len(data)), config.seed)
        self.step = 0
        self.window = Window()

    def initialize(self) -> None:
        """Let the model look at the first images before its first step. Every process looks at the same ones."""
        if type(self.model).initialize is Model.initialize:  # it has no use for them
            return
        first = self.order.batch(0)[:INITIAL_IMAGES]
        images = self._moved(self.data.batch(first, seed=self.config.seed, epoch=0))
        labels = labels_of(self.model, self.data, first)
        self.model.initialize(images, None if labels is None else self._moved(labels))
        self.average.model.load_state_dict(self.model.state_dict())

    def advance(self) -> float:
        """One step, in which every player has its turn. Returns the learning rate.

        Nothing in it waits for a GPU: images are copied while it works, and what there is to say stays there until it
        is logged.
        """
        config, step = self.config, self.step
        process, processes = self.accelerator.process_index, self.accelerator.num_processes
        batch = self.order.batch(step)
        mine = np.array_split(batch, processes)[process]
        images = self._moved(self.data.batch(mine, seed=config.seed, epoch=self.order.epoch(step)))
        labels = labels_of(self.model, self.data, mine)
        labels = None if labels is None else self._moved(labels)
        torch.manual_seed(stream(config.seed, step, process))  # latent variables, dropout and the like
        rate = config.learning_rate_at(step, self.total)
        for name in self.model.turns(step):
            scores, numbers = self.players[name].turn(images, labels, step, rate, len(batch))
            self.window.add(name, step + 1, len(batch), scores, numbers)
        self.step += 1
        self.average.update(self.model, self.step)
        return rate

    def _moved(self, tensor: torch.Tensor) -> torch.Tensor:
        """On the training device. A GPU copies from pinned memory while it and we go on."""
        device = self.accelerator.device
        return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)


def _accelerator(config: TrainConfig) -> "Accelerator":
    from accelerate import Accelerator

    if config.amp == "fp16" and (config.device == "cpu" or not torch.cuda.is_available()):
        raise GenfastError("amp fp16 needs a GPU: use bf16 or no.")
    try:
        return Accelerator(mixed_precision=config.amp, cpu=config.device == "cpu")
    except ValueError as error:  # its state is one per process
        raise GenfastError(
            f"A process trains with one device and one precision, and Accelerate was set up otherwise before ({error})."
        ) from None
