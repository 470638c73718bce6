"""Compiles the Triton kernels of masked_conv2d for GPUs that need not be there, and prints what each would occupy.

``python masked_conv2d_compile.py`` in a process without TRITON_INTERPRET prints a line of JSON: launch -> resources.
"""

import json

import torch
from torch import Tensor

from genfast.kernels.common.triton_launch import Launch
from genfast.kernels.masked_conv2d import triton_launch
from genfast.kernels.masked_conv2d.mask import num_taps
from tests.kernels.triton_compile import TYPES, report_on

LAYERS = {  # in, out, filter, mask, colour groups, channels_last, batch
    "first": (3, 64, (7, 7), "A", 3, False, 16),
    "middle": (128, 128, (3, 3), "B", 1, False, 16),
    "middle-channels-last": (128, 128, (3, 3), "B", 1, True, 16),
    "huge": (64, 64, (3, 3), "VB", 1, False, 2**15 + 1),  # more than 2**31 elements
}


def launches(layer: str, dtype: torch.dtype) -> list[tuple[str, Launch]]:
    i, o, kernel_size, mask_type, groups, channels_last, batch = LAYERS[layer]

    def image(channels: int) -> Tensor:
        empty = torch.empty(batch, channels, 32, 32, dtype=dtype, device="meta")
        return empty.to(memory_format=torch.channels_last) if channels_last else empty

    x, y = image(i), image(o)
    weight = torch.empty(o, i, *kernel_size, dtype=dtype, device="meta")
    bias = weight.new_empty(o)
    columns = num_taps(kernel_size, mask_type, groups) * i
    splits, steps = triton_launch._split_pixels(y, o, columns)
    sums = torch.float64 if dtype == torch.float64 else torch.float32
    partials = weight.new_empty(splits, o, columns, dtype=sums)
    packed = weight.new_empty(columns * o)
    forward = triton_launch.conv_launches(x, weight, packed, bias, y, mask_type, groups)
    backward = triton_launch.conv_launches(y, weight, packed, None, x, mask_type, groups, input_gradient=True)
    gradient = triton_launch.weight_launches(y, x, partials, weight, steps, mask_type, groups)
    return [
        *((f"forward-{launch.kernel.fn.__name__}", launch) for launch in forward),
        *((f"bwd_input-{launch.kernel.fn.__name__}", launch) for launch in backward),
        *((f"bwd_weight-{launch.kernel.fn.__name__}", launch) for launch in gradient),
    ]


def wanted() -> list[tuple[str, torch.dtype, str, int]]:
    """(layer, dtype, float32 precision, capability): each dtype, each layer, both GPUs, but not every combination."""
    middle = "middle-channels-last"
    return [
        *((layer, torch.bfloat16, "ieee", 90) for layer in LAYERS),
        (middle, torch.bfloat16, "ieee", 80),
        ("middle", torch.float32, "ieee", 80),
        (middle, torch.float32, "ieee", 90),
        (middle, torch.float32, "tf32", 80),
        ("middle", torch.float32, "tf32", 90),
        ("middle", torch.float64, "ieee", 80),
        (middle, torch.float64, "ieee", 90),
    ]


def main() -> None:
    report = {}
    for layer, dtype, precision, capability in wanted():
        torch.backends.cuda.matmul.fp32_precision = precision
        for name, launch in launches(layer, dtype):
            elementwise = name.endswith(("pack_kernel", "finish_kernel"))
            if elementwise and layer != "first":
                continue
            key = f"sm_{capability}-{layer}-{TYPES[dtype]}-{precision}-{name}"
            report[key] = report_on(launch, capability)
    print(json.dumps(report))


if __name__ == "__main__":
    main()
