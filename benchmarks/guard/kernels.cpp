// The hot CPU kernels, each once at a fixed size, for callgrind to count their instructions (guard.py). The names that it
// prints are in the order of callgrind's dumps, one each time `measured` returns. Inputs are prepared outside of it.
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "categorical/cpu.h"
#include "diagonal_lstm/scan.h"
#include "gated_activation/cpu.h"
#include "logistic_mixture/cpu.h"
#include "logistic_mixture/draw.h"
#include "lstm/cpu.h"
#include "masked_conv2d/cpu.h"
#include "pointwise/cpu.h"
#include "reduce/cpu.h"
#include "row_lstm/scan.h"
#include "tap_gemm/cpu.h"

using namespace genfast;

extern "C" __attribute__((noinline)) void measured(void (*run)(void*), void* data) {
  run(data);
  asm volatile("" ::: "memory");
}

namespace {

// Zeroed memory on a cache line, never freed: the same addresses modulo a line every time.
template <class T>
T* memory(int64_t n) {
  const size_t bytes = (size_t(n) * sizeof(T) + 4096) / 64 * 64;
  void* p = aligned_alloc(64, bytes);
  memset(p, 0, bytes);
  return static_cast<T*>(p);
}

// Numbers in [-scale / 2, scale / 2), the same on every machine.
double next_number() {
  static uint64_t state = 1;
  state = state * 6364136223846793005u + 1442695040888963407u;
  return double(state >> 40) / double(1 << 24) - 0.5;
}

template <class T>
T* numbers(int64_t n, double scale = 1) {
  T* p = memory<T>(n);
  for (int64_t i = 0; i < n; i++) p[i] = T(scale * next_number());
  return p;
}

template <class F>
void run(const char* name, F f) {
  measured([](void* data) { (*static_cast<F*>(data))(); }, &f);
  puts(name);
}

// A wrong call often leaves zeros or NaN behind.
template <class T>
void check(const T* x, int64_t n) {
  double sum = 0;
  for (int64_t i = 0; i < n; i++) sum += std::fabs(double(x[i]));
  if (std::isfinite(sum) && sum > 0) return;
  fprintf(stderr, "the result is empty or not finite\n");
  exit(1);
}

void product(const char* name, int64_t rows, int64_t columns, bool wide = false) {
  constexpr int64_t kTaps = 5, kDepth = 64, kRows = kTaps * kDepth;
  const int64_t panel = avx2::panel_bytes / int64_t(sizeof(float)), width = wide ? panel * 3 / 2 : panel;
  const int64_t panels = (columns + width - 1) / width;
  Tap taps[kTaps];
  for (int64_t t = 0; t < kTaps; t++) taps[t] = {t * kDepth, t * kDepth, kDepth, kDepth};
  const float *a = numbers<float>((rows + kTaps) * kDepth), *w = numbers<float>(panels * kRows * width);
  float* out = memory<float>(rows * columns);
  const TapGemm<float> g = {.a = a, .w = w, .taps = taps, .num_taps = kTaps, .a_k = 1, .w_k = width, .w_panel = kRows * width,
                            .out = out, .out_row = columns, .rows = rows, .columns = columns, .add = Add::kNothing,
                            .bias = nullptr, .next = nullptr, .wide = wide};
  run(name, [&] { avx2::tap_gemm(g); });
  check(out, rows * columns);
}

void convolution() {
  constexpr int64_t kSide = 16, kChannels = 32, kTaps = 5, kPixels = kSide * kSide;
  const auto& kernels = avx2::masked_conv2d_float32;
  const Conv conv = {.H = kSide, .W = kSide, .K = kChannels, .N = kChannels, .kh = 3, .kw = 3, .num_taps = kTaps, .pad_x = 1,
                     .color_groups = 1, .reads_own_group = true, .transposed = false};
  const int64_t panel = avx2::panel_bytes / int64_t(sizeof(float)), panels = kChannels / panel;
  const ImageStrides planes = {.c = kPixels, .y = kSide, .x = 1};
  const float *x = numbers<float>(kPixels * kChannels), *weight = numbers<float>(kChannels * kChannels * 9);
  const float* bias = numbers<float>(kChannels);
  float *packed = memory<float>(kChannels * kChannels * kTaps), *padded = memory<float>(kSide * conv.padded_row());
  float *out = memory<float>(kPixels * kChannels), *y = memory<float>(kPixels * kChannels);
  Tap taps[kSide + kTaps];
  run("masked_conv2d, forward", [&] {
    kernels.pack_weight(conv, weight, packed, 0, panels);
    kernels.pad_rows(conv, x, planes, 0, kSide, padded);
    kernels.convolve(conv, padded, 0, packed, bias, 0, kSide, out, taps);
    kernels.store_rows(conv, out, 0, kSide, y, planes);
  });
  check(y, kPixels * kChannels);

  Conv back = conv;
  back.pad_x = 0;
  const float* grad = numbers<float>(kPixels * kChannels);
  float *image = memory<float>(kPixels * kChannels), *grads = memory<float>(kPixels * kChannels);
  float *sums = memory<float>(panels * kTaps * kChannels * panel), *dweight = memory<float>(kChannels * kChannels * 9);
  run("masked_conv2d, weight gradient", [&] {
    kernels.pad_rows(back, x, planes, 0, kSide, image);
    kernels.pack_grad(back, grad, planes, grads);
    for (int64_t p = 0; p < panels; p++)
      for (int64_t tap = 0; tap < kTaps; tap++)
        kernels.accumulate_weight_grad(back, image, grads + p * panel * kPixels, panel, p, tap, 0, kChannels,
                                       sums + (p * kTaps + tap) * kChannels * panel, taps);
    kernels.unpack_weight_grad(back, sums, 0, kChannels, dweight);
  });
  check(dweight, kChannels * kChannels * 9);
}

void recurrence(const char* forward, const char* backward, const Scan& scan, int64_t num_taps) {
  constexpr int64_t kImages = 2;
  const auto& kernels = avx2::lstm_float32;
  const int64_t h = scan.hidden, map = kImages * scan.H * scan.W;
  const LstmSizes sizes = kernels.sizes(scan);
  const float *x = numbers<float>(map * 4 * h), *weight = numbers<float>(4 * h * h * num_taps);
  const float *h0 = numbers<float>(h), *c0 = numbers<float>(h), *grad = numbers<float>(map * h);
  float *packed = memory<float>(sizes.packed), *transposed = memory<float>(sizes.packed_transposed);
  float *y = memory<float>(map * h), *gates = memory<float>(map * 4 * h), *c = memory<float>(map * h);
  float *dx = memory<float>(map * 4 * h), *sums = memory<float>(sizes.sums);
  float* scratch = memory<float>(kImages * (sizes.forward > sizes.backward ? sizes.forward : sizes.backward));
  kernels.pack(scan, weight, packed);
  kernels.pack_transposed(scan, weight, transposed);
  run(forward, [&] {
    kernels.forward(scan, {.x = x, .h = y, .gates = gates, .c = c, .packed = packed, .h0 = h0, .c0 = c0, .images = kImages,
                           .scratch = scratch});
  });
  check(y, map * h);
  run(backward, [&] {
    kernels.backward(scan, {.grad = grad, .h = y, .gates = gates, .c = c, .packed = transposed, .h0 = h0, .c0 = c0, .dx = dx,
                            .sums = sums, .images = kImages, .scratch = scratch});
  });
  check(dx, map * 4 * h);
}

uint8_t* levels(int64_t n) {
  uint8_t* images = memory<uint8_t>(n);
  for (int64_t i = 0; i < n; i++) images[i] = uint8_t((next_number() + 0.5) * 255);
  return images;
}

void mixture(const char* forward, const char* backward, int64_t channels, int64_t components, bool pixel_major) {
  constexpr int64_t kPixels = 256;
  const auto& kernels = avx2::logistic_mixture_float32;
  const LogisticMixture m = {.channels = channels, .components = components, .levels = 256, .min_log_scale = -7,
                             .pixels = kPixels, .pixel_major = pixel_major};
  const float *params = numbers<float>(m.params() * kPixels), *grad = numbers<float>(m.results() * kPixels);
  const uint8_t* images = levels(channels * kPixels);
  float *out = memory<float>(m.results() * kPixels), *dparams = memory<float>(m.params() * kPixels);
  float* scratch = memory<float>(kernels.scratch(m));
  run(forward, [&] { kernels.forward(m, params, images, 0, kPixels, out, scratch); });
  check(out, m.results() * kPixels);
  run(backward, [&] { kernels.backward(m, grad, params, images, 0, kPixels, dparams, scratch); });
  check(dparams, m.params() * kPixels);
}

void draws() {
  constexpr int64_t kRows = 32, kLevels = 256, kComponents = 10;
  const float* logits = numbers<float>(kRows * kLevels, 4);
  double *uniforms = memory<double>(kRows), *log_probs = memory<double>(kRows);
  for (int64_t i = 0; i < kRows; i++) uniforms[i] = next_number() + 0.5;
  int32_t* drawn = memory<int32_t>(kRows);
  Categorical draw = {.logits = logits, .logits_row = kLevels, .rows = kRows, .levels = kLevels, .bernoulli = false,
                      .level = drawn, .level_row = 1, .known = nullptr, .known_row = 0, .uniform = uniforms, .uniform_row = 1,
                      .log_prob = log_probs, .log_prob_row = 1, .temperature = 1, .top_k = 0, .top_p = 1};
  run("categorical, 256 levels", [&] { avx2::categorical(draw); });
  check(log_probs, kRows);

  draw.logits_row = 1, draw.levels = 2, draw.bernoulli = true;
  run("categorical, bernoulli", [&] { avx2::categorical(draw); });
  check(log_probs, kRows);

  draw.logits = numbers<float>(kRows * 3 * kComponents, 4);
  draw.logits_row = 3 * kComponents, draw.levels = kLevels, draw.bernoulli = false;
  const LogisticMixtureDraw mixture = {.draw = draw, .components = kComponents, .colours = 1, .min_log_scale = -7};
  run("logistic_mixture, draw", [&] { avx2::draw_logistic_mixture(mixture); });
  check(log_probs, kRows);
}

void gate() {
  constexpr int64_t kLength = 100, kResults = 40 * kLength;  // runs that end within a vector
  const auto& kernels = avx2::gated_activation_float32;
  const float *x = numbers<float>(2 * kResults, 4), *grad = numbers<float>(kResults);
  float *out = memory<float>(kResults), *dx = memory<float>(2 * kResults);
  run("gated_activation, forward", [&] { kernels.forward(x, out, kLength, 0, kResults); });
  check(out, kResults);
  run("gated_activation, backward", [&] { kernels.backward(grad, x, dx, kLength, 0, kResults); });
  check(dx, 2 * kResults);
}

void elementwise() {
  constexpr int64_t kRows = 16, kColumns = 256;
  const float* x = numbers<float>(kRows * kColumns, 4);
  const PointwiseArg args[] = {{.data = x, .row = kColumns, .lane = 1}, {.data = x, .row = kColumns, .lane = 1}};
  float* out = memory<float>(kRows * kColumns);
  const PointwiseOut to = {.data = out, .row = kColumns};
  run("pointwise, add", [&] { avx2::pointwise(PointwiseOp::add, args, to, kRows, 0, kColumns); });
  run("pointwise, tanh", [&] { avx2::pointwise(PointwiseOp::tanh, args, to, kRows, 0, kColumns); });
  run("pointwise, sigmoid", [&] { avx2::pointwise(PointwiseOp::sigmoid, args, to, kRows, 0, kColumns); });
  run("reduce, softmax", [&] { avx2::reduce(ReduceKind::softmax, x, kColumns, out, kColumns, kRows, kColumns, 0); });
  run("reduce, standardize",
      [&] { avx2::reduce(ReduceKind::standardize, x, kColumns, out, kColumns, kRows, kColumns, 1e-5f); });
  check(out, kRows * kColumns);
}

}  // namespace

int main() {
  product("tap_gemm, 64 rows, 64 columns", 64, 64);
  product("tap_gemm, 1 row, 64 columns", 1, 64);
  product("tap_gemm, 16 rows, 8 columns", 16, 8);
  product("tap_gemm, 16 rows, wide panel", 16, 24, true);
  convolution();
  recurrence("row_lstm, forward", "row_lstm, backward", row_scan(8, 8, 16, 3), 3);
  recurrence("diagonal_lstm, forward", "diagonal_lstm, backward", diagonal_scan(8, 8, 16, false), 2);
  mixture("logistic_mixture, forward", "logistic_mixture, backward", 3, 10, true);
  mixture("one logistic, forward", "one logistic, backward", 3, 0, false);
  gate();
  draws();
  elementwise();
  return 0;
}
