"""What is refused, before any sampling: the sentence names the layer and says why."""

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genfast.compiler import check_causality, compile_module, make_target
from genfast.compiler.causality import Leak
from genfast.errors import GenfastError, NotCausal, NotSupported
from tests.compiler.networks_inputs import ColourConv
from tests.compiler.networks_masks import DataMask
from tests.compiler.networks_stacks import GatedLayer
from tests.compiler.pattern import randomise

SHAPE = (1, 5, 5)


def compiled(module: nn.Module, shape: tuple[int, int, int] = SHAPE, levels: int = 3, **more: Any) -> Any:
    return compile_module(make_target(module, shape, levels=levels, **more))


def stack(*between: nn.Module, out: nn.Module | None = None) -> nn.Module:
    torch.manual_seed(0)
    layers = [DataMask("A", 1, 6, 3, padding=1), *between, out or nn.Conv2d(6, 3, 1)]
    return randomise(nn.Sequential(*layers)).eval()


# ---- leaks ----

KINDS: dict[str, Callable[[int, int], nn.Module]] = {
    "masked conv without its mask": lambda i, o: nn.Conv2d(i, o, 3, padding=1),
    "padded on the wrong side": lambda i, o: nn.Sequential(nn.ZeroPad2d((0, 1, 0, 0)), nn.Conv2d(i, o, (1, 2))),
    "dilated": lambda i, o: nn.Conv2d(i, o, (1, 3), padding=(0, 2), dilation=(1, 2)),
    "1 wide": lambda i, o: nn.Conv2d(i, o, (3, 1), padding=(1, 0)),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("place", range(5))
def test_a_leak_is_blamed_on_its_layer(kind: str, place: int) -> None:
    """In a plain stack, wherever the layer without a mask stands."""
    torch.manual_seed(0)
    layers: list[nn.Module] = [DataMask("A", 1, 6, 3, padding=1)]
    layers += [DataMask("B", 6, 6, 3, padding=1) for _ in range(3)] + [nn.Conv2d(6, 3, 1)]
    layers[place] = KINDS[kind](1 if place == 0 else 6, 3 if place == 4 else 6)
    module = randomise(nn.Sequential(*(nn.Sequential(layer, nn.Tanh()) for layer in layers))).eval()
    report = check_causality(module, SHAPE, levels=3)
    assert not report.ok
    assert all(layer.startswith(f"{place}.0") for layer in report.layers), report.layers
    with pytest.raises(NotCausal, match=rf"layer {place}\.0.* looks ahead"):
        compiled(module)


@pytest.mark.parametrize("place", range(3))
@pytest.mark.parametrize("part", ["vertical", "horizontal"])
def test_a_leak_in_a_gated_layer(place: int, part: str) -> None:
    """One weight too far down, or to the right, in one of the two streams."""

    class Stack(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = nn.ModuleList(GatedLayer(1 if i == 0 else 4, 4, 3, i == 0) for i in range(3))
            self.out = nn.Conv2d(4, 3, 1)

        def forward(self, x: Tensor) -> Tensor:
            v = h = x
            for layer in self.layers:
                v, h = layer(v, h)
            return self.out(h)

    torch.manual_seed(0)
    module = Stack().eval()
    layer = module.layers[place]
    if part == "vertical":
        layer.vertical.padding = (layer.half, layer.half)  # reads one row further down
        layer.vertical.forward = lambda x, c=layer.vertical: F.pad(nn.Conv2d.forward(c, x), (0, 0, 0, 1))
    else:
        layer.horizontal.padding = (0, layer.half)
        layer.horizontal.forward = lambda x, c=layer.horizontal: F.pad(nn.Conv2d.forward(c, x), (0, 1))
    with pytest.raises(NotCausal, match=rf"layer layers\.{place}\.({part}|cross|back)"):
        compiled(module)


def test_an_output_that_sees_itself() -> None:
    module = stack()
    module[0].mask[:, :, 1, 1] = 1
    with torch.no_grad():
        module[0].weight.normal_()
    with pytest.raises(NotCausal, match=r"the output for pixel \(y=\d, x=\d\) reads itself, and layer 0 is the first"):
        compiled(module)


@pytest.mark.parametrize("interleaved", [True, False])
@pytest.mark.parametrize("place", [0, 1, 2])
def test_a_leak_between_colours(interleaved: bool, place: int) -> None:
    """One weight from B to G at the centre."""
    torch.manual_seed(0)
    layers = [ColourConv(kind, interleaved, *size) for kind, *size in (("A", 3, 9, 3), ("B", 9, 9, 3), ("B", 9, 12, 1))]
    module = nn.Sequential(*layers).eval()
    pick = (lambda out, y, x, c: out[:, c::3, y, x]) if interleaved else None
    compiled(module, (3, 4, 4), 4, pick=pick)
    mask = layers[place].mask
    green, blue = (1, 2) if interleaved else (mask.shape[0] // 3, mask.shape[1] // 3 * 2)
    mask[green, blue, mask.shape[2] // 2, mask.shape[3] // 2] = 1
    report = check_causality(module, (3, 4, 4), levels=4, pick=pick)
    worst: Leak = report.leaks[0]
    assert worst.output[0] == 1
    assert worst.input[1:] == worst.output[1:]
    assert report.layers == (str(place),)
    assert "channel G" in str(report)
    assert "channel B" in str(report)


def test_a_leak_between_colours_among_layers_of_one_name() -> None:
    """Activations that are made in the forward pass, or shared, do not take the blame of a convolution."""

    class Nameless(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            sizes = (("A", 3, 9, 3), ("B", 9, 9, 1), ("B", 9, 9, 3), ("B", 9, 12, 1))
            self.layers = nn.ModuleList(ColourConv(kind, False, *size) for kind, *size in sizes)

        def forward(self, x: Tensor) -> Tensor:
            for layer in self.layers[:-1]:
                x = nn.ReLU()(layer(x) + 1)
            return self.layers[-1](x)

    for place in range(4):
        torch.manual_seed(0)
        module = Nameless().eval()
        mask = module.layers[place].mask
        mask[mask.shape[0] // 3, mask.shape[1] // 3 * 2, mask.shape[2] // 2, mask.shape[3] // 2] = 1
        assert check_causality(module, (3, 4, 4), levels=4).layers == (f"layers.{place}",)


def test_one_weight_too_many_is_found() -> None:
    for seed in range(6):
        module = stack(nn.ReLU(), DataMask("B", 6, 6, 3, padding=1), nn.ReLU(), DataMask("B", 6, 6, 3, padding=1))
        generator = torch.Generator().manual_seed(seed)
        place = [0, 2, 4][seed % 3]
        masked = (module[place].mask == 0).nonzero()
        spot = tuple(masked[int(torch.randint(len(masked), (), generator=generator))].tolist())
        module[place].mask[spot] = 1
        with torch.no_grad():
            module[place].weight.normal_(generator=generator)
        with pytest.raises(NotCausal, match=f"layer {place} "):
            compiled(module)


class Mixer(nn.Module):
    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


@pytest.mark.parametrize(
    "mixer",
    [
        nn.BatchNorm2d(6),
        nn.BatchNorm2d(6, track_running_stats=False).eval(),
        Mixer(lambda x: x - x.mean(0, keepdim=True)),
        Mixer(lambda x: x.flip(0)),
        Mixer(lambda x: x[:1].expand_as(x)),
        Mixer(lambda x: x + x.softmax(0)),
    ],
)
def test_images_that_mix(mixer: nn.Module) -> None:
    module = stack(DataMask("B", 6, 6, 3, padding=1), mixer)
    module[2].train(isinstance(mixer, nn.BatchNorm2d) and mixer.track_running_stats)
    with pytest.raises(NotCausal, match=r"layer \S+ mixes the images of a batch .*evaluation mode"):
        compiled(module)
    report = check_causality(module, SHAPE, levels=3)
    assert report.leaks[0].between_images
    assert "2" in report.layers or "3" in report.layers


@pytest.mark.parametrize(
    "norm", [nn.InstanceNorm2d(6), nn.GroupNorm(2, 6), nn.AdaptiveAvgPool2d(1), nn.LayerNorm([6, 5, 5])]
)
def test_norms_over_positions_look_ahead(norm: nn.Module) -> None:
    module = stack(nn.Identity(), norm, Mixer(lambda x: x.expand(-1, -1, 5, 5)))
    with pytest.raises(NotCausal, match="layer 2 is the first"):
        compiled(module)


# ---- what cannot be followed ----


@pytest.mark.parametrize("way", [lambda x: torch.from_numpy(x.numpy()), lambda x: torch.tensor(x.tolist()),
                                 lambda x: torch.from_numpy(np.asarray(x) * 1), copy.deepcopy,
                                 lambda x: torch.from_dlpack(x)])  # fmt: skip
def test_leaving_torch(way: Callable[[Tensor], Tensor]) -> None:
    with pytest.raises(NotSupported, match=r"layer 2 leaves PyTorch: it calls \.\w+\(\)"):
        compiled(stack(nn.Tanh(), Mixer(way)))
    assert torch.ones(2).tolist() == [1, 1]  # the guard is gone


@pytest.mark.parametrize(
    ("layer", "reason"),
    [
        (Mixer(lambda x: torch.linalg.solve(x @ x.mT + torch.eye(5), x)), "operator (bmm|_linalg_solve_ex)"),
        (Mixer(lambda x: x.sort(1).values), "operator sort"),
        (Mixer(lambda x: torch.fft.ifft2(torch.fft.fft2(x)).real), "memory of computed numbers"),
        (Mixer(lambda x: x.float().view(torch.int32).float()), "reads the memory of computed numbers as torch.int32"),
        (Mixer(lambda x: x.to_sparse().to_dense()), "torch.sparse"),
        (Mixer(lambda x: F.embedding(x.argmax(1), torch.eye(6)).movedim(3, 1)), "operator argmax"),
        (Mixer(lambda x: x.clone().index_put_((torch.tensor([0]),), x[:1], accumulate=True)), "adds up"),
        (Mixer(lambda x: x.round(decimals=2)), "operator round"),
        (Mixer(lambda x: F.conv2d(x, x[:1].expand(6, 6, 5, 5).contiguous(), padding=2)), "weights are computed"),
    ],
)
def test_an_operator_that_is_not_taken(layer: nn.Module, reason: str) -> None:
    with pytest.raises(NotSupported, match=f"ayer 2.*{reason}"):
        compiled(stack(nn.Tanh(), layer))


def test_what_no_output_needs_is_no_reason() -> None:
    """An operator that cannot be taken, whose result is thrown away."""
    compiled(stack(Mixer(lambda x: x + 0 * x.sort(1).values.shape[0]), Mixer(lambda x: (x.argmax(1), x)[1])))


class Recurrence(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.scan = nn.LSTM(6, 6, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.scan(x.flatten(2).transpose(1, 2))[0].transpose(1, 2).reshape(x.shape)


def test_recurrence_comes_later() -> None:
    with pytest.raises(NotSupported, match=r"layer 1\.scan: operator (mkldnn_rnn_layer|lstm).*engine='naive'"):
        compiled(stack(Recurrence()))


@pytest.mark.parametrize("noise", [nn.Dropout(0.5), Mixer(lambda x: x * torch.rand_like(x)),
                                   Mixer(lambda x: x + torch.bernoulli(torch.full((5, 5), 0.5)))])  # fmt: skip
def test_randomness(noise: nn.Module) -> None:
    module = stack(noise)
    module.train()
    module[0].eval()
    with pytest.raises(GenfastError, match="different outputs for the same input"):
        compiled(module)


def test_a_value_that_decides_is_noted_and_checked() -> None:
    """An if that the check's images decide otherwise than the traced ones; one that all decide alike is noted."""
    always = stack(nn.Tanh(), Mixer(lambda x: x * 2 if float(x.max()) < 5 else x))
    program = compiled(always)
    assert ["2: Python reads a computed number" in note for note in program.notes] == [True]
    assert "2: Python reads a computed number" in str(check_causality(always, SHAPE, levels=3))
    sometimes = stack(nn.Tanh(), Mixer(lambda x: x * 2 if float(x[1, :, 3:].std()) < 0.2 else x))
    with pytest.raises(NotSupported, match="does not reproduce the module on fresh images"):
        compiled(sometimes)
    equal = stack(nn.Tanh(), Mixer(lambda x: x if torch.equal(x, x + 1) else x * 3))
    assert len(compiled(equal).notes) == 1


def test_an_operator_of_somebody_elses_is_not_taken_for_ours() -> None:
    library = torch.library.Library("somebody", "FRAGMENT")
    library.define("roll(Tensor x) -> Tensor")
    library.impl("roll", lambda x: x * 2, "CompositeExplicitAutograd")
    with pytest.raises(NotSupported, match="operator somebody::roll"):
        compiled(stack(Mixer(lambda x: torch.ops.somebody.roll(x))))


# ---- modules that fail ----


def test_a_module_that_fails() -> None:
    with pytest.raises(GenfastError, match=r"forward pass fails on two images \[2, 1, 5, 5\]: ZeroDivisionError"):
        compiled(stack(Mixer(lambda x: x * (1 / 0))))
    fixed = torch.randn(4, 6, 5, 5)
    with pytest.raises(GenfastError, match="fails on two images .* must match the size"):
        compiled(stack(Mixer(lambda x: x + fixed)))
    with pytest.raises(GenfastError, match=r"pass pick="):
        compiled(stack(out=nn.Conv2d(6, 4, 1)))


def test_a_module_that_fails_only_while_watched_leaves_nothing_behind() -> None:
    calls = []

    def fourth(x: Tensor) -> Tensor:  # of one that finds the layout, two that settle, and the one that is watched
        calls.append(1)
        if len(calls) == 4:
            raise KeyError("mine")
        return x

    hooks = (torch.nn.modules.module._global_forward_hooks, torch.nn.modules.module._global_forward_pre_hooks)
    before = [len(h) for h in hooks]
    with pytest.raises(NotSupported, match="Layer 1 runs, but not while the compiler watches: KeyError"):
        compiled(stack(Mixer(fourth)))
    assert [len(h) for h in hooks] == before
    assert torch.backends.mha.get_fastpath_enabled()
    assert not torch.compiler.is_compiling()
    assert torch.ones(1).numpy() == 1


def test_a_layer_that_catches_an_exception() -> None:
    """Layers after one that raised are still named by their own names."""

    class Fails(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            raise ValueError

    class Tries(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = Fails()

        def forward(self, x: Tensor) -> Tensor:
            try:
                return self.inner(x)
            except ValueError:
                return x * 2

    with pytest.raises(NotSupported, match="layer 2: operator sort"):
        compiled(stack(Tries(), Mixer(lambda x: x.sort(1).values)))
