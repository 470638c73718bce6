"""Compiles launches of Triton kernels for GPUs that need not be there, and what each would occupy.

Exactly the launches that the launchers would make are compiled, from meta tensors. Needs a process without
TRITON_INTERPRET.
"""

import re
import subprocess
import tempfile
from typing import Any

import torch
import triton
from torch import Tensor
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from genfast.kernels.common.triton_launch import Launch

TYPES = {
    torch.float32: "fp32",
    torch.float64: "fp64",
    torch.bfloat16: "bf16",
    torch.float16: "fp16",
    torch.uint8: "u8",
}


def compile_launch(launch: Launch, capability: int) -> Any:
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


def report_on(launch: Launch, capability: int) -> dict[str, int]:
    """Registers, bytes of stack, of spills (local) and of shared memory; wide: whether offsets have 64 bits."""
    used = resources(compile_launch(launch, capability))
    return used | {"wide": int(str(launch.args.get("INDEX")) == "int64")}
