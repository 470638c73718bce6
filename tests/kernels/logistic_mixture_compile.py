"""Compiles the Triton kernels of logistic_mixture for GPUs that need not be there.

``python logistic_mixture_compile.py`` in a process without TRITON_INTERPRET prints a line of JSON: launch -> resources.
"""

import json

import torch
from torch import Tensor

from genfast.kernels.common.triton_launch import Launch
from genfast.kernels.logistic_mixture.triton_launch import launch, results
from tests.kernels.triton_compile import TYPES, report_on

LIKELIHOODS = {  # batch, channels, components, levels, channels_last
    "rgb": (16, 3, 10, 256, True),
    "grey": (16, 1, 5, 256, False),
    "vae": (64, 3, 0, 256, True),
    "huge": (2**15, 3, 10, 256, False),  # more than 2**31 elements
}


def both(name: str, dtype: torch.dtype) -> tuple[Launch, Launch]:
    batch, channels, components, levels, channels_last = LIKELIHOODS[name]

    def image(planes: int, dtype: torch.dtype) -> Tensor:
        return torch.empty(batch, planes, 32, 32, dtype=dtype, device="meta")

    images = image(channels, torch.uint8)
    params = image((2 if channels == 1 else 3) * channels * components + components or 2 * channels, dtype)
    params = params.to(memory_format=torch.channels_last) if channels_last else params
    out = image(results(images, components), torch.float64 if dtype == torch.float64 else torch.float32)
    forward = launch(params, images, out, out, components, levels, -7.0, backward=False)
    return forward, launch(params, images, out, params, components, levels, -7.0, backward=True)


def wanted() -> list[tuple[str, torch.dtype, int]]:
    """(likelihood, dtype, capability): each dtype, each likelihood, both GPUs, but not every combination."""
    return [
        *((name, torch.float32, 90) for name in LIKELIHOODS),
        ("vae", torch.bfloat16, 80),
        ("rgb", torch.float16, 80),
        ("rgb", torch.float64, 90),
    ]


def main() -> None:
    report = {}
    for name, dtype, capability in wanted():
        for direction, kernel in zip(("forward", "backward"), both(name, dtype), strict=True):
            report[f"sm_{capability}-{name}-{TYPES[dtype]}-{direction}"] = report_on(kernel, capability)
    print(json.dumps(report))


if __name__ == "__main__":
    main()
