"""Small recurrent networks: masked input convolutions and the two scans, as PixelRNN arranges them."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genfast.likelihoods import make_likelihood
from genfast.nn import MaskedConv2d
from genfast.ops.diagonal_lstm import diagonal_lstm
from genfast.ops.row_lstm import row_lstm

Shape = tuple[int, int, int]
FAULTS = ("", "mask", "shift")  # what may be wrong: the first mask lets the own pixel in; no shift down


class Gates(nn.Module):
    """Input-to-state: a masked convolution for all four gates, or one for each where there are colours."""

    def __init__(self, inputs: int, hidden: int, kernel: int, colors: int) -> None:
        super().__init__()
        count = 1 if colors == 1 else 4
        self.parts = nn.ModuleList(
            MaskedConv2d(inputs, 4 * hidden // count, (1, kernel), "B", color_groups=colors) for _ in range(count)
        )

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([part(x) for part in self.parts], 1)


class Scan(nn.Module):
    """kind: "row", or "right" and "left", the two ways of the diagonal LSTM."""

    def __init__(self, inputs: int, hidden: int, kind: str, colors: int) -> None:
        super().__init__()
        self.kind = kind
        self.gates = Gates(inputs, hidden, 3 if kind == "row" else 1, colors)
        self.weight = nn.Parameter(torch.randn(4 * hidden, hidden, 3 if kind == "row" else 2) / hidden**0.5)
        self.h0, self.c0 = nn.Parameter(torch.randn(hidden)), nn.Parameter(torch.randn(hidden))

    def forward(self, x: Tensor) -> Tensor:
        if self.kind == "row":
            return row_lstm(self.gates(x), self.weight, self.h0, self.c0)
        return diagonal_lstm(self.gates(x), self.weight, self.h0, self.c0, self.kind == "left")


class Layer(nn.Module):
    """variant: "row", "diagonal" (both ways, the right-to-left map moved down by one row), "conv" or "right"."""

    def __init__(self, inputs: int, hidden: int, variant: str, colors: int, shift: bool = True) -> None:
        super().__init__()
        self.variant, self.shift = variant, shift
        if variant == "conv":
            self.conv = MaskedConv2d(inputs, hidden, 3, "B", color_groups=colors)
        elif variant == "diagonal":
            self.right, self.left = (Scan(inputs, hidden, way, colors) for way in ("right", "left"))
        else:
            self.scan = Scan(inputs, hidden, variant, colors)

    def forward(self, x: Tensor) -> Tensor:
        if self.variant == "conv":
            return torch.tanh(self.conv(x))
        if self.variant != "diagonal":
            return self.scan(x)
        left = self.left(x)
        return self.right(x) + (F.pad(left, (0, 0, 1, 0))[:, :, :-1] if self.shift else left)


class Recurrent(nn.Module):
    """A mask A convolution, recurrent layers with residual connections, a 1x1 convolution; as the package's models."""

    def __init__(
        self, shape: Shape, variants: list[str], hidden: int = 6, levels: int = 3, kind: str = "categorical",
        fault: str = "", first: int = 3,
    ) -> None:  # fmt: skip
        super().__init__()
        colors = shape[0]
        self.image_shape, self.levels = shape, levels
        self.likelihood = make_likelihood(kind, colors, levels)
        self.first = MaskedConv2d(colors, hidden, first, "B" if fault == "mask" else "A", color_groups=colors)
        self.layers = nn.ModuleList(Layer(hidden, hidden, v, colors, fault != "shift") for v in variants)
        self.out = MaskedConv2d(hidden, self.likelihood.param_channels, 1, "B", color_groups=colors)
        with torch.no_grad():
            self.out.weight.mul_(4)

    def forward(self, images: Tensor, condition: Tensor | None = None) -> Tensor:
        x = self.first(images.to(self.first.weight.dtype) * (2 / (self.levels - 1)) - 1)
        for layer in self.layers:
            x = x + layer(x)
        return self.likelihood.unpack(self.out(x))
