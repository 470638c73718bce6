#include "logistic_mixture/draw.h"

#include "categorical/draw.h"
#include "logistic_mixture/bin.h"

namespace genfast::GENFAST_ISA {
namespace {

constexpr int kL = kLanes<double>;
constexpr double kColdest = 0x1p-40;     // in the place of temperature 0, as in genfast/likelihoods/discretized_logistic.py
constexpr double kInfinity = __builtin_inf();

// A number for each component, and to the end of the last vector what adds nothing.
struct Components {
  alignas(64) double at[kMaxComponents + 8];
};  // to be filled as far as whole_vectors(components)

// The mixture of one sub-pixel at some temperature: ln of the components' shares, unnormalised, and the logistics in half bins.
struct Mixture {
  Components log_weights, means, log_scales;
};

class Pixel {
 public:
  Pixel(const LogisticMixtureDraw& g, const float* params)
      : g_(g), params_(params), end_(whole_vectors(g.components)), last_(double(g.draw.levels - 1)),
        scale_(g.draw.levels, kLowestLogScale) {}

  bool finite() const {
    const int64_t numbers = 3 * g_.colours * g_.components;
    for (int64_t i = 0; i < numbers; i++)
      if (!(params_[i] - params_[i] == 0)) return false;
    return true;
  }

  void at_temperature(double temperature, Mixture& mixture) const {
    copy(0, mixture.log_weights, 1 / temperature, -kInfinity);
    const double log_temperature = __builtin_log(temperature);
    Components levels, means, scales;
    for (int64_t row = 3; row < 3 * g_.colours; row += 3) {  // what the earlier colours say about the component
      if (params_[row * g_.components] < 0) continue;
      copy(row, levels, 2, 0);
      copy(row + 1, means, last_, 0);
      log_scales(row + 2, log_temperature, scales);
      for (int64_t k = 0; k < end_; k += kL) {
        const Bin<double> b = bin<false>(scale_, load(levels.at + k) - last_, load(means.at + k), load(scales.at + k));
        store(mixture.log_weights.at + k, load(mixture.log_weights.at + k) + b.exponent + log_ratio(b.above, b.below));
      }
    }
    copy(1, mixture.means, last_, 0);
    log_scales(2, log_temperature, mixture.log_scales);
  }

  // ln P(level), up to the sum of the weights.
  double log_bin(const Mixture& mixture, int64_t level) const {
    const Doubles middle = splat(2 * double(level) - last_);
    Components bins;
    bins.at[0] = 0;  // for the compiler, which does not see that there is a component
    for (int64_t k = 0; k < end_; k += kL) {
      const Bin<double> b = bin<false>(scale_, middle, load(mixture.means.at + k), load(mixture.log_scales.at + k));
      store(bins.at + k, load(mixture.log_weights.at + k) + b.exponent + log_ratio(b.above, b.below));
    }
    return log_sum(bins);
  }

  double log_prob(const Mixture& mixture, int64_t level) const { return log_bin(mixture, level) - log_sum(mixture.log_weights); }

  int64_t invert(const Mixture& mixture, double uniform) const {
    Components weights, inverse;
    const double top = largest(mixture.log_weights);
    Doubles sums = {};
    for (int64_t k = 0; k < end_; k += kL) {
      const Doubles w = exp(load(mixture.log_weights.at + k) - top);
      store(weights.at + k, w);
      store(inverse.at + k, exp(-most_of(load(mixture.log_scales.at + k), splat(kLowestLogScale))) * scale_.inverse);
      sums += w;
    }
    const double target = uniform * sum(sums);
    int64_t low = 0, high = g_.draw.levels - 1;  // at which the distribution function is 1
    while (low < high) {
      const int64_t middle = (low + high) / 2;
      const double edge = 2 * double(middle) + 1 - last_;
      Doubles below = {};
      for (int64_t k = 0; k < end_; k += kL)
        below += load(weights.at + k) * sigmoid((edge - load(mixture.means.at + k)) * load(inverse.at + k));
      if (target < sum(below))
        high = middle;
      else
        low = middle + 1;
    }
    return low;
  }

  int64_t draw(double uniform) const {
    const double temperature = g_.draw.temperature;
    Mixture mixture;
    at_temperature(temperature == 0 ? kColdest : temperature, mixture);
    if (temperature != 0 && !cuts_tail(g_.draw)) return invert(mixture, uniform);
    Row logits;
    double top = -kInfinity;
    const int64_t end = whole_vectors(g_.draw.levels);
    for (int64_t l = 0; l < end; l++) {
      logits.at[l] = l < g_.draw.levels ? log_bin(mixture, l) : -kInfinity;
      top = logits.at[l] > top ? logits.at[l] : top;
    }
    return draw_level(g_.draw, logits, top, temperature == 0 ? 0 : 1, uniform);
  }

 private:
  void copy(int64_t row, Components& to, double factor, double beyond) const {
    const float* from = params_ + row * g_.components;
    for (int64_t k = 0; k < g_.components; k++) to.at[k] = factor * from[k];
    for (int64_t k = g_.components; k < end_; k++) to.at[k] = beyond;
  }

  void log_scales(int64_t row, double log_temperature, Components& to) const {
    copy(row, to, 1, 0);
    const Doubles least = splat(g_.min_log_scale > kLowestLogScale ? g_.min_log_scale : kLowestLogScale);
    for (int64_t k = 0; k < end_; k += kL) store(to.at + k, most_of(load(to.at + k), least) + log_temperature);
  }

  static double sum(Doubles x) {
    double total = x[0];
    for (int i = 1; i < kL; i++) total += x[i];
    return total;
  }

  double largest(const Components& x) const {
    double top = x.at[0];
    for (int64_t k = 1; k < g_.components; k++) top = x.at[k] > top ? x.at[k] : top;
    return top;
  }

  double log_sum(const Components& x) const {
    const double top = largest(x);
    Doubles total = {};
    for (int64_t k = 0; k < end_; k += kL) total += exp(load(x.at + k) - top);
    return top + __builtin_log(sum(total));
  }

  const LogisticMixtureDraw& g_;
  const float* params_;
  const int64_t end_;
  const double last_;
  const Scale<double> scale_;
};

}  // namespace

bool draw_logistic_mixture(const LogisticMixtureDraw& g) {
  for (int64_t m = 0; m < g.draw.rows; m++) {
    const bool known = g.draw.known && g.draw.known[m * g.draw.known_row];
    if (known && !g.draw.log_prob) continue;
    const Pixel pixel(g, g.draw.logits + m * g.draw.logits_row);
    if (!pixel.finite()) return false;
    int32_t* level = g.draw.level + m * g.draw.level_row;
    if (!known) *level = int32_t(pixel.draw(g.draw.uniform[m * g.draw.uniform_row]));
    if (g.draw.log_prob) {
      Mixture plain;
      pixel.at_temperature(1, plain);
      g.draw.log_prob[m * g.draw.log_prob_row] = pixel.log_prob(plain, *level);
    }
  }
  return true;
}

}  // namespace genfast::GENFAST_ISA
