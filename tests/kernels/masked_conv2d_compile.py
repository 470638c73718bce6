"""Compiles the Triton kernels of masked_conv2d for GPUs that need not be there, and prints what each would occupy.

``python masked_conv2d_compile.py`` in a process without TRITON_INTERPRET prints a line of JSON: launch -> resources.
Exactly the launches that the launchers would make are compiled, from meta tensors.
"""

import json
import re
import subprocess
import tempfile
from typing import Any

import torch
import triton
from torch import Tensor
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from genfast.kernels.masked_conv2d import triton_launch
from genfast.kernels.masked_conv2d.mask import num_taps

TYPES = {torch.float32: "fp32", torch.float64: "fp64", torch.bfloat16: "bf16", torch.float16: "fp16"}
LAYERS = {  # in, out, filter, mask, colour groups, channels_last, batch
    "first": (3, 64, (7, 7), "A", 3, False, 16),
    "middle": (128, 128, (3, 3), "B", 1, False, 16),
    "middle-channels-last": (128, 128, (3, 3), "B", 1, True, 16),
    "huge": (64, 64, (3, 3), "VB", 1, False, 2**15 + 1),  # more than 2**31 elements
}


def compile_launch(launch: triton_launch.Launch, capability: int) -> Any:
    signature: dict[str, str] = {}
    constants: dict[tuple[int], Any] = {}
    attributes: dict[tuple[int], Any] = {}
    for index, parameter in enumerate(launch.kernel.params):
        value = launch.args[parameter.name]
        if parameter.is_constexpr or (isinstance(value, int) and value == 1):
            signature[parameter.name] = "constexpr"
            constants[(index,)] = value
            continue
        if isinstance(value, Tensor):
            signature[parameter.name] = "*" + TYPES[value.dtype]
        else:
            signature[parameter.name] = "i32" if value < 2**31 else "i64"
        if isinstance(value, Tensor) or value % 16 == 0:
            attributes[(index,)] = [["tt.divisibility", 16]]
    source = ASTSource(launch.kernel, signature, constants, attributes)
    return triton.compile(source, target=GPUTarget("cuda", capability, 32), options=launch.options)


def launches(layer: str, dtype: torch.dtype) -> list[tuple[str, triton_launch.Launch]]:
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


def resources(compiled: Any) -> dict[str, int]:
    with tempfile.NamedTemporaryFile(suffix=".cubin") as cubin:
        cubin.write(compiled.asm["cubin"])
        cubin.flush()
        tool = triton.knobs.nvidia.cuobjdump.path
        usage = subprocess.run([tool, "--dump-resource-usage", cubin.name], capture_output=True, text=True, check=True)
    found = re.search(r"REG:(\d+) STACK:(\d+).*?LOCAL:(\d+)", usage.stdout)
    assert found, usage.stdout
    registers, stack, local = map(int, found.groups())
    return {"registers": registers, "stack": stack, "local": local, "shared": compiled.metadata.shared}


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
            report[key] = resources(compile_launch(launch, capability))
            report[key]["wide"] = int(str(launch.args.get("INDEX")) == "int64")
    print(json.dumps(report))


if __name__ == "__main__":
    main()
