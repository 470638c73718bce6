"""Every operator's GPU kernels once, forward and backward, at small odd sizes, and both engines on tiny models: for
compute-sanitizer, which makes them a hundred times slower. `make gpu-check` runs it.

    compute-sanitizer --tool memcheck python benchmarks/gpu_small.py cuda | triton | cuda-engine | triton-engine
"""

import sys
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from genfast import compile_sampler, ops
from genfast.models import (
    GatedPixelCNN,
    GatedPixelCNNConfig,
    ImageModel,
    PixelCNN,
    PixelCNNConfig,
    PixelCNNPP,
    PixelCNNPPConfig,
    PixelRNN,
    PixelRNNConfig,
    PixelSNAIL,
    PixelSNAILConfig,
)
from genfast.ops.backends import OPERATORS
from genfast.sampling import naive

Made = tuple[str, Callable[..., Tensor], list[Tensor], tuple[Any, ...]]  # name, operator, what has gradients, the rest


def cases(device: str) -> Iterator[Made]:
    def leaf(*shape: int, last: bool = False) -> Tensor:
        x = torch.randn(*shape, device=device)
        return (x.contiguous(memory_format=torch.channels_last) if last else x).requires_grad_()

    for last in (False, True):
        for mask, groups in (("A", 3), ("B", 1)):
            inputs = [leaf(2, 6, 5, 7, last=last), leaf(9, 6, 3, 3), leaf(9)]
            yield f"masked_conv2d, mask {mask}, {groups} groups", ops.masked_conv2d, inputs, (mask, groups)
            inputs = [leaf(2, 2 * groups * 3, 5, 7, last=last)]
            yield f"gated_activation, {groups} groups", ops.gated_activation, inputs, (groups,)
        yield "row_lstm", ops.row_lstm, [leaf(2, 20, 5, 7, last=last), leaf(20, 5, 3), leaf(5), leaf(5)], ()
        yield "diagonal_lstm", ops.diagonal_lstm, [leaf(2, 20, 5, 7, last=last), leaf(20, 5, 2), leaf(5), leaf(5)], ()
        images = torch.randint(0, 256, (2, 3, 5, 7), dtype=torch.uint8, device=device)
        yield "logistic_mixture", ops.logistic_mixture, [leaf(2, 40, 5, 7, last=last)], (images, 4)
        yield "one logistic", ops.logistic_mixture, [leaf(2, 6, 5, 7, last=last)], (images, None)


def results(operator: Callable[..., Tensor], inputs: list[Tensor], rest: tuple[Any, ...], backend: str) -> list[Tensor]:
    out = operator(*inputs, *rest, backend=backend)
    return [out, *torch.autograd.grad(out.sum(), inputs)]


def check(backend: str) -> None:
    """Raises AssertionError, naming the operator, where a backend is wrong."""
    torch.manual_seed(0)
    for name, operator, inputs, rest in cases("cuda" if backend in ("cuda", "triton") else "cpu"):
        if backend not in OPERATORS[operator.__name__]:
            continue
        got = results(operator, inputs, rest, backend)
        expected = results(operator, inputs, rest, "reference")
        for a, b in zip(got, expected, strict=True):
            limit = 1e-3 * float(b.detach().abs().max())
            torch.testing.assert_close(a, b, rtol=1e-3, atol=limit, msg=lambda text, name=name: f"{name}: {text}")
        print(f"{name}: right by {backend}", flush=True)


def models() -> dict[str, ImageModel]:
    """One for each kind of step and of draw, with weights large enough that pixels depend on those before."""
    made: dict[str, ImageModel] = {
        "pixelcnn": PixelCNN(PixelCNNConfig((3, 2, 2), 5, hidden=12, blocks=1, head=20)),
        "gated-pixelcnn": GatedPixelCNN(GatedPixelCNNConfig((1, 3, 3), 2, hidden=8, layers=2)),
        "pixelrnn": PixelRNN(PixelRNNConfig((1, 2, 3), 2, hidden=8, layers=1, head=20)),
        "pixelcnn-pp": PixelCNNPP(PixelCNNPPConfig((3, 2, 2), filters=4, resnets=1, scales=2, components=2)),
        "pixelsnail": PixelSNAIL(
            PixelSNAILConfig((1, 2, 3), 2, filters=4, blocks=1, resnets=1, heads=2, key_channels=4, value_channels=6)
        ),
    }
    for model in made.values():
        model.initialize(torch.randint(0, model.levels, (8, *model.image_shape), dtype=torch.uint8))
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.mul_(2)
    return {name: model.eval() for name, model in made.items()}


def check_engine(engine: str, device: str) -> None:
    """Raises AssertionError, naming the model, where an engine draws other images than the loop does on the CPU."""
    torch.manual_seed(0)
    for name, model in models().items():
        expected = naive.sample(model, 3)
        drawn = compile_sampler(model.to(device), engine).sample(3)
        assert torch.equal(drawn.cpu(), expected), f"{name}: the {engine} engine draws other images."
        print(f"{name}: right by the {engine} engine", flush=True)


if __name__ == "__main__":
    wanted, is_engine, _ = sys.argv[1].partition("-engine")
    if is_engine:
        check_engine(wanted, "cuda")
    else:
        check(wanted)
    torch.cuda.synchronize()
