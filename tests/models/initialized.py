"""What holds after ``initialize``, for every model whose weights are normalised."""

import torch
from torch import Tensor

from genfast.models import Model
from genfast.models.gated_resnet import OUT_GAIN
from genfast.nn import ShiftedConv2d


def assert_initialized(model: Model, images: Tensor, told: Tensor | None) -> None:
    """Every convolution's output has mean 0 and its gain as deviation on the images of initialize."""
    model.initialize(images, told)
    assert model.training
    seen = []

    def watch(module, _, out):
        std, mean = torch.std_mean(out, (0, 2, 3), correction=0)
        seen.append(module)
        assert mean.abs().max() < 1e-4
        torch.testing.assert_close(std, torch.full_like(std, module.gain), rtol=1e-3, atol=0)

    layers = [m for m in model.modules() if isinstance(m, ShiftedConv2d)]
    for module in layers:
        module.register_forward_hook(watch)
    model(images, told)
    assert len(seen) == len(layers)
    assert {module.gain for module in seen} == {1.0, OUT_GAIN}
