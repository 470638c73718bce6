#include "reduce/cpu.h"

#include "common/math.h"

namespace genfast::GENFAST_ISA {
namespace {

constexpr int kL = kLanes<float>;

// The numbers n .. n + kL - 1 of a row, with `rest` in place of what lies past its end.
GENFAST_INLINE Floats part(const float* x, int64_t n, int64_t width, float rest) {
  Floats v = load(x + n);
  if (n + kL > width)
    for (int i = 0; i < kL; i++) v[i] = n + i < width ? v[i] : rest;
  return v;
}

GENFAST_INLINE float add_lanes(Floats v) {
  float total = v[0];
  for (int i = 1; i < kL; i++) total += v[i];
  return total;
}

template <class F>
GENFAST_INLINE float sum(const float* x, int64_t width, F f) {
  Floats total = {};
  for (int64_t n = 0; n + kL <= width; n += kL) total += f(load(x + n));
  const int64_t n = width / kL * kL;
  if (n < width) {
    Floats v = f(load(x + n));
    for (int i = 0; i < kL; i++) v[i] = n + i < width ? v[i] : 0.0f;
    total += v;
  }
  return add_lanes(total);
}

GENFAST_INLINE float largest(const float* x, int64_t width, float sign) {
  const float infinity = __builtin_inff();
  Floats top = splat(-infinity), nan = {};
  for (int64_t n = 0; n < width; n += kL) {
    const Floats v = part(x, n, width, -sign * infinity) * sign;
    top = v > top ? v : top;
    nan = v != v ? v : nan;
  }
  float best = top[0];
  for (int i = 0; i < kL; i++) best = top[i] > best ? top[i] : best;
  for (int i = 0; i < kL; i++) best = nan[i] != nan[i] ? nan[i] : best;
  return sign * best;
}

template <class F>
GENFAST_INLINE void map(const float* x, float* out, int64_t width, F f) {
  for (int64_t n = 0; n < width; n += kL) store(out + n, f(load(x + n)));
}

void standardize(const float* x, float* out, int64_t width, float eps) {
  const float mean = sum(x, width, [](Floats v) { return v; }) / float(width);
  const float variance = sum(x, width, [=](Floats v) { return (v - mean) * (v - mean); }) / float(width);
  const float scale = __builtin_sqrtf(variance + eps);
  map(x, out, width, [=](Floats v) { return (v - mean) / scale; });
}

void softmax(const float* x, float* out, int64_t width) {
  const float top = largest(x, width, 1.0f);
  const float total = sum(x, width, [=](Floats v) { return exp(v - top); });
  map(x, out, width, [=](Floats v) { return exp(v - top) / total; });
}

void log_softmax(const float* x, float* out, int64_t width) {
  const float top = largest(x, width, 1.0f);
  const float total = __builtin_logf(sum(x, width, [=](Floats v) { return exp(v - top); }));
  map(x, out, width, [=](Floats v) { return (v - top) - total; });
}

}  // namespace

void reduce(ReduceKind kind, const float* x, int64_t x_row, float* out, int64_t out_row, int64_t rows, int64_t width, float eps) {
  for (int64_t m = 0; m < rows; m++, x += x_row, out += out_row) switch (kind) {
      case ReduceKind::sum: *out = sum(x, width, [](Floats v) { return v; }); break;
      case ReduceKind::max: *out = largest(x, width, 1.0f); break;
      case ReduceKind::min: *out = largest(x, width, -1.0f); break;
      case ReduceKind::standardize: standardize(x, out, width, eps); break;
      case ReduceKind::softmax: softmax(x, out, width); break;
      case ReduceKind::log_softmax: log_softmax(x, out, width); break;
    }
}

}  // namespace genfast::GENFAST_ISA
