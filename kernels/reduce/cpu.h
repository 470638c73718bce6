// reduce on a CPU: something over each row of floats.
//
//   x     rows x_row apart, `width` >= 1 numbers each, readable to the next multiple of 16 floats
//   out   rows out_row apart: 1 number for sum, max and min, else `width` numbers, written to the next multiple of 16; not x
// Sums run in one order for a given width: number n into lane n % lanes, then the lanes from 0. NaN anywhere gives NaN.
#pragma once

#include <stdint.h>

namespace genfast {

#define GENFAST_REDUCE_KINDS(X) X(sum) X(max) X(min) X(standardize) X(softmax) X(log_softmax)
#define GENFAST_NAME_OF_KIND(NAME) NAME,
enum class ReduceKind : int { GENFAST_REDUCE_KINDS(GENFAST_NAME_OF_KIND) };
#undef GENFAST_NAME_OF_KIND

#define GENFAST_DECLARE_REDUCE(ISA)                                                                                          \
  namespace ISA {                                                                                                            \
  void reduce(ReduceKind kind, const float* x, int64_t x_row, float* out, int64_t out_row, int64_t rows, int64_t width,      \
              float eps);                                                                                                    \
  }
GENFAST_DECLARE_REDUCE(generic)
GENFAST_DECLARE_REDUCE(avx2)
GENFAST_DECLARE_REDUCE(avx512)
#undef GENFAST_DECLARE_REDUCE

}  // namespace genfast
