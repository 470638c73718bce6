// pointwise on a CPU: out[m, n] = op(a, b, c) for rows of floats, columns n of [first, last).
//
//   args   as many as the operation takes. A row is `row` elements after the one before (0: every row is the same), or lies
//          anywhere. `lane` is 1, or 0 if one number serves the whole row. With lane 1 a row must be readable from first to the
//          next kRowPadding numbers after it that hold last.
//   out    rows `row` apart, written to as many; or anywhere, and nothing after last is written. Aliases no argument.
// Whole vectors only, so that a number's bits do not depend on where in a row or a batch it stands.
#pragma once

#include <stdint.h>

namespace genfast {

constexpr int64_t kRowPadding = 16;  // floats: the widest vector of any instruction set

// name(number of arguments). Truth values are 1 and 0, and what is not 0 is true; round rounds halves to even; remainder has
// the sign of the divisor; softplus is ln(1 + e^x); elu is x or, below 0, e^x - 1; relu, elu, maximum and minimum pass NaN on; sign(NaN) is 0.
#define GENFAST_POINTWISE_OPS(X)                                                                                             \
  X(neg, 1) X(abs, 1) X(exp, 1) X(expm1, 1) X(log, 1) X(log1p, 1) X(sqrt, 1) X(rsqrt, 1) X(reciprocal, 1) X(tanh, 1)         \
  X(sigmoid, 1) X(relu, 1) X(elu, 1) X(softplus, 1) X(sin, 1) X(cos, 1) X(erf, 1) X(sign, 1) X(floor, 1) X(ceil, 1)          \
  X(round, 1) X(trunc, 1) X(logical_not, 1) X(isnan, 1) X(add, 2) X(sub, 2) X(mul, 2) X(div, 2) X(pow, 2) X(maximum, 2) X(minimum, 2)    \
  X(remainder, 2) X(eq, 2) X(ne, 2) X(lt, 2) X(le, 2) X(gt, 2) X(ge, 2) X(where, 3)

#define GENFAST_NAME_OF_OP(NAME, ARGS) NAME,
enum class PointwiseOp : int { GENFAST_POINTWISE_OPS(GENFAST_NAME_OF_OP) };
#undef GENFAST_NAME_OF_OP

struct PointwiseArg {
  const float* data;  // row m starts at data + m * row ...
  int64_t row;
  int64_t lane;
  const float* const* at = nullptr;  // ... or, where this is not null, at at[m] + start
  int64_t start = 0;
};

struct PointwiseOut {
  float* data;
  int64_t row;
  float* const* at = nullptr;  // null, or where each row starts
};

#define GENFAST_DECLARE_POINTWISE(ISA)                                                                                       \
  namespace ISA {                                                                                                            \
  void pointwise(PointwiseOp op, const PointwiseArg* args, const PointwiseOut& out, int64_t rows, int64_t first,             \
                 int64_t last);                                                                                              \
  }
GENFAST_DECLARE_POINTWISE(generic)
GENFAST_DECLARE_POINTWISE(avx2)
GENFAST_DECLARE_POINTWISE(avx512)
#undef GENFAST_DECLARE_POINTWISE

}  // namespace genfast
