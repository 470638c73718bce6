#include "categorical/draw.h"

namespace genfast::GENFAST_ISA {
namespace {

constexpr int kL = kLanes<double>;

// The logits of row m as doubles, minus infinity past the last level. False: they are no distribution.
bool read_logits(const Categorical& g, int64_t m, Row& logits, double* top) {
  const float* from = g.logits + m * g.logits_row;
  const double infinity = __builtin_inf();
  if (g.bernoulli) {
    logits.at[0] = 0;
    logits.at[1] = from[0];
  } else {
    for (int64_t l = 0; l < g.levels; l++) logits.at[l] = from[l];
  }
  const int64_t end = whole_vectors(g.levels);
  for (int64_t l = g.levels; l < end; l++) logits.at[l] = -infinity;
  Doubles most = splat(-infinity);
  Int64s is_nan = {};
  for (int64_t l = 0; l < end; l += kL) {
    const Doubles x = load(logits.at + l);
    most = x > most ? x : most;
    is_nan |= x != x;
  }
  *top = most[0];
  for (int i = 1; i < kL; i++) *top = most[i] > *top ? most[i] : *top;
  for (int i = 0; i < kL; i++)
    if (is_nan[i]) return false;
  return *top - *top == 0;  // false for both infinities
}

double log_prob(const Row& logits, double top, int64_t levels, int64_t level) {
  Doubles total = {};
  for (int64_t l = 0; l < levels; l += kL) total += exp(load(logits.at + l) - top);
  double sum = total[0];
  for (int i = 1; i < kL; i++) sum += total[i];
  return logits.at[level] - top - __builtin_log(sum);
}

}  // namespace

bool categorical(const Categorical& g) {
  for (int64_t m = 0; m < g.rows; m++) {
    const bool known = g.known && g.known[m * g.known_row];
    if (known && !g.log_prob) continue;
    Row logits;
    double top;
    if (!read_logits(g, m, logits, &top)) return false;
    int32_t* level = g.level + m * g.level_row;
    if (!known) *level = int32_t(draw_level(g, logits, top, g.temperature, g.uniform[m * g.uniform_row]));
    if (g.log_prob) g.log_prob[m * g.log_prob_row] = log_prob(logits, top, g.levels, *level);
  }
  return true;
}

void exp_doubles(const double* x, double* out, int64_t n) {
  for (int64_t i = 0; i < n; i += kL) {
    Row row;
    for (int j = 0; j < kL; j++) row.at[j] = i + j < n ? x[i + j] : 0;
    const Doubles y = exp(load(row.at));
    for (int j = 0; j < kL && i + j < n; j++) out[i + j] = y[j];
  }
}

}  // namespace genfast::GENFAST_ISA
