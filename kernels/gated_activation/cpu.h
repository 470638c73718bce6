// gated_activation on a CPU: a range of the results. The formula is in __init__.py; reference.py defines the result.
//
//   x    E [runs, 2, length]: runs of f, each followed by as many of g, stored in any format, computed in T
//   out, grad   E [runs, length];  dx   E, laid out as x
// A number depends on its own f and g alone, to the bit.
#pragma once

#include <stdint.h>

#include "common/storage.h"

namespace genfast {

template <class E>
struct GatedActivationKernels {
  // The results begin .. end - 1, counted over all runs; the pointers show the first of all.
  void (*forward)(const E* x, E* out, int64_t length, int64_t begin, int64_t end);
  void (*backward)(const E* grad, const E* x, E* dx, int64_t length, int64_t begin, int64_t end);
};

#define GENFAST_DECLARE_GATED_ACTIVATION(ISA)                                 \
  namespace ISA {                                                             \
  extern const GatedActivationKernels<float> gated_activation_float32;        \
  extern const GatedActivationKernels<double> gated_activation_float64;       \
  extern const GatedActivationKernels<BFloat16> gated_activation_bfloat16;    \
  }
GENFAST_DECLARE_GATED_ACTIVATION(generic)
GENFAST_DECLARE_GATED_ACTIVATION(avx2)
GENFAST_DECLARE_GATED_ACTIVATION(avx512)
#undef GENFAST_DECLARE_GATED_ACTIVATION

}  // namespace genfast
