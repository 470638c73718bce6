"""Models, and their forward passes in plain PyTorch, against which sampling is measured: one, and those of the naive
loop, which makes one for every sub-pixel.

Plain means F.conv2d with weights that are masked already, evaluation and inference mode, contiguous or channels_last,
whichever is faster, and no look at the levels. PyTorch has no Row LSTM and no Diagonal BiLSTM: in a PixelRNN these
layers stay genfast's own.
"""

import copy
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from genfast import ops
from genfast.likelihoods import trusted
from genfast.models import MODELS, ImageModel, base, build_model, gated_pixelcnn, pixelcnn, pixelrnn
from genfast.nn import MaskedConv2d, ShiftedConv2d

LAY_OUT = (base, gated_pixelcnn, pixelcnn, pixelrnn)  # modules that lay maps out by a function channels_last
LAYOUTS = ("channels_last", "contiguous")
LOOP_PASSES = 2  # of the naive loop, in a turn


def fresh(name: str, preset: str) -> ImageModel:
    """A freshly initialised preset in evaluation mode. Its speed does not depend on what it has learnt."""
    torch.manual_seed(0)
    model = build_model(name, MODELS[name].presets[preset])
    model.initialize(torch.randint(0, model.levels, (4, *model.image_shape)))
    return model.eval()


def gate(x: Tensor, color_groups: int = 1) -> Tensor:
    """tanh(f) * sigmoid(g) of the two halves of x, as people write it, for several colours too."""
    if color_groups == 1:
        f, g = x.chunk(2, 1)
        return torch.tanh(f) * torch.sigmoid(g)
    f, g = x.unflatten(1, (color_groups, 2, -1)).unbind(2)
    return (torch.tanh(f) * torch.sigmoid(g)).flatten(1, 2)


class Normalized(nn.Module):
    """A ShiftedConv2d whose weight has been computed."""

    def __init__(self, layer: ShiftedConv2d) -> None:
        super().__init__()
        self.layer, self.weight = layer, nn.Parameter(layer.weight().detach())
        layer.weight = lambda: self.weight  # type: ignore[method-assign]

    def forward(self, x: Tensor, size: tuple[int, int] | None = None) -> Tensor:
        out: Tensor = self.layer(x, size)
        return out


def plain(model: nn.Module) -> nn.Module:
    """The same network on nn.Conv2d: its weights are zero where they are masked, and normalised once."""
    twin = copy.deepcopy(model)
    for parent in list(twin.modules()):
        for name, layer in parent.named_children():
            if isinstance(layer, MaskedConv2d):
                conv = nn.Conv2d(layer.in_channels, layer.out_channels, layer.kernel_size, padding=layer.padding)
                conv.load_state_dict(layer.state_dict())
                setattr(parent, name, conv.to(layer.weight))
            elif isinstance(layer, ShiftedConv2d):
                setattr(parent, name, Normalized(layer))
    return twin.eval()


@contextmanager
def written_plainly(layout: str) -> Iterator[None]:
    """Within, models lay their maps out like this, and have PyTorch's passes in the place of our operator for the gate.
    It costs microseconds, which count as the pass's."""
    replaced = [(ops, "gated_activation", gate)] if hasattr(ops, "gated_activation") else []  # older versions have none
    if layout == "contiguous":
        replaced += [(module, "channels_last", Tensor.contiguous) for module in LAY_OUT]
    before = [getattr(module, name) for module, name, _ in replaced]
    for module, name, function in replaced:
        setattr(module, name, function)
    try:
        yield
    finally:
        for (module, name, _), function in zip(replaced, before, strict=True):
            setattr(module, name, function)


def products_in(precision: str) -> AbstractContextManager[None]:
    """As genfast has it. Asked for here: older versions, on which ``--compare`` runs these benchmarks, have none."""
    from genfast.compiler import products

    return products.products_in(precision)


class Forward:
    """One plain forward pass, in the faster of the two memory layouts. precision: "float32", "tf32", or "bfloat16" for
    a network in bfloat16 throughout."""

    def __init__(self, model: ImageModel, images: Tensor, precision: str = "float32") -> None:
        self.images, self.precision = images, precision
        dtype = torch.bfloat16 if precision == "bfloat16" else torch.float32
        formats = {"channels_last": torch.channels_last, "contiguous": torch.contiguous_format}
        self.twins = {layout: plain(model).to(dtype=dtype, memory_format=formats[layout]) for layout in LAYOUTS}
        times = {layout: self.seconds(layout) for _ in range(3) for layout in LAYOUTS}  # the first is slow
        for layout in (*LAYOUTS, *LAYOUTS):
            times[layout] = min(times[layout], self.seconds(layout))
        self.layout = min(times, key=times.__getitem__)
        self.twins = {self.layout: self.twins[self.layout]}

    def __call__(self, layout: str | None = None) -> Tensor:
        layout = layout or self.layout
        products = products_in(self.precision) if self.images.is_cuda else nullcontext()  # a CPU rounds no factors
        with torch.inference_mode(), trusted(), written_plainly(layout), products:
            out: Tensor = self.twins[layout](self.images)
        return out

    def seconds(self, layout: str) -> float:
        start = time.perf_counter()
        self(layout)
        if self.images.is_cuda:
            torch.cuda.synchronize()
        return time.perf_counter() - start


def replayed(forward: Forward) -> Callable[[], object]:
    """The same pass as a CUDA graph: no kernel waits for Python, so only the GPU's own time is left."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(2):
            forward()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        forward()
    return graph.replay


def loop_passes(model: ImageModel) -> int:
    """How many passes the naive loop makes: one for every sub-pixel, or for every pixel that is drawn whole."""
    channels, height, width = model.image_shape
    return height * width * (1 if model.likelihood.whole_pixels else channels)


def some_passes(one_pass: Callable[[], Any]) -> Callable[[], None]:
    """A few passes of the naive loop. What it draws in between is left out, which flatters it."""

    def several() -> None:
        for _ in range(LOOP_PASSES):
            one_pass()

    return several
