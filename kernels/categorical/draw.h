// Drawing a level from the log-probabilities of all, in double: what categorical/cpu.cpp and logistic_mixture/draw.cpp share.
#pragma once

#include "categorical/cpu.h"
#include "common/math.h"

namespace genfast::GENFAST_ISA {

// A row of numbers for each level, with room to the end of the last vector. On the stack: only what is used of it costs anything.
struct Row {
  alignas(64) double at[kMaxLevels + 8];
};

GENFAST_INLINE int64_t whole_vectors(int64_t numbers) { return (numbers + kLanes<double> - 1) / kLanes<double> * kLanes<double>; }

GENFAST_INLINE int64_t first_largest(const Row& logits, double top, int64_t levels) {
  for (int64_t l = 0; l < levels; l++)
    if (logits.at[l] == top) return l;
  return 0;
}

// rank[i]: the i-th most probable level, the lower of equals first. Merge sort, whose halves stay in order.
static void rank_levels(const Row& logits, int64_t levels, int16_t* rank) {
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

GENFAST_INLINE bool cuts_tail(const Categorical& g) { return (g.top_k > 0 && g.top_k < g.levels) || g.top_p < 1; }

// Sets to zero the weights that top_k and top_p leave out: both keep a first part of the ranking.
static void cut_tail(const Categorical& g, const Row& logits, Row& weights) {
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

// top: the largest of the logits, which are minus infinity from g.levels to the end of the last vector.
static int64_t draw_level(const Categorical& g, const Row& logits, double top, double temperature, double uniform) {
  constexpr int kL = kLanes<double>;
  if (temperature == 0) return first_largest(logits, top, g.levels);
  Row weights, cdf;
  const int64_t end = whole_vectors(g.levels);
  if (temperature == 1)
    for (int64_t l = 0; l < end; l += kL) store(weights.at + l, exp(load(logits.at + l) - top));
  else
    for (int64_t l = 0; l < end; l += kL) store(weights.at + l, exp((load(logits.at + l) - top) / temperature));
  if (cuts_tail(g)) cut_tail(g, logits, weights);
  double total = 0;
  for (int64_t l = 0; l < g.levels; l++) cdf.at[l] = total += weights.at[l];
  // The smallest level with uniform * total < cdf: as many as there are before it. uniform < 1, so one is left.
  const double target = uniform * total;
  int64_t level = 0;
  for (int64_t l = 0; l < g.levels - 1; l++) level += cdf.at[l] <= target;
  return level;
}

}  // namespace genfast::GENFAST_ISA
