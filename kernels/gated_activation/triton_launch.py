"""gated_activation in Triton, the host code: which kernel of triton_kernel.py runs, over blocks of which size.

float32, float64, bfloat16, float16; 16-bit floats are computed with in float32. Importing this file imports triton.
"""

import torch
import triton
from torch import Tensor

from genfast.kernels.common.triton_launch import Launch, dtype_and_precision, image_like, index_type, sum_dtype
from genfast.kernels.gated_activation.triton_kernel import backward_kernel, forward_kernel

BLOCK, WARPS = 1024, 4  # eight results a thread: two loads of 16 bytes are in flight for each of f and g


def gated_activation(x: Tensor, color_groups: int) -> Tensor:
    """x [B, 2h, H, W] -> [B, h, H, W] in x's memory format; other strides than those of the two formats cost a copy.

    On a GPU, or on the CPU in Triton's interpreter. Arguments are checked by genfast.ops; no gradient is recorded here.
    """
    x = dense(x)
    out = image_like(x, x.shape[1] // 2)
    if out.numel():
        launch(None, x, out, color_groups).run(x.device)
    return out


def gated_activation_bwd(grad: Tensor, x: Tensor, color_groups: int) -> Tensor:
    """The gradient of the result -> that of x, in the memory format of x."""
    x = dense(x)
    dx = image_like(x, x.shape[1])
    if dx.numel():
        launch(grad.contiguous(memory_format=memory_format(x)), x, dx, color_groups).run(x.device)
    return dx


def launch(grad: Tensor | None, x: Tensor, out: Tensor, color_groups: int) -> Launch:
    """What fills ``out``, the result or (given the result's gradient) the gradient of x; all dense and laid out
    alike."""
    dtype_and_precision(x.dtype)  # refuses what no kernel takes
    pixels = 1 if memory_format(x) == torch.channels_last else x.shape[2] * x.shape[3]
    results = x.numel() // 2
    args = {
        "x": x,
        "results": results,
        "length": x.shape[1] // (2 * color_groups) * pixels,
        "INDEX": index_type(x),
        "T": sum_dtype(x.dtype),
        "BLOCK": BLOCK,
    }
    tensors = {"out": out} if grad is None else {"grad": grad, "dx": out}
    kernel = forward_kernel if grad is None else backward_kernel
    return Launch(kernel, (triton.cdiv(results, BLOCK),), {**args, **tensors}, {"num_warps": WARPS})


def dense(x: Tensor) -> Tensor:
    """x, or a contiguous copy where it has neither memory format."""
    return x if x.is_contiguous(memory_format=torch.channels_last) else x.contiguous()


def memory_format(x: Tensor) -> torch.memory_format:
    """Of a dense tensor: contiguous where it is both."""
    return torch.contiguous_format if x.is_contiguous() else torch.channels_last
