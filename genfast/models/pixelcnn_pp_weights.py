"""Weights that were trained elsewhere: state dicts of the PixelCNN++ in PyTorch by pclucas14 (pixel-cnn-pp)."""

import re
from collections.abc import Mapping

import torch
from torch import Tensor

from genfast.errors import GenfastError
from genfast.models.pixelcnn_pp import PixelCNNPP, PixelCNNPPConfig

# Their modules, as patterns, and ours, where {i} is the i-th group of the pattern. Their streams are called u and ul; a
# convolution, a transposed one and a 1x1 layer (an nn.Linear) sit in wrappers with one member each.
STREAM = {"u": "vertical", "ul": "horizontal"}
MODULES = {
    r"up_layers\.(\d+)\.(u|ul)_stream\.(\d+)\.(conv_input|conv_out)\.conv": "down.{0}.{2}.{1}.{3}",
    r"up_layers\.(\d+)\.(u|ul)_stream\.(\d+)\.(nin_skip)\.lin_a": "down.{0}.{2}.{1}.{3}",
    r"down_layers\.(\d+)\.(u|ul)_stream\.(\d+)\.(conv_input|conv_out)\.conv": "up.{0}.{2}.{1}.{3}",
    r"down_layers\.(\d+)\.(u|ul)_stream\.(\d+)\.(nin_skip)\.lin_a": "up.{0}.{2}.{1}.{3}",
    r"downsize_(u|ul)_stream\.(\d+)\.conv": "smaller.{1}.{0}",
    r"upsize_(u|ul)_stream\.(\d+)\.deconv": "larger.{1}.{0}",
    r"u_init\.conv": "first_above",
    r"ul_init\.0\.conv": "first_row_above",
    r"ul_init\.1\.conv": "first_left",
    r"nin_out\.lin_a": "head",
}
PARTS = {"conv_input": "conv_in", "nin_skip": "skip", **STREAM}
# The parameters of a layer: weight normalisation as it was in PyTorch, as it is, and taken off.
PARAMETERS = {
    "weight_g": "g", "weight_v": "v", "parametrizations.weight.original0": "g",
    "parametrizations.weight.original1": "v", "weight": "weight", "bias": "bias",
}  # fmt: skip


def from_pixel_cnn_pp(
    state: Mapping[str, Tensor], image_shape: tuple[int, int, int] = (3, 32, 32), levels: int = 256
) -> PixelCNNPP:
    """A PixelCNNPP with the weights of a state dict of pclucas14/pixel-cnn-pp, whose size it reads off the tensors.

    image_shape: those weights fit any height and width. Keys may begin with "module." (of DataParallel). The two
    networks compute the same: levels enter as -1 .. 1, and the outputs are in the order of
    ``genfast.ops.logistic_mixture``. Dropout differs in training: there it drops whole feature maps.

    Raises GenfastError for a state dict of another layout, or for images of other channels.
    """
    layers = read_layers(state)
    for name in ("first_above", "head"):
        if name not in layers:
            raise not_that_layout(f"it has no {'u_init' if name == 'first_above' else 'nin_out'}")
    filters, inputs = weight_of(layers["first_above"], False).shape[:2]
    if inputs - 1 != image_shape[0]:
        raise GenfastError(
            f"These weights are for images of {inputs - 1} channels, not {image_shape[0]}: give another image_shape."
        )
    resnets = len({name.split(".")[2] for name in layers if name.startswith("down.0.")})
    scales = 1 + len({name.split(".")[1] for name in layers if name.startswith("smaller.")})
    outputs = len(weight_of(layers["head"], False))
    config = PixelCNNPPConfig(
        image_shape, levels, filters, max(resnets, 1), scales, outputs // (3 if inputs == 2 else 10)
    )
    model = PixelCNNPP(config).to(layers["head"]["bias"].dtype)
    converted = {}
    for name, parameters in layers.items():
        weight = weight_of(parameters, name.startswith("larger."))
        converted[f"{name}.weight_v"] = weight
        converted[f"{name}.weight_g"] = weight.flatten(1).norm(dim=1)[:, None, None, None]
        converted[f"{name}.bias"] = parameters["bias"]
    wanted = model.state_dict()
    for name in sorted(wanted.keys() | converted.keys()):
        mine, theirs = wanted.get(name), converted.get(name)
        if mine is None or theirs is None or mine.shape != theirs.shape:
            shapes = [None if t is None else list(t.shape) for t in (mine, theirs)]
            raise not_that_layout(f"what becomes {name} should be {shapes[0]}, and is {shapes[1]}")
    model.load_state_dict(converted)
    return model


def read_layers(state: Mapping[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    """The parameters g, v (or weight) and bias of every layer, by our name of the layer."""
    layers: dict[str, dict[str, Tensor]] = {}
    for key, tensor in state.items():
        module, parameter = split(key.removeprefix("module."))
        for pattern, ours in MODULES.items():
            found = re.fullmatch(pattern, module)
            if found is not None:
                name = ours.format(*(PARTS.get(part, part) for part in found.groups()))
                layers.setdefault(name, {})[parameter] = tensor.detach()
                break
        else:
            raise not_that_layout(f"it has {key!r}")
    for name, parameters in layers.items():
        if set(parameters) not in ({"g", "v", "bias"}, {"weight", "bias"}):
            raise not_that_layout(f"what becomes {name} has only {', '.join(sorted(parameters))}")
    return layers


def split(key: str) -> tuple[str, str]:
    """The path of a module and which parameter of it a key names."""
    for ending, parameter in PARAMETERS.items():
        if key.endswith("." + ending):
            return key.removesuffix("." + ending), parameter
    raise not_that_layout(f"it has {key!r}")


def weight_of(parameters: Mapping[str, Tensor], transposed: bool) -> Tensor:
    """A layer's weight as it computes with it.  # [O, I, kh, kw]

    There, weight normalisation takes the norm over all but the first dimension, of a transposed convolution too: that
    is the input channel. A 1x1 layer is a matrix.
    """
    if "weight" in parameters:
        weight = parameters["weight"]
    else:
        g, v = parameters["g"], parameters["v"]
        weight = v * (g / torch.linalg.vector_norm(v.flatten(1), dim=1).reshape(-1, *[1] * (v.ndim - 1)))
    if weight.ndim == 2:
        return weight[:, :, None, None]
    return weight.transpose(0, 1).contiguous() if transposed else weight


def not_that_layout(why: str) -> GenfastError:
    return GenfastError(f"This is no state dict of pclucas14/pixel-cnn-pp: {why}.")
