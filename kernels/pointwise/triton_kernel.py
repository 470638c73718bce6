"""Every pointwise operation in Triton, float32, on tiles that broadcast. Importing this file imports triton.

Operations are numbers, because Triton knows no strings: ``NUMBER[name]``. What is below 2^-125 may come out as 0.
"""

# Kernel parameters carry no types: Triton gives them theirs.
# mypy: disable-error-code="no-untyped-def"

import triton
import triton.language as tl

from genfast.kernels.common.triton_math import decay, exp, log, lowest, power_of_two, reduced_exp, sigmoid, tanh

_UNARY = "neg abs exp expm1 log log1p sqrt rsqrt reciprocal tanh sigmoid relu elu softplus sin cos erf sign floor ceil"
_OTHERS = "round trunc logical_not isnan add sub mul div pow maximum minimum remainder eq ne lt le gt ge where"
NUMBER = {name: number for number, name in enumerate(f"{_UNARY} {_OTHERS}".split())}

NEG, ABS, EXP, EXPM1, LOG, LOG1P, SQRT, RSQRT, RECIPROCAL, TANH = (tl.constexpr(i) for i in range(10))
SIGMOID, RELU, ELU, SOFTPLUS, SIN, COS, ERF, SIGN, FLOOR, CEIL = (tl.constexpr(i) for i in range(10, 20))
ROUND, TRUNC, NOT, ISNAN, ADD, SUB, MUL, DIV, POW, MAXIMUM = (tl.constexpr(i) for i in range(20, 30))
MINIMUM, REMAINDER, EQ, NE, LT, LE, GT, GE, WHERE = (tl.constexpr(i) for i in range(30, 39))
INFINITY = tl.constexpr(float("inf"))
NAN = tl.constexpr(float("nan"))
LEAST_NORMAL = tl.constexpr(1.1754943508222875e-38)


@triton.jit
def truth(x):
    return tl.where(x, 1.0, 0.0)


@triton.jit
def any_log(x):
    """The logarithm of every float32."""
    tiny = x < LEAST_NORMAL
    y = log(tl.where(tiny, x * 8388608.0, x)) - tl.where(tiny, 15.942385152878742, 0.0)  # 23 ln 2
    y = tl.where(x == 0.0, -INFINITY, tl.where(x == INFINITY, INFINITY, y))
    return tl.where(x < 0.0, NAN, y)


@triton.jit
def log1p(x):
    """ln(u) x / (u - 1), u = 1 + x rounded: the second factor takes back what the rounding of u did."""
    u = 1.0 + x
    exact = u == 1.0
    y = any_log(u) * tl.div_rn(x, tl.where(exact, 1.0, u - 1.0))
    return tl.where(exact, x, tl.where(x == INFINITY, x, y))


@triton.jit
def expm1(x):
    low = lowest(x)
    inside = tl.where(x < low, low, tl.where(x > 88.0, 88.0, x))
    less_1, n_shifted = reduced_exp(inside)
    scale = power_of_two(n_shifted)
    return tl.where(x > 88.0, exp(x), less_1 * scale + (scale - 1.0))


@triton.jit
def elu(x):
    _, below = decay(tl.where(x > 0.0, 0.0, x))
    return tl.where(x > 0.0, x, below)


@triton.jit
def softplus(x):
    size = tl.where(x < 0.0, -x, x)
    return tl.where(x < 0.0, 0.0, x) + log1p(exp(-size))


@triton.jit
def round_half_even(x):
    """Adding 2^23 leaves no room for halves."""
    up = (x + 8388608.0) - 8388608.0
    down = (x - 8388608.0) + 8388608.0
    near = tl.where(x < 0.0, down, up)
    return tl.where((x < 8388608.0) & (x > -8388608.0), near, x)


@triton.jit
def power(a, b):
    """a^b through logarithms in float64, which is exact enough for float32; the exceptions of C's pow."""
    a, b = tl.broadcast(a.to(tl.float64), b.to(tl.float64))
    size = tl.where(a < 0.0, -a, a)
    usual = (size > 0.0) & (size < INFINITY)
    magnitude = exp(b * log(tl.where(usual, size, 1.0)))
    magnitude = tl.where(b != b, b, magnitude)
    of_zero = tl.where(b < 0.0, INFINITY, 0.0)
    of_infinity = tl.where(b < 0.0, 0.0, INFINITY)
    magnitude = tl.where(size == 0.0, of_zero, tl.where(size == INFINITY, of_infinity, magnitude))
    magnitude = tl.where((a != a) | (b != b), NAN, magnitude)
    whole = (tl.floor(b) == b) | (b == INFINITY) | (b == -INFINITY)
    odd = whole & (b - 2.0 * tl.floor(b * 0.5) == 1.0)
    signed = tl.where(odd & ((a < 0.0) | ((a == 0.0) & (1.0 / a < 0.0))), -magnitude, magnitude)
    signed = tl.where((a < 0.0) & (size < INFINITY) & (whole == 0), NAN, signed)
    return tl.where((a == 1.0) | (b == 0.0) | ((size == 1.0) & (b * 0.0 != 0.0) & (b == b)), 1.0, signed).to(tl.float32)


@triton.jit
def remainder(a, b):
    """a - b trunc(a / b), with the sign of b; exact where |a / b| < 2^29."""
    a, b = tl.broadcast(a.to(tl.float64), b.to(tl.float64))
    x = tl.where(a < 0.0, -a, a)
    y = tl.where(b < 0.0, -b, b)
    r = x - tl.floor(x / y) * y
    r = tl.where(r < 0.0, r + y, tl.where(r >= y, r - y, r))
    r = tl.where((y == INFINITY) & (x < INFINITY), x, r)
    r = tl.where(a < 0.0, -r, r)
    return tl.where((r != 0.0) & ((r < 0.0) != (b < 0.0)), r + b, r).to(tl.float32)


@triton.jit
def apply(OP: tl.constexpr, a, b, c):
    """op(a), op(a, b) or op(a, b, c); what the operation does not take may be anything."""
    if OP == NEG:
        return -a
    elif OP == ABS:
        return tl.abs(a)
    elif OP == EXP:
        return exp(a)
    elif OP == EXPM1:
        return expm1(a)
    elif OP == LOG:
        return any_log(a)
    elif OP == LOG1P:
        return log1p(a)
    elif OP == SQRT:
        return tl.sqrt_rn(a)
    elif OP == RSQRT:
        return tl.div_rn(tl.full(a.shape, 1.0, tl.float32), tl.sqrt_rn(a))
    elif OP == RECIPROCAL:
        return tl.div_rn(tl.full(a.shape, 1.0, tl.float32), a)
    elif OP == TANH:
        return tanh(a)
    elif OP == SIGMOID:
        return sigmoid(a)
    elif OP == RELU:
        return tl.where(a < 0.0, 0.0, a)
    elif OP == ELU:
        return elu(a)
    elif OP == SOFTPLUS:
        return softplus(a)
    elif OP == SIN:
        return tl.sin(a)
    elif OP == COS:
        return tl.cos(a)
    elif OP == ERF:
        return tl.erf(a)
    elif OP == SIGN:
        return truth(a > 0.0) - truth(a < 0.0)
    elif OP == FLOOR:
        return tl.floor(a)
    elif OP == CEIL:
        return tl.ceil(a)
    elif OP == ROUND:
        return round_half_even(a)
    elif OP == TRUNC:
        return tl.where(a < 0.0, tl.ceil(a), tl.floor(a))
    elif OP == NOT:
        return truth(a == 0.0)
    elif OP == ISNAN:
        return truth(a != a)
    elif OP == ADD:
        return a + b
    elif OP == SUB:
        return a - b
    elif OP == MUL:
        return a * b
    elif OP == DIV:
        a, b = tl.broadcast(a, b)
        return tl.div_rn(a, b)
    elif OP == POW:
        return power(a, b)
    elif OP == MAXIMUM:
        return tl.where((a > b) | (a != a), a, b)
    elif OP == MINIMUM:
        return tl.where((a < b) | (a != a), a, b)
    elif OP == REMAINDER:
        return remainder(a, b)
    elif OP == EQ:
        return truth(a == b)
    elif OP == NE:
        return truth(a != b)
    elif OP == LT:
        return truth(a < b)
    elif OP == LE:
        return truth(a <= b)
    elif OP == GT:
        return truth(a > b)
    elif OP == GE:
        return truth(a >= b)
    else:
        tl.static_assert(OP == WHERE, "There is no such pointwise operation.")
        return tl.where(a != 0.0, b, c)
