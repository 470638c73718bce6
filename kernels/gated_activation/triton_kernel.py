"""gated_activation in Triton, the device code: a block of results a program, every number read and written once.

x is runs of f, each followed by as many of g: the result number e lies in run e // length, and its f that many runs
further on in x. How long a run is and how many there are is no compile-time constant: one compilation for a dtype.
Importing this file imports triton.
"""

# Kernel parameters carry no types: Triton gives them theirs.
# mypy: disable-error-code="no-untyped-def"

import triton
import triton.language as tl

from genfast.kernels.common.triton_math import sigmoid, tanh


@triton.jit
def factors(x, e, inside, length, T: tl.constexpr):
    """tanh(f) and sigmoid(g) of the results e."""
    f = x + e + e // length * length
    t = tanh(tl.load(f, mask=inside, other=0.0).to(T))
    return t, sigmoid(tl.load(f + length, mask=inside, other=0.0).to(T))


@triton.jit
def forward_kernel(x, out, results, length, INDEX: tl.constexpr, T: tl.constexpr, BLOCK: tl.constexpr):
    e = tl.program_id(0).to(INDEX) * BLOCK + tl.arange(0, BLOCK)
    inside = e < results
    t, s = factors(x, e, inside, length, T)
    tl.store(out + e, (t * s).to(out.dtype.element_ty), mask=inside)


@triton.jit
def backward_kernel(grad, x, dx, results, length, INDEX: tl.constexpr, T: tl.constexpr, BLOCK: tl.constexpr):
    e = tl.program_id(0).to(INDEX) * BLOCK + tl.arange(0, BLOCK)
    inside = e < results
    t, s = factors(x, e, inside, length, T)
    d = s * tl.load(grad + e, mask=inside, other=0.0).to(T)
    f = dx + e + e // length * length
    tl.store(f, (d * (1.0 - t * t)).to(dx.dtype.element_ty), mask=inside)
    tl.store(f + length, (d * t * (1.0 - s)).to(dx.dtype.element_ty), mask=inside)
