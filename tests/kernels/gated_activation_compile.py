"""Compiles the Triton kernels of gated_activation for GPUs that need not be there.

``python gated_activation_compile.py`` in a process without TRITON_INTERPRET prints a line of JSON: launch -> resources.
"""

import json

import torch

from genfast.kernels.gated_activation.triton_launch import launch
from tests.kernels.triton_compile import TYPES, report_on

SIZES = {"layer": (16, 256, 32, 32), "odd": (3, 10, 5, 7), "huge": (2**14, 256, 32, 32)}  # the last: 2**32 elements


def main() -> None:
    report = {}
    for size, dtype, capability in (
        *((size, torch.float32, 90) for size in SIZES),
        ("layer", torch.float32, 80),
        ("layer", torch.bfloat16, 90),
        ("layer", torch.float16, 80),
        ("layer", torch.float64, 80),
    ):
        batch, channels, *side = SIZES[size]
        x = torch.empty(batch, channels, *side, dtype=dtype, device="meta").to(memory_format=torch.channels_last)
        out = torch.empty(batch, channels // 2, *side, dtype=dtype, device="meta")
        for direction, kernel in (("forward", launch(None, x, out, 1)), ("backward", launch(out, x, x, 1))):
            report[f"sm_{capability}-{size}-{TYPES[dtype]}-{direction}"] = report_on(kernel, capability)
    print(json.dumps(report))


if __name__ == "__main__":
    main()
