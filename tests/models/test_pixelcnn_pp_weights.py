"""Weights of pclucas14/pixel-cnn-pp: a network with that layout of modules, written anew, and what becomes of it."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrizations, weight_norm

from genfast.errors import GenfastError
from genfast.models import PixelCNNPP, from_pixel_cnn_pp

pytestmark = pytest.mark.filterwarnings("ignore:.*weight_norm.*:FutureWarning")


def twice(x: Tensor) -> Tensor:
    return F.elu(torch.cat((x, -x), 1))


class Convolution(nn.Module):
    """ "conv" or "deconv" inside a wrapper. ``right``: the filter ends at the pixel's column too."""

    def __init__(self, norm, inputs: int, outputs: int, size: tuple[int, int], right: bool, scale: str = "") -> None:
        super().__init__()
        self.size, self.right, self.stride = size, right, 2 if scale else 1
        if scale == "up":
            self.deconv = norm(nn.ConvTranspose2d(inputs, outputs, size, 2, output_padding=1))
        else:
            self.conv = norm(nn.Conv2d(inputs, outputs, size, self.stride))

    def forward(self, x: Tensor) -> Tensor:
        kh, kw = self.size
        left = kw - 1 if self.right else kw // 2
        if hasattr(self, "conv"):
            return self.conv(F.pad(x, (left, kw - 1 - left, kh - 1, 0)))
        height, width = 2 * x.shape[2], 2 * x.shape[3]
        left = 0 if self.right else kw // 2
        return self.deconv(x)[:, :, :height, left : left + width]


class AtEachPixel(nn.Module):
    def __init__(self, norm, inputs: int, outputs: int) -> None:
        super().__init__()
        self.lin_a = norm(nn.Linear(inputs, outputs))

    def forward(self, x: Tensor) -> Tensor:
        return self.lin_a(x.movedim(1, -1)).movedim(-1, 1)


class Block(nn.Module):
    def __init__(self, norm, h: int, right: bool, aside: int) -> None:
        super().__init__()
        size = (2, 2) if right else (2, 3)
        self.conv_input = Convolution(norm, 2 * h, h, size, right)
        if aside:
            self.nin_skip = AtEachPixel(norm, 2 * aside * h, h)
        self.conv_out = Convolution(norm, 2 * h, 2 * h, size, right)

    def forward(self, x: Tensor, aside: Tensor | None = None) -> Tensor:
        inner = self.conv_input(twice(x))
        if aside is not None:
            inner = inner + self.nin_skip(twice(aside))
        value, gate = self.conv_out(twice(inner)).chunk(2, 1)
        return x + value * gate.sigmoid()


class Streams(nn.Module):
    def __init__(self, norm, h: int, blocks: int, up: bool) -> None:
        super().__init__()
        self.u_stream = nn.ModuleList(Block(norm, h, False, int(up)) for _ in range(blocks))
        self.ul_stream = nn.ModuleList(Block(norm, h, True, 1 + up) for _ in range(blocks))


class Layout(nn.Module):
    """Names and shapes as in those state dicts; ``norm`` is how PyTorch spells weight normalisation, or none."""

    def __init__(self, norm=weight_norm, colors: int = 3, h: int = 6, blocks: int = 2, mixtures: int = 3) -> None:
        super().__init__()
        self.down_layers = nn.ModuleList(Streams(norm, h, blocks + (i > 0), True) for i in range(3))
        self.up_layers = nn.ModuleList(Streams(norm, h, blocks, False) for _ in range(3))
        for name, scale in (("down", ""), ("up", "up")):
            for stream, right in (("u", False), ("ul", True)):
                layers = (Convolution(norm, h, h, (2, 2 if right else 3), right, scale or "down") for _ in range(2))
                setattr(self, f"{name}size_{stream}_stream", nn.ModuleList(layers))
        self.u_init = Convolution(norm, colors + 1, h, (2, 3), False)
        self.ul_init = nn.ModuleList((
            Convolution(norm, colors + 1, h, (1, 3), False), Convolution(norm, colors + 1, h, (2, 1), True)
        ))  # fmt: skip
        self.nin_out = AtEachPixel(norm, h, mixtures * (3 if colors == 1 else 10))

    def forward(self, x: Tensor) -> Tensor:
        x = torch.cat((x, torch.ones_like(x[:, :1])), 1)

        def below(y: Tensor) -> Tensor:
            return F.pad(y, (0, 0, 1, 0))[:, :, :-1]

        us, uls = [below(self.u_init(x))], []
        uls.append(below(self.ul_init[0](x)) + F.pad(self.ul_init[1](x), (1, 0))[:, :, :, :-1])
        for i, layer in enumerate(self.up_layers):
            if i:
                us.append(self.downsize_u_stream[i - 1](us[-1]))
                uls.append(self.downsize_ul_stream[i - 1](uls[-1]))
            for for_u, for_ul in zip(layer.u_stream, layer.ul_stream, strict=True):
                us.append(for_u(us[-1]))
                uls.append(for_ul(uls[-1], us[-1]))
        u, ul = us.pop(), uls.pop()
        for i, layer in enumerate(self.down_layers):
            if i:
                u, ul = self.upsize_u_stream[i - 1](u), self.upsize_ul_stream[i - 1](ul)
            for for_u, for_ul in zip(layer.u_stream, layer.ul_stream, strict=True):
                u = for_u(u, us.pop())
                ul = for_ul(ul, torch.cat((u, uls.pop()), 1))
        return self.nin_out(F.elu(ul))


def trained(**values: object) -> Layout:
    """As after training: g is not the norm of v, and biases are not small."""
    torch.manual_seed(0)
    model = Layout(**values).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1 + 0.3 * torch.randn_like(parameter)).add_(0.02 * torch.randn_like(parameter))
    return model


@pytest.mark.parametrize(("colors", "shape"), [(3, (3, 8, 12)), (1, (1, 4, 4)), (3, (3, 32, 32))])
def test_the_same_outputs(colors, shape):
    theirs = trained(colors=colors, blocks=1 + (colors == 3))
    ours = from_pixel_cnn_pp(theirs.state_dict(), shape).eval()
    assert isinstance(ours, PixelCNNPP)
    assert (ours.config.filters, ours.config.resnets, ours.config.components) == (6, 1 + (colors == 3), 3)
    images = torch.randint(0, 256, (2, *shape))
    torch.testing.assert_close(ours.outputs(images), theirs(images.double() / 127.5 - 1), rtol=1e-10, atol=1e-10)
    assert sum(p.numel() for p in ours.parameters()) == sum(p.numel() for p in theirs.parameters())


@pytest.mark.parametrize("norm", [parametrizations.weight_norm, lambda layer: layer])
def test_weight_normalisation_of_today_and_none(norm):
    theirs = trained(norm=norm)
    ours = from_pixel_cnn_pp(theirs.state_dict(), (3, 8, 8)).eval()
    images = torch.randint(0, 256, (2, 3, 8, 8))
    torch.testing.assert_close(ours.outputs(images), theirs(images.double() / 127.5 - 1), rtol=1e-10, atol=1e-10)


def test_data_parallel_names_and_other_sizes_of_images():
    state = trained().state_dict()
    plain = from_pixel_cnn_pp(state, (3, 7, 5))
    other = from_pixel_cnn_pp({f"module.{name}": value for name, value in state.items()}, (3, 7, 5), levels=32)
    assert other.levels == 32
    assert all(torch.equal(a, b) for a, b in zip(plain.parameters(), other.parameters(), strict=True))


def test_other_layouts_are_refused():
    state = trained().state_dict()
    some = next(iter(state))

    def without(*names: str) -> dict[str, Tensor]:
        return {key: value for key, value in state.items() if not key.startswith(names)}

    for wrong, sentence in (
        ({}, "it has no u_init"),
        (without("nin_out"), "it has no nin_out"),
        ({**state, "first.weight": state[some]}, "it has 'first.weight'"),
        ({**state, "optimizer": state[some]}, "it has 'optimizer'"),
        (without("upsize_u_stream.1"), "what becomes larger.1.vertical.bias should be"),
        (without("u_init.conv.bias"), "what becomes first_above has only g, v"),
        ({**state, "nin_out.lin_a.bias": torch.zeros(7)}, "what becomes head.bias should be [30], and is [7]"),
    ):
        with pytest.raises(GenfastError) as error:
            from_pixel_cnn_pp(wrong)
        assert str(error.value).startswith("This is no state dict of pclucas14/pixel-cnn-pp: ")
        assert sentence in str(error.value)
    with pytest.raises(GenfastError, match="for images of 3 channels, not 1"):
        from_pixel_cnn_pp(state, (1, 28, 28))
