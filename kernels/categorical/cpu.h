// categorical on a CPU: draws a level from each row of logits, or takes the known one, and tells its log-probability.
//
//   logits     float [rows, levels] (bernoulli: [rows, 1], the logit of level 1), rows logits_row apart
//   level      written where `known` is 0, read elsewhere; rows level_row apart
//   known      null: none is
//   uniform    in [0, 1), read where `known` is 0
//   log_prob   null, or ln P(level) of the distribution without temperature, top_k and top_p
// In float64. Both sums run in one order whatever the options, so a level drawn or known has the same log-probability to the bit.
#pragma once

#include <stdint.h>

namespace genfast {

constexpr int64_t kMaxLevels = 1 << 14;  // code maps of a VQ-VAE are images too

struct Categorical {
  const float* logits;
  int64_t logits_row;
  int64_t rows, levels;
  bool bernoulli;
  int32_t* level;
  int64_t level_row;
  const uint8_t* known;
  int64_t known_row;
  const double* uniform;
  int64_t uniform_row;
  double* log_prob;
  int64_t log_prob_row;
  double temperature;  // 0: the most probable level, the lowest of equals
  int64_t top_k;       // 0: all
  double top_p;        // 1: all
};

// False if some row is no distribution (NaN, plus infinity, or minus infinity at every level): it and what follows are not drawn.
// Rows of which neither a level nor a log-probability is asked are not looked at.
#define GENFAST_DECLARE_CATEGORICAL(ISA)                              \
  namespace ISA {                                                     \
  bool categorical(const Categorical&);                               \
  void exp_doubles(const double* x, double* out, int64_t n);          \
  }
GENFAST_DECLARE_CATEGORICAL(generic)
GENFAST_DECLARE_CATEGORICAL(avx2)
GENFAST_DECLARE_CATEGORICAL(avx512)
#undef GENFAST_DECLARE_CATEGORICAL

}  // namespace genfast
