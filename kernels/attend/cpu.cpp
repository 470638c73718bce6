// Every query sees other keys, and each key is used once: there is nothing to keep in registers but sums, and reading the caches
// is what takes the time. So they are walked through slot by slot, all images of a slot lying side by side.
#include "attend/cpu.h"

#include "common/math.h"
#include "common/transpose.h"

namespace genfast::GENFAST_ISA {
namespace {

constexpr int kL = kLanes<float>;
constexpr int64_t kTerms = 32;  // values that are added while a sum stays in registers

// v[0] is made the vector whose lane i is the sum of the lanes of v[i]: half as many vectors at every step. Whichever vector a
// row is in, its lanes are added in the same order.
template <int S>
GENFAST_INLINE void add_lanes(Floats (&v)[kL]) {
  Indices<float>::type low = {}, high = {};
#pragma GCC unroll 16
  for (int j = 0; j < kL; j++) {
    low[j] = j & S ? kL + j - S : j;
    high[j] = j & S ? kL + j : j + S;
  }
#pragma GCC unroll 16
  for (int i = 0; i < kL; i += 2 * S) {
#if defined(__clang__)  // see common/transpose.h
    const Floats a = v[i], b = v[i + S];
    Floats x = a, y = b;
    for (int j = 0; j < kL; j++) {
      x[j] = j & S ? b[j - S] : a[j];
      y[j] = j & S ? b[j] : a[j + S];
    }
    v[i] = x + y;
#else
    v[i] = __builtin_shuffle(v[i], v[i + S], low) + __builtin_shuffle(v[i], v[i + S], high);
#endif
  }
  if constexpr (2 * S < kL) add_lanes<2 * S>(v);
}

// The first n lanes, zeros after them.
GENFAST_INLINE Floats first_lanes(Floats v, int64_t n) {
  for (int i = 0; i < kL; i++) v[i] = i < n ? v[i] : 0.0f;
  return v;
}

// query . key for kL keys.
GENFAST_INLINE Floats scores_of(const float* query, const float* const* keys, int64_t depth) {
  Floats sum[kL] = {};
  int64_t c = 0;
  for (; c + kL <= depth; c += kL) {
    const Floats q = load(query + c);
#pragma GCC unroll 16
    for (int i = 0; i < kL; i++) sum[i] += q * load(keys[i] + c);
  }
  if (c < depth) {
    const Floats q = load(query + c);
#pragma GCC unroll 16
    for (int i = 0; i < kL; i++) sum[i] += first_lanes(q * load(keys[i] + c), depth - c);
  }
  add_lanes<1>(sum);
  return sum[0];
}

// Scores of images [first, first + images): [images][heads][row], minus infinity past the last key.
void score(const Attend& a, int64_t first, int64_t images, int64_t row) {
  for (int64_t i = 0; i < a.count; i += kL) {
    const float* slots[kL];
    for (int j = 0; j < kL; j++) slots[j] = a.keys.data + a.keys.at[i + j < a.count ? i + j : a.count - 1] * a.keys.slot;
    for (int64_t m = 0; m < images; m++) {
      const float* query = a.query + (first + m) * a.query_row;
      for (int64_t h = 0; h < a.heads; h++) {
        const float* keys[kL];
        for (int j = 0; j < kL; j++) keys[j] = slots[j] + (first + m) * a.keys.row + h * a.depth;
        Floats s = scores_of(query + h * a.depth, keys, a.depth) * a.scale;
        for (int j = 0; j < kL; j++) s[j] = i + j < a.count ? s[j] : -__builtin_inff();
        store(a.scratch + (m * a.heads + h) * row + i, s);
      }
    }
  }
}

// exp(score + bias - the largest), in place, and their sum.
float exponentials(float* x, const float* bias, int64_t count) {
  Floats top = splat(-__builtin_inff()), total = {};
  for (int64_t i = 0; i < count; i += kL) {
    Floats s = load(x + i);
    if (bias) {
      for (int j = 0; j < kL && i + j < count; j++) s[j] += bias[i + j];
      store(x + i, s);
    }
    top = s > top ? s : top;
  }
  float most = top[0];
  for (int j = 1; j < kL; j++) most = top[j] > most ? top[j] : most;
  for (int64_t i = 0; i < count; i += kL) {
    const Floats e = exp(load(x + i) - most);
    store(x + i, e);
    total += e;
  }
  float sum = 0;
  for (int j = 0; j < kL; j++) sum += total[j];
  return sum;
}

// out[0 .. N vectors) += weight[i] * values[i], for n of them; of the last vector out has only `last` lanes.
template <int N>
GENFAST_INLINE void add_terms(const float* weight, const float* const* values, int64_t n, float* out, int64_t last) {
  Floats sum[N];
#pragma GCC unroll 8
  for (int v = 0; v < N - 1; v++) sum[v] = load(out + v * kL);
  Floats end = {};
  if (last == kL)
    end = load(out + (N - 1) * kL);
  else
    for (int64_t j = 0; j < last; j++) end[j] = out[(N - 1) * kL + j];
  sum[N - 1] = end;
  for (int64_t i = 0; i < n; i++) {
    const Floats w = splat(weight[i]);
#pragma GCC unroll 8
    for (int v = 0; v < N; v++) sum[v] += w * load(values[i] + v * kL);
  }
#pragma GCC unroll 8
  for (int v = 0; v < N - 1; v++) store(out + v * kL, sum[v]);
  if (last == kL) return store(out + (N - 1) * kL, sum[N - 1]);
  for (int64_t j = 0; j < last; j++) out[(N - 1) * kL + j] = sum[N - 1][j];
}

void add_all(const float* weight, const float* const* values, int64_t n, float* out, int64_t width) {
  for (int64_t c = 0; c < width;) {
    const int64_t left = (width - c + kL - 1) / kL, take = left >= 8 ? 8 : left >= 4 ? 4 : left >= 2 ? 2 : 1;
    const int64_t last = width - c - (take - 1) * kL < kL ? width - c - (take - 1) * kL : kL;
    const float* at[kTerms];
    for (int64_t i = 0; i < n; i++) at[i] = values[i] + c;
    switch (take) {
      case 8: add_terms<8>(weight, at, n, out + c, last); break;
      case 4: add_terms<4>(weight, at, n, out + c, last); break;
      case 2: add_terms<2>(weight, at, n, out + c, last); break;
      default: add_terms<1>(weight, at, n, out + c, last);
    }
    c += take * kL;
  }
}

// Adds the values of images [first, first + images) up, by their weights.
void add_values(const Attend& a, int64_t first, int64_t images, int64_t row) {
  for (int64_t i = 0; i < a.count; i += kTerms) {
    int64_t n = 0, which[kTerms];
    for (int64_t j = i; j < i + kTerms && j < a.count; j++)
      if (a.values.at[j] >= 0) which[n++] = j;
    for (int64_t m = 0; m < images; m++)
      for (int64_t h = 0; h < a.heads; h++) {
        const float* weights = a.scratch + (m * a.heads + h) * row;
        float weight[kTerms];
        const float* values[kTerms];
        for (int64_t j = 0; j < n; j++) {
          weight[j] = weights[which[j]];
          values[j] = a.values.data + a.values.at[which[j]] * a.values.slot + (first + m) * a.values.row + h * a.width;
        }
        add_all(weight, values, n, a.out + (first + m) * a.out_row + h * a.width, a.width);
      }
  }
}

}  // namespace

void attend(const Attend& a) {
  for (int64_t m = 0; m < a.images; m++)
    for (int64_t c = 0; c < a.heads * a.width; c++) a.out[m * a.out_row + c] = 0;
  if (a.count == 0) return;
  const int64_t row = attend_row(a.count), fit = a.scratch_floats / (a.heads * row), most = fit > 1 ? fit : 1;
  for (int64_t first = 0; first < a.images; first += most) {
    const int64_t images = a.images - first < most ? a.images - first : most;
    score(a, first, images, row);
    float* x = a.scratch;
    for (int64_t m = 0; m < images; m++)
      for (int64_t h = 0; h < a.heads; h++, x += row) {
        const float total = exponentials(x, a.bias ? a.bias + h * a.count : nullptr, a.count);
        for (int64_t i = 0; i < a.count; i += kL) store(x + i, load(x + i) / total);
      }
    add_values(a, first, images, row);
  }
}

}  // namespace genfast::GENFAST_ISA
