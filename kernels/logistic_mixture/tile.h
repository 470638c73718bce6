// A tile of pixels, widened, in rows of scratch: one row a parameter, along which vectors run. So every storage format and memory
// layout has one body. Backward overwrites the rows by the gradients and copies them back.
#pragma once

#include "common/transpose.h"
#include "logistic_mixture/cpu.h"

namespace genfast::GENFAST_ISA {

template <class T, int kPixels>
struct Tile {
  static constexpr int64_t pixels = kPixels;  // elements from row to row, a multiple of every vector
  T* params;   // [P]
  T* middles;  // [C]: half bins of the levels
  T* results;  // [results]: ln P, or its gradient
  T* shares;   // [2 K]: of each component its product of ratios, and e^(logit - greatest)
  Tile(const LogisticMixture& g, T* scratch)
      : params(scratch), middles(params + g.params() * pixels), results(middles + g.channels * pixels),
        shares(results + g.results() * pixels) {}
  static int64_t scratch(const LogisticMixture& g) { return (g.params() + g.channels + g.results() + 2 * g.components) * pixels; }
};

// Rows of few parameters: P of them fill P vectors. What is left of n is for the general transpose.
template <int P, class E, class T>
GENFAST_INLINE int64_t read_few(const E* params, int64_t n, T* rows, int64_t row) {
  constexpr int L = kLanes<T>;
  int64_t i = 0;
  for (; i + L <= n; i += L) {
    typename Vector<T>::type v[P];
    for (int p = 0; p < P; p++) v[p] = load_wide(params + i * P + p * L);
    deinterleave<T, P>(v);
    for (int p = 0; p < P; p++) store(rows + p * row + i, v[p]);
  }
  return i;
}
template <int P, class E, class T>
GENFAST_INLINE int64_t write_few(const T* rows, int64_t row, int64_t n, E* params) {
  constexpr int L = kLanes<T>;
  int64_t i = 0;
  for (; i + L <= n; i += L) {
    typename Vector<T>::type v[P];
    for (int p = 0; p < P; p++) v[p] = load(rows + p * row + i);
    interleave<T, P>(v);
    for (int p = 0; p < P; p++) store_narrow(v[p], params + i * P + p * L);
  }
  return i;
}

// What lies beyond the n pixels of a last tile is zero: computed with, and never stored.
template <class E, class T, int kPixels>
GENFAST_INLINE void read_params(const LogisticMixture& g, const E* params, int64_t begin, int64_t n, const Tile<T, kPixels>& tile) {
  const int64_t P = g.params();
  T* const rows = tile.params;
  if (g.pixel_major) {
    params += begin * P;
    const int64_t done = P == 2 ? read_few<2>(params, n, rows, kPixels) : P == 6 ? read_few<6>(params, n, rows, kPixels) : 0;
    if (done < n) transpose<T>(params + done * P, P, n - done, P, false, [=](int64_t p) { return rows + p * kPixels + done; });
  } else {
    for (int64_t p = 0; p < P; p++) copy(params + p * g.pixels + begin, rows + p * kPixels, n);
  }
  if (n < kPixels)
    for (int64_t p = 0; p < P; p++)
      for (int64_t i = n; i < kPixels; i++) rows[p * kPixels + i] = 0;
}

template <class E, class T, int kPixels>
GENFAST_INLINE void write_params(const LogisticMixture& g, const Tile<T, kPixels>& tile, int64_t begin, int64_t n, E* params) {
  const int64_t P = g.params();
  const T* const rows = tile.params;
  if (g.pixel_major) {
    params += begin * P;
    const int64_t done = P == 2 ? write_few<2>(rows, kPixels, n, params) : P == 6 ? write_few<6>(rows, kPixels, n, params) : 0;
    if (done < n) transpose<T>(rows + done, kPixels, P, n - done, true, [=](int64_t i) { return params + (done + i) * P; });
  } else {
    for (int64_t p = 0; p < P; p++) copy(rows + p * kPixels, params + p * g.pixels + begin, n);
  }
}

template <class T, int kPixels>
GENFAST_INLINE void read_levels(const LogisticMixture& g, const uint8_t* images, int64_t begin, int64_t n,
                                const Tile<T, kPixels>& tile) {
  for (int64_t c = 0; c < g.channels; c++) {
    uint8_t levels[kPixels] = {};
    __builtin_memcpy(levels, images + c * g.pixels + begin, n);
    for (int64_t i = 0; i < kPixels; i++) tile.middles[c * kPixels + i] = T(2 * levels[i] - int(g.levels - 1));
  }
}

template <class T, int kPixels>
GENFAST_INLINE void read_grad(const LogisticMixture& g, const T* grad, int64_t begin, int64_t n, const Tile<T, kPixels>& tile) {
  for (int64_t c = 0; c < g.results(); c++) {
    copy(grad + c * g.pixels + begin, tile.results + c * kPixels, n);
    for (int64_t i = n; i < kPixels; i++) tile.results[c * kPixels + i] = 0;
  }
}

template <class T, int kPixels>
GENFAST_INLINE void write_results(const LogisticMixture& g, const Tile<T, kPixels>& tile, int64_t begin, int64_t n, T* out) {
  for (int64_t c = 0; c < g.results(); c++) copy(tile.results + c * kPixels, out + c * g.pixels + begin, n);
}

}  // namespace genfast::GENFAST_ISA
