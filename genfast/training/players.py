"""Players: the parts of a model that learn, each by a loss and an optimizer of its own.

In most families there is one, the whole model; in a GAN there are two, which take turns.
"""

import math
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from genfast.likelihoods import trusted
from genfast.models import Model
from genfast.training.recipe import TrainConfig

if TYPE_CHECKING:
    from accelerate import Accelerator


class Player:
    """The part of a model that is called ``name``, the loss it minimises, and how it learns."""

    def __init__(self, model: Model, name: str, config: TrainConfig, accelerator: "Accelerator") -> None:
        part = model.get_submodule(name)
        self.parameters = list(part.parameters())
        self.optimizer = _optimizer(self.parameters, config)
        self.longest = config.grad_clip or math.inf
        self.accelerator = accelerator
        # The wrapped loss carries autocast and, with several processes, the averaging of gradients.
        self.loss, self.stepper = accelerator.prepare(_Loss(model, name), self.optimizer)

    def turn(
        self, images: Tensor, labels: Tensor | None, step: int, rate: float, batch: int
    ) -> tuple[list[str], Tensor]:
        """Learn from this process's share of a batch of ``batch`` images, at a learning rate.

        Returns the names of the scores, and on the training device, still to be waited for: the sum of the losses over
        the batch, the norm of the gradient, the sum of each score.  # float64 [2 + scores]
        """
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        losses, scores = self.loss(images, labels, step)
        loss = losses.sum()
        # Gradients are averaged over processes; the factor makes that the mean over the whole batch, however split.
        self.accelerator.backward(loss * (self.accelerator.num_processes / batch))
        norm = self.accelerator.clip_grad_norm_(self.parameters, self.longest)
        sums = torch.stack([loss.detach().double(), *(v.detach().double().sum() for v in scores.values())])
        sums = self.accelerator.reduce(sums, "sum")
        self.stepper.step()
        self.stepper.zero_grad()
        return list(scores), torch.cat([sums[:1], norm.detach().to(sums).reshape(1), sums[1:]])


class _Loss(torch.nn.Module):
    """What a player minimises as a forward pass, which is what Accelerate wraps.

    Its only submodule is the player, so that processes average the gradients of that alone.
    """

    def __init__(self, model: Model, name: str) -> None:
        super().__init__()
        self.part = model.get_submodule(name)
        self.name = name
        self._turn_loss = model.turn_loss

    def forward(self, images: Tensor, labels: Tensor | None, step: int) -> tuple[Tensor, dict[str, Tensor]]:
        with trusted():  # the images were checked when they were loaded
            return self._turn_loss(self.name, images, labels, step)


def read_moments(model: Model, players: Iterable[Player]) -> dict[str, Tensor]:
    """What the optimizers remember, by "PARAMETER/NAME"."""
    states = _states(players)
    return {
        f"{name}/{key}": value
        for name, parameter in model.named_parameters()
        for key, value in states[parameter].items()
    }


def write_moments(model: Model, players: Iterable[Player], moments: Mapping[str, Tensor]) -> None:
    """Let the optimizers remember what ``read_moments`` gave."""
    states, parameters = _states(players), dict(model.named_parameters())
    for key, value in moments.items():
        name, _, moment = key.rpartition("/")
        if name in parameters:
            # Adam keeps its step counts on the CPU, and one that is fused reads moments in the parameter's layout.
            mine = value if moment == "step" else torch.empty_like(parameters[name]).copy_(value)
            states[parameters[name]][moment] = mine


def _states(players: Iterable[Player]) -> dict[torch.nn.Parameter, dict[str, Tensor]]:
    """The optimizers' own memory of each parameter: what is put there they find. Parameters have one optimizer each."""
    return {p: player.optimizer.state[p] for player in players for p in player.parameters}


def _optimizer(parameters: list[torch.nn.Parameter], config: TrainConfig) -> torch.optim.Optimizer:
    """Adam over the parameters; on a CPU in one pass over each, where PyTorch's default makes a dozen: a quarter of a
    small VAE's step."""
    rate, betas = config.learning_rate, (config.beta1, config.beta2)
    fused = all(parameter.device.type == "cpu" for parameter in parameters) or None
    if config.optimizer == "adamw":
        return torch.optim.AdamW(parameters, lr=rate, betas=betas, weight_decay=config.weight_decay, fused=fused)
    return torch.optim.Adam(parameters, lr=rate, betas=betas, fused=fused)
