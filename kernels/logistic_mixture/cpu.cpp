// Two bodies, each for tiles of its own size (tile.h): one logistic a channel, and mixtures.
#include "logistic_mixture/bin.h"
#include "logistic_mixture/tile.h"

namespace genfast::GENFAST_ISA {
namespace {

constexpr int kSinglePixels = 128, kMixturePixels = 32;  // 120 rows of floats, of a mixture, are then 15 KB: half of a typical L1

template <class T>
using SingleTile = Tile<T, kSinglePixels>;
template <class T>
using MixtureTile = Tile<T, kMixturePixels>;

template <class T>
using Of = typename Vector<T>::type;

// One logistic a channel, for n pixels: the results, or with kBackward the gradients in the place of the parameters. The logarithms
// come in a loop of their own: a loop's chain of dependent operations is then so short that a processor works at several vectors.
// The scale is a copy, as stores could change what a reference shows.
template <bool kBackward, class T>
void single(const LogisticMixture& g, const Scale<T> scale, const SingleTile<T>& tile, int64_t n) {
  for (int64_t c = 0; c < g.channels; c++) {
    const int64_t begin = c * kSinglePixels, end = begin + n;
    T *means = tile.params, *log_scales = means + g.channels * kSinglePixels;
    for (int64_t i = begin; i < end; i += kLanes<T>) {
      const auto one = bin<kBackward>(scale, load(tile.middles + i), load(means + i) * scale.levels_minus_1, load(log_scales + i));
      if constexpr (kBackward) {
        const Of<T> grad = load(tile.results + i);
        store(means + i, grad * one.dmean * scale.levels_minus_1);
        store(log_scales + i, grad * one.dlog_scale);
      } else {
        store(tile.results + i, one.exponent);
        store(means + i, one.above);
        store(log_scales + i, one.below);
      }
    }
    if constexpr (!kBackward)
      for (int64_t i = begin; i < end; i += kLanes<T>)
        store(tile.results + i, load(tile.results + i) + log_ratio(load(means + i), load(log_scales + i)));
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
  Component(const LogisticMixture& g, const MixtureTile<T>& tile, int64_t k, int64_t i)
      : logit(tile.params + k * kMixturePixels + i), colours(logit + g.components * kMixturePixels), row(g.components * kMixturePixels),
        colour(row * (g.channels == 3 ? 3 : 2)), ratio(tile.shares + k * kMixturePixels + i),
        weight(ratio + g.components * kMixturePixels) {}
  T* mean(int64_t c) const { return colours + c * colour; }
  T* log_scale(int64_t c) const { return mean(c) + row; }
  T* coefficient(int64_t c) const { return mean(c) + 2 * row; }
};

// All logistics of one component: writes its product of ratios, and returns the sum of exponents. With kBackward the derivatives of
// ln P take the places of mean and log-scale, and tanh that of the coefficient.
template <bool kBackward, int C, class T>
GENFAST_INLINE Of<T> all_colours(const Scale<T>& scale, const Component<T>& one, const Of<T>* middle) {
  Of<T> coefficient[3] = {}, exponent = {}, above = splat(T(1)), below = above;
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
    above *= of_c.above;
    below *= of_c.below;
    if constexpr (kBackward) {
      store(one.mean(c), of_c.dmean);
      store(one.log_scale(c), of_c.dlog_scale);
    }
  }
  store(one.ratio, above / below);
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
void mixture(const LogisticMixture& g, const Scale<T>& scale, const MixtureTile<T>& tile, int64_t n) {
  for (int64_t i = 0; i < n; i += kLanes<T>) {
    Of<T> middle[C];
    for (int c = 0; c < C; c++) middle[c] = load(tile.middles + c * kMixturePixels + i);
    Of<T> greatest = load(tile.params + i), top = splat(T(-__builtin_inf())), weights = {}, total = {};
    for (int64_t k = 1; k < g.components; k++) greatest = most_of(greatest, load(tile.params + k * kMixturePixels + i));
    for (int64_t k = 0; k < g.components; k++) {
      const Component<T> one(g, tile, k, i);
      const Of<T> exponent = all_colours<kBackward, C>(scale, one, middle), logit = load(one.logit) - greatest;
      const Of<T> weight = decay(logit).exp, z = logit + exponent;
      weights += weight;
      top = most_of(top, z);
      store(one.weight, weight);
      store(one.logit, z);
    }
    for (int64_t k = 0; k < g.components; k++) {
      const Component<T> one(g, tile, k, i);
      const Of<T> joint = decay(load(one.logit) - top).exp * load(one.ratio);
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
      store(tile.results + i, top + log_ratio(total, weights));
    }
  }
}

template <bool kBackward, class T>
void compute(const LogisticMixture& g, const Scale<T>& scale, const SingleTile<T>& tile, int64_t n) {
  single<kBackward>(g, scale, tile, n);
}
template <bool kBackward, class T>
void compute(const LogisticMixture& g, const Scale<T>& scale, const MixtureTile<T>& tile, int64_t n) {
  if (g.channels == 1)
    mixture<kBackward, 1>(g, scale, tile, n);
  else
    mixture<kBackward, 3>(g, scale, tile, n);
}

template <class Tile, class E, class T>
void forward_tiles(const LogisticMixture& g, const E* params, const uint8_t* images, int64_t begin, int64_t end, T* out, T* scratch) {
  const Scale<T> scale(g.levels, g.min_log_scale);
  const Tile tile(g, scratch);
  for (; begin < end; begin += tile.pixels) {
    const int64_t n = end - begin < tile.pixels ? end - begin : tile.pixels;
    read_params(g, params, begin, n, tile);
    read_levels(g, images, begin, n, tile);
    compute<false>(g, scale, tile, n);
    write_results(g, tile, begin, n, out);
  }
}

template <class Tile, class E, class T>
void backward_tiles(const LogisticMixture& g, const T* grad, const E* params, const uint8_t* images, int64_t begin, int64_t end,
                    E* dparams, T* scratch) {
  const Scale<T> scale(g.levels, g.min_log_scale);
  const Tile tile(g, scratch);
  for (; begin < end; begin += tile.pixels) {
    const int64_t n = end - begin < tile.pixels ? end - begin : tile.pixels;
    read_params(g, params, begin, n, tile);
    read_levels(g, images, begin, n, tile);
    read_grad(g, grad, begin, n, tile);
    compute<true>(g, scale, tile, n);
    write_params(g, tile, begin, n, dparams);
  }
}

template <class T>
int64_t scratch_size(const LogisticMixture& g) {
  return g.components == 0 ? SingleTile<T>::scratch(g) : MixtureTile<T>::scratch(g);
}

template <class E, class T>
void forward(const LogisticMixture& g, const E* params, const uint8_t* images, int64_t begin, int64_t end, T* out, T* scratch) {
  if (g.components == 0)
    forward_tiles<SingleTile<T>>(g, params, images, begin, end, out, scratch);
  else
    forward_tiles<MixtureTile<T>>(g, params, images, begin, end, out, scratch);
}

template <class E, class T>
void backward(const LogisticMixture& g, const T* grad, const E* params, const uint8_t* images, int64_t begin, int64_t end, E* dparams,
              T* scratch) {
  if (g.components == 0)
    backward_tiles<SingleTile<T>>(g, grad, params, images, begin, end, dparams, scratch);
  else
    backward_tiles<MixtureTile<T>>(g, grad, params, images, begin, end, dparams, scratch);
}

template <class E, class T>
constexpr LogisticMixtureKernels<E, T> kKernels = {scratch_size<T>, forward<E, T>, backward<E, T>};

}  // namespace

extern const LogisticMixtureKernels<float, float> logistic_mixture_float32 = kKernels<float, float>;
extern const LogisticMixtureKernels<double, double> logistic_mixture_float64 = kKernels<double, double>;
extern const LogisticMixtureKernels<BFloat16, float> logistic_mixture_bfloat16 = kKernels<BFloat16, float>;

}  // namespace genfast::GENFAST_ISA
