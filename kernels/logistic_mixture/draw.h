// Drawing sub-pixels from mixtures of logistics, on a CPU.
//
// Of a sub-pixel there are the parameters of LogisticMixture (genfast/likelihoods): float [3 colours, K], the rows logit, mean,
// log-scale, and then of each earlier colour its level, mean and log-scale; a level of -1 says that this colour is not earlier.
// What is drawn is the smallest level at which the mixture's distribution function passes the uniform, found by halving, with 8
// looks at K logistics where all the levels of a pixel would take 256. With top_k, top_p or temperature 0 there is no way around
// these. In double; a level drawn or known has the same log-probability to the bit.
#pragma once

#include "categorical/cpu.h"

namespace genfast {

constexpr int64_t kMaxComponents = 256;

struct LogisticMixtureDraw {
  Categorical draw;  // its logits are the parameters
  int64_t components, colours;
  double min_log_scale;
};

// False if some row holds NaN or infinity: it and what follows are not drawn. Rows of which nothing is asked are not looked at.
#define GENFAST_DECLARE_DRAW_MIXTURE(ISA)               \
  namespace ISA {                                       \
  bool draw_logistic_mixture(const LogisticMixtureDraw&); \
  }
GENFAST_DECLARE_DRAW_MIXTURE(generic)
GENFAST_DECLARE_DRAW_MIXTURE(avx2)
GENFAST_DECLARE_DRAW_MIXTURE(avx512)
#undef GENFAST_DECLARE_DRAW_MIXTURE

}  // namespace genfast
