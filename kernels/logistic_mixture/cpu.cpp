// A tile of pixels is copied, widened, into rows of scratch (one row a parameter), where vectors run along the pixels; so every
// storage format and memory layout has one body. Backward overwrites the rows by the gradients and copies them back.
#include "logistic_mixture/cpu.h"

#include "common/transpose.h"
#include "logistic_mixture/bin.h"

namespace genfast::GENFAST_ISA {
namespace {

constexpr int64_t kTile = 32;  // pixels: 120 rows of floats are then 15 KB, half of a typical L1

template <class T>
using Of = typename Vector<T>::type;

// The rows of the scratch.
template <class T>
struct Tile {
  T* params;   // [P]
  T* middles;  // [C]: half bins of the levels
  T* results;  // [results]: ln P, or its gradient
  T* shares;   // [2 K]: of each component its product of ratios, and e^(logit - greatest)
  Tile(const LogisticMixture& g, T* scratch)
      : params(scratch), middles(params + g.params() * kTile), results(middles + g.channels * kTile),
        shares(results + g.results() * kTile) {}
};

template <class T>
int64_t scratch_size(const LogisticMixture& g) {
  return (g.params() + g.channels + g.results() + 2 * g.components) * kTile;
}

template <class T>
Scale<T> scale_of(const LogisticMixture& g) {
  const double lowest = -60;  // LOWEST_LOG_SCALE of reference.py
  return {.levels_minus_1 = T(g.levels - 1), .inverse = T(1.0 / double(g.levels - 1)),
          .log_width = T(__builtin_log(2.0 / double(g.levels - 1))), .least = T(g.min_log_scale > lowest ? g.min_log_scale : lowest)};
}

// What lies beyond the n pixels of a last tile is zero: computed with, and never stored.
template <class E, class T>
void read_params(const LogisticMixture& g, const E* params, int64_t begin, int64_t n, T* rows) {
  const int64_t P = g.params();
  if (g.pixel_major)
    transpose<T>(params + begin * P, P, n, P, false, [=](int64_t p) { return rows + p * kTile; });
  else
    for (int64_t p = 0; p < P; p++) copy(params + p * g.pixels + begin, rows + p * kTile, n);
  if (n < kTile)
    for (int64_t p = 0; p < P; p++)
      for (int64_t i = n; i < kTile; i++) rows[p * kTile + i] = 0;
}

template <class E, class T>
void write_params(const LogisticMixture& g, const T* rows, int64_t begin, int64_t n, E* params) {
  const int64_t P = g.params();
  if (g.pixel_major)
    transpose<T>(rows, kTile, P, n, true, [=](int64_t i) { return params + (begin + i) * P; });
  else
    for (int64_t p = 0; p < P; p++) copy(rows + p * kTile, params + p * g.pixels + begin, n);
}

template <class T>
void read_levels(const LogisticMixture& g, const uint8_t* images, int64_t begin, int64_t n, T* rows) {
  for (int64_t c = 0; c < g.channels; c++)
    for (int64_t i = 0; i < kTile; i++)
      rows[c * kTile + i] = T(2 * (i < n ? images[c * g.pixels + begin + i] : 0) - (g.levels - 1));
}

template <class T>
void read_grad(const LogisticMixture& g, const T* grad, int64_t begin, int64_t n, T* rows) {
  for (int64_t c = 0; c < g.results(); c++)
    for (int64_t i = 0; i < kTile; i++) rows[c * kTile + i] = i < n ? grad[c * g.pixels + begin + i] : T(0);
}

// One logistic a channel: the results, or with kBackward the gradients in the place of the parameters.
template <bool kBackward, class T>
void independent(const LogisticMixture& g, const Scale<T>& scale, const Tile<T>& tile) {
  for (int64_t c = 0; c < g.channels; c++) {
    T *mean = tile.params + c * kTile, *log_scale = mean + g.channels * kTile, *result = tile.results + c * kTile;
    for (int64_t i = 0; i < kTile; i += kLanes<T>) {
      const auto one = bin<kBackward>(scale, load(tile.middles + c * kTile + i), load(mean + i) * scale.levels_minus_1, load(log_scale + i));
      if constexpr (kBackward) {
        const Of<T> grad = load(result + i);
        store(mean + i, grad * one.dmean * scale.levels_minus_1);
        store(log_scale + i, grad * one.dlog_scale);
      } else {
        store(result + i, one.exponent + log(one.ratio));
      }
    }
  }
}

// Where component k's numbers are, for the vector of pixels at the tile's place i.
template <class T>
struct Component {
  T* logit;
  T* colours;         // of colour c: mean, log-scale and coefficient, K rows apart
  int64_t row, colour;  // elements from one of these to the next, and from colour to colour
  T* ratio;           // its product of ratios
  T* weight;          // e^(logit - greatest)
  Component(const LogisticMixture& g, const Tile<T>& tile, int64_t k, int64_t i)
      : logit(tile.params + k * kTile + i), colours(logit + g.components * kTile), row(g.components * kTile),
        colour(row * (g.channels == 3 ? 3 : 2)), ratio(tile.shares + k * kTile + i), weight(ratio + g.components * kTile) {}
  T* mean(int64_t c) const { return colours + c * colour; }
  T* log_scale(int64_t c) const { return mean(c) + row; }
  T* coefficient(int64_t c) const { return mean(c) + 2 * row; }
};

// All logistics of one component: writes its product of ratios, and returns the sum of exponents. With kBackward the derivatives of
// ln P take the places of mean and log-scale, and tanh that of the coefficient.
template <bool kBackward, int C, class T>
GENFAST_INLINE Of<T> all_colours(const Scale<T>& scale, const Component<T>& one, const Of<T>* middle) {
  Of<T> coefficient[3] = {}, exponent = {}, ratio = splat(T(1));
  for (int c = 0; c < (C == 3 ? 3 : 0); c++) {
    coefficient[c] = tanh(load(one.coefficient(c)));
    if constexpr (kBackward) store(one.coefficient(c), coefficient[c]);
  }
  for (int c = 0; c < C; c++) {
    Of<T> mean = load(one.mean(c)) * scale.levels_minus_1;
    if (c == 1) mean += coefficient[0] * middle[0];
    if (c == 2) mean += coefficient[1] * middle[0] + coefficient[2] * middle[1];
    const auto of_c = bin<kBackward>(scale, middle[c], mean, load(one.log_scale(c)));
    exponent += of_c.exponent;
    ratio *= of_c.ratio;
    if constexpr (kBackward) {
      store(one.mean(c), of_c.dmean);
      store(one.log_scale(c), of_c.dlog_scale);
    }
  }
  store(one.ratio, ratio);
  return exponent;
}

// The gradients of one component, given how much ln P(component, pixel) counts (share) and the softmax of its logit.
template <int C, class T>
GENFAST_INLINE void finish_gradients(const Scale<T>& scale, const Component<T>& one, const Of<T>* middle, Of<T> grad, Of<T> share,
                                     Of<T> softmax) {
  store(one.logit, grad * (share - softmax));
  const Of<T> count = grad * share;
  Of<T> dmean[3] = {};
  for (int c = 0; c < C; c++) {
    dmean[c] = count * load(one.mean(c));
    store(one.mean(c), dmean[c] * scale.levels_minus_1);
    store(one.log_scale(c), count * load(one.log_scale(c)));
  }
  if constexpr (C == 3) {
    const Of<T> inner[3] = {dmean[1] * middle[0], dmean[2] * middle[0], dmean[2] * middle[1]};
    for (int c = 0; c < 3; c++) {
      const Of<T> coefficient = load(one.coefficient(c));
      store(one.coefficient(c), inner[c] * (T(1) - coefficient * coefficient));
    }
  }
}

template <bool kBackward, int C, class T>
void mixture(const LogisticMixture& g, const Scale<T>& scale, const Tile<T>& tile) {
  for (int64_t i = 0; i < kTile; i += kLanes<T>) {
    Of<T> middle[C];
    for (int c = 0; c < C; c++) middle[c] = load(tile.middles + c * kTile + i);
    Of<T> greatest = load(tile.params + i), top = splat(T(-__builtin_inf())), weights = {}, total = {};
    for (int64_t k = 1; k < g.components; k++) greatest = most_of(greatest, load(tile.params + k * kTile + i));
    for (int64_t k = 0; k < g.components; k++) {
      const Component<T> one(g, tile, k, i);
      const Of<T> exponent = all_colours<kBackward, C>(scale, one, middle), logit = load(one.logit) - greatest;
      const Of<T> weight = exp(logit), z = logit + exponent;
      weights += weight;
      top = most_of(top, z);
      store(one.weight, weight);
      store(one.logit, z);
    }
    for (int64_t k = 0; k < g.components; k++) {
      const Component<T> one(g, tile, k, i);
      const Of<T> joint = exp(load(one.logit) - top) * load(one.ratio);
      total += joint;
      store(one.ratio, joint);
    }
    if constexpr (kBackward) {
      const Of<T> grad = load(tile.results + i), per_total = T(1) / total, per_weights = T(1) / weights;
      for (int64_t k = 0; k < g.components; k++) {
        const Component<T> one(g, tile, k, i);
        finish_gradients<C>(scale, one, middle, grad, load(one.ratio) * per_total, load(one.weight) * per_weights);
      }
    } else {
      store(tile.results + i, top + log(total / weights));
    }
  }
}

template <bool kBackward, class T>
void compute(const LogisticMixture& g, const Scale<T>& scale, const Tile<T>& tile) {
  if (g.components == 0)
    independent<kBackward>(g, scale, tile);
  else if (g.channels == 1)
    mixture<kBackward, 1>(g, scale, tile);
  else
    mixture<kBackward, 3>(g, scale, tile);
}

template <class E, class T>
void forward(const LogisticMixture& g, const E* params, const uint8_t* images, int64_t begin, int64_t end, T* out, T* scratch) {
  const Scale<T> scale = scale_of<T>(g);
  const Tile<T> tile(g, scratch);
  for (; begin < end; begin += kTile) {
    const int64_t n = end - begin < kTile ? end - begin : kTile;
    read_params(g, params, begin, n, tile.params);
    read_levels(g, images, begin, n, tile.middles);
    compute<false>(g, scale, tile);
    for (int64_t c = 0; c < g.results(); c++) copy(tile.results + c * kTile, out + c * g.pixels + begin, n);
  }
}

template <class E, class T>
void backward(const LogisticMixture& g, const T* grad, const E* params, const uint8_t* images, int64_t begin, int64_t end, E* dparams,
              T* scratch) {
  const Scale<T> scale = scale_of<T>(g);
  const Tile<T> tile(g, scratch);
  for (; begin < end; begin += kTile) {
    const int64_t n = end - begin < kTile ? end - begin : kTile;
    read_params(g, params, begin, n, tile.params);
    read_levels(g, images, begin, n, tile.middles);
    read_grad(g, grad, begin, n, tile.results);
    compute<true>(g, scale, tile);
    write_params(g, tile.params, begin, n, dparams);
  }
}

template <class E, class T>
constexpr LogisticMixtureKernels<E, T> kKernels = {scratch_size<T>, forward<E, T>, backward<E, T>};

}  // namespace

extern const LogisticMixtureKernels<float, float> logistic_mixture_float32 = kKernels<float, float>;
extern const LogisticMixtureKernels<double, double> logistic_mixture_float64 = kKernels<double, double>;
extern const LogisticMixtureKernels<BFloat16, float> logistic_mixture_bfloat16 = kKernels<BFloat16, float>;

}  // namespace genfast::GENFAST_ISA
