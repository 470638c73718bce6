#include "categorical/cpu.h"

#include "common/math.h"

namespace genfast::GENFAST_ISA {
namespace {

constexpr int kL = kLanes<double>;

// A row of numbers for each level, with room to the end of the last vector. On the stack: only what is used of it costs anything.
struct Row {
  alignas(64) double at[kMaxLevels + 8];
};

GENFAST_INLINE int64_t whole_vectors(int64_t levels) { return (levels + kL - 1) / kL * kL; }

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

int64_t first_largest(const Row& logits, double top, int64_t levels) {
  for (int64_t l = 0; l < levels; l++)
    if (logits.at[l] == top) return l;
  return 0;
}

// rank[i]: the i-th most probable level, the lower of equals first. Merge sort, whose halves stay in order.
void rank_levels(const Row& logits, int64_t levels, int16_t* rank) {
  int16_t other[kMaxLevels];
  int16_t *from = rank, *to = other;
  for (int64_t l = 0; l < levels; l++) from[l] = int16_t(l);
  for (int64_t run = 1; run < levels; run *= 2) {
    for (int64_t begin = 0; begin < levels; begin += 2 * run) {
      const int64_t middle = begin + run < levels ? begin + run : levels;
      const int64_t end = begin + 2 * run < levels ? begin + 2 * run : levels;
      int64_t a = begin, b = middle;
      for (int64_t i = begin; i < end; i++)
        to[i] = b == end || (a < middle && logits.at[from[a]] >= logits.at[from[b]]) ? from[a++] : from[b++];
    }
    int16_t* swap = from;
    from = to;
    to = swap;
  }
  if (from != rank)
    for (int64_t l = 0; l < levels; l++) rank[l] = from[l];
}

// Sets to zero the weights that top_k and top_p leave out: both keep a first part of the ranking.
void cut_tail(const Categorical& g, const Row& logits, Row& weights) {
  int16_t rank[kMaxLevels];
  rank_levels(logits, g.levels, rank);
  int64_t kept = g.top_k > 0 && g.top_k < g.levels ? g.top_k : g.levels;
  if (g.top_p < 1) {
    double total = 0, before = 0;
    for (int64_t i = 0; i < g.levels; i++) total += weights.at[rank[i]];
    int64_t reached = 0;
    for (; reached < g.levels && before < g.top_p * total; reached++) before += weights.at[rank[reached]];
    if (reached < kept) kept = reached;
  }
  for (int64_t i = kept; i < g.levels; i++) weights.at[rank[i]] = 0;
}

int64_t draw(const Categorical& g, const Row& logits, double top, double uniform) {
  if (g.temperature == 0) return first_largest(logits, top, g.levels);
  Row weights, cdf;
  const int64_t end = whole_vectors(g.levels);
  if (g.temperature == 1)
    for (int64_t l = 0; l < end; l += kL) store(weights.at + l, exp(load(logits.at + l) - top));
  else
    for (int64_t l = 0; l < end; l += kL) store(weights.at + l, exp((load(logits.at + l) - top) / g.temperature));
  if ((g.top_k > 0 && g.top_k < g.levels) || g.top_p < 1) cut_tail(g, logits, weights);
  double total = 0;
  for (int64_t l = 0; l < g.levels; l++) cdf.at[l] = total += weights.at[l];
  // The smallest level with uniform * total < cdf: as many as there are before it. uniform < 1, so one is left.
  const double target = uniform * total;
  int64_t level = 0;
  for (int64_t l = 0; l < g.levels - 1; l++) level += cdf.at[l] <= target;
  return level;
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
    if (!known) *level = int32_t(draw(g, logits, top, g.uniform[m * g.uniform_row]));
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
