// logistic_mixture on a CPU, a run of one image's pixels at a time. The formulas are in __init__.py; reference.py defines the result.
//
//   params    E [P, pixels] (pixel_major: [pixels, P]), stored in any format, computed in T
//   images    uint8 [C, pixels], every level below `levels`
//   out, grad T [C, pixels] for one logistic a channel, else [pixels]
//   dparams   E, laid out as params
// A pixel's numbers depend on that pixel alone, to the bit.
#pragma once

#include <stdint.h>

#include "common/storage.h"

namespace genfast {

struct LogisticMixture {
  int64_t channels, components, levels;  // components 0: one logistic a channel
  double min_log_scale;
  int64_t pixels;
  bool pixel_major;
  int64_t params() const {  // P
    return components == 0 ? 2 * channels : components * (channels == 3 ? 10 : 3);
  }
  int64_t results() const { return components == 0 ? channels : 1; }
};

template <class E, class T>
struct LogisticMixtureKernels {
  int64_t (*scratch)(const LogisticMixture&);  // elements of T that forward and backward need
  // The pixels begin .. end - 1 of one image, whose first pixel the pointers show.
  void (*forward)(const LogisticMixture&, const E* params, const uint8_t* images, int64_t begin, int64_t end, T* out, T* scratch);
  void (*backward)(const LogisticMixture&, const T* grad, const E* params, const uint8_t* images, int64_t begin, int64_t end,
                   E* dparams, T* scratch);
};

#define GENFAST_DECLARE_LOGISTIC_MIXTURE(ISA)                                           \
  namespace ISA {                                                                       \
  extern const LogisticMixtureKernels<float, float> logistic_mixture_float32;           \
  extern const LogisticMixtureKernels<double, double> logistic_mixture_float64;         \
  extern const LogisticMixtureKernels<BFloat16, float> logistic_mixture_bfloat16;       \
  }
GENFAST_DECLARE_LOGISTIC_MIXTURE(generic)
GENFAST_DECLARE_LOGISTIC_MIXTURE(avx2)
GENFAST_DECLARE_LOGISTIC_MIXTURE(avx512)
#undef GENFAST_DECLARE_LOGISTIC_MIXTURE

}  // namespace genfast
