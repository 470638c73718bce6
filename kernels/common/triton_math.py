"""exp, log, tanh and the logistic function in Triton: the formulas of math.h, for float32 and float64.

Written out because Triton's own tl.exp takes float32 by the hardware's base-2 exponential of x / ln 2 rounded, which at
x = -60 is wrong by 30 units in the last place, and because libdevice cannot be interpreted. So what the interpreter
computes is what a GPU computes, but for fused multiply-adds and for its division of float32, which is good to 2 units.

Largest errors in units in the last place, with exact division: exp 1.5, decay 1.5, log 2.5, tanh 3, sigmoid 3. As in
math.h, what is below 2^-125 (float64: 2^-1020) comes out as 0; NaN gives NaN, and infinities give the limits.
Importing this file imports triton.
"""

# Kernel parameters carry no types: Triton gives them theirs.
# mypy: disable-error-code="no-untyped-def"

import triton
import triton.language as tl


@triton.jit
def reduced_exp(x):
    """x = n ln 2 + r with n whole and |r| <= ln 2 / 2 -> exp(r) - 1, and n in the place of a number's exponent.

    Adding 1.5 * 2^(mantissa bits) rounds to a whole number and leaves it in the low bits.
    """
    if x.dtype == tl.float64:  # Taylor's polynomial to r^13: its rest is 4e-18
        shifted = x * 1.4426950408889634074 + 6755399441055744.0
        n = shifted - 6755399441055744.0
        r = (x - n * 6.93145751953125e-1) - n * 1.42860682030941723212e-6
        p = r * (1.0 / 6227020800.0) + 1.0 / 479001600.0
        p = p * r + 1.0 / 39916800.0
        p = p * r + 1.0 / 3628800.0
        p = p * r + 1.0 / 362880.0
        p = p * r + 1.0 / 40320.0
        p = p * r + 1.0 / 5040.0
        p = p * r + 1.0 / 720.0
        p = p * r + 1.0 / 120.0
        p = p * r + 1.0 / 24.0
        p = p * r + 1.0 / 6.0
        p = p * r + 0.5
        n_shifted = shifted.to(tl.int64, bitcast=True) << 52
    else:  # the polynomial of Cephes' expf
        shifted = x * 1.44269504088896341 + 12582912.0
        n = shifted - 12582912.0
        r = (x - n * 0.693359375) - n * -2.12194440e-4
        p = r * 1.9875691500e-4 + 1.3981999507e-3
        p = p * r + 8.3334519073e-3
        p = p * r + 4.1665795894e-2
        p = p * r + 1.6666665459e-1
        p = p * r + 5.0000001201e-1
        n_shifted = shifted.to(tl.int32, bitcast=True) << 23
    return p * (r * r) + r, n_shifted


@triton.jit
def power_of_two(n_shifted):
    """2^n for n in the place of the exponent."""
    if n_shifted.dtype == tl.int64:
        return (n_shifted + 0x3FF0000000000000).to(tl.float64, bitcast=True)
    else:
        return (n_shifted + 0x3F800000).to(tl.float32, bitcast=True)


@triton.jit
def lowest(x):
    """The argument below which exp is 0, everywhere."""
    if x.dtype == tl.float64:
        return tl.full(x.shape, -707.0, tl.float64)
    else:
        return tl.full(x.shape, -86.6434, tl.float32)


@triton.jit
def exp(x):
    low = lowest(x)
    high = tl.full(x.shape, 710.0 if x.dtype == tl.float64 else 89.0, x.dtype)
    expm1, n_shifted = reduced_exp(tl.where(x < low, low, tl.where(x > high, high, x)))
    # 2^n can overflow where the result does not: 2^(n - 1), twice.
    one = 1 << (52 if x.dtype == tl.float64 else 23)
    scale = power_of_two(n_shifted - one)
    return tl.where(x < low, 0.0, (expm1 * scale + scale) * 2.0)


@triton.jit
def decay(x):
    """exp(x) and exp(x) - 1 for x <= 0, each to its own last places."""
    low = lowest(x)
    expm1, n_shifted = reduced_exp(tl.where(x < low, low, x))
    scale = power_of_two(n_shifted)
    return tl.where(x < low, 0.0, expm1 * scale + scale), expm1 * scale + (scale - 1.0)


@triton.jit
def log(x):
    """The logarithm of a positive normal number 2^n m, sqrt(1/2) <= m < sqrt(2): n ln 2 + 2 artanh((m - 1) / (m + 1)),
    by Taylor's polynomial."""
    if x.dtype == tl.float64:  # to the 21st power: the rest is 2e-19 of the logarithm
        bits = x.to(tl.int64, bitcast=True)
        n = (bits - 0x3FE6A09E667F3BCD) >> 52
        m = (bits - (n << 52)).to(tl.float64, bitcast=True)
        s = (m - 1.0) / (m + 1.0)
        z = s * s
        p = z * (1.0 / 21) + 1.0 / 19
        p = p * z + 1.0 / 17
        p = p * z + 1.0 / 15
        p = p * z + 1.0 / 13
        p = p * z + 1.0 / 11
        p = p * z + 1.0 / 9
        p = p * z + 1.0 / 7
        p = p * z + 1.0 / 5
        p = p * z + 1.0 / 3
        power = n.to(tl.float64)
        y = power * 6.93145751953125e-1 + (2.0 * (s * z * p + s) + power * 1.42860682030941723212e-6)
    else:  # to the 9th: 2e-9
        bits = x.to(tl.int32, bitcast=True)
        n = (bits - 0x3F3504F3) >> 23
        m = (bits - (n << 23)).to(tl.float32, bitcast=True)
        s = (m - 1.0) / (m + 1.0)
        z = s * s
        p = z * (1.0 / 9) + 1.0 / 7
        p = p * z + 1.0 / 5
        p = p * z + 1.0 / 3
        power = n.to(tl.float32)
        y = power * 0.693359375 + (2.0 * (s * z * p + s) + power * -2.12194440e-4)
    return tl.where(x != x, x, y)


@triton.jit
def sigmoid(x):
    return tl.where(x < lowest(x), 0.0, 1.0 / (1.0 + exp(-x)))


@triton.jit
def tanh(x):
    """t / (t + 2) with t = exp(2 |x|) - 1, which keeps its digits near 0."""
    size = tl.where(x < 0.0, -x, x)
    most = tl.full(x.shape, 22.0 if x.dtype == tl.float64 else 10.0, x.dtype)
    expm1, n_shifted = reduced_exp(2.0 * tl.where(size > most, most, size))
    scale = power_of_two(n_shifted)
    t = expm1 * scale + (scale - 1.0)
    y = t / (t + 2.0)
    return tl.where(x < 0.0, -y, y)
