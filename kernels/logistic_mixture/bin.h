// One logistic and one bin of it, for a vector of pixels: ln P and its derivatives.
//
// Let `depth` be how deep the mean lies in the bin, from its nearer edge, in scales (negative if it lies outside), w the width of
// the bin and r = e^depth. The farther edge is w - depth away, and
//
//   P = sigmoid(depth) sigmoid(w - depth) (1 - e^-w) = e^min(depth, 0) (1 - e^-w) max(r, 1) / ((1 + r) (1 + r e^-w))
//
// The first and the last bin have one edge only: they are bins of infinite width. ln P is kept as exponent + ln(above / below):
// what can be huge or tiny goes into the exponent (for small w its logarithm, which is known), and above / below is 0.15 to 1.
// These multiply over a pixel's colours and their quotients add up over its components, so a pixel costs one logarithm, however
// many logistics it has; a logistic costs three exponentials.
#pragma once

#include "common/math.h"

namespace genfast::GENFAST_ISA {

constexpr double kLowestLogScale = -60;  // LOWEST_LOG_SCALE of reference.py

// Where rounding makes formulas simple. A mean deeper in a bin than `deep` has all its probability there, with derivative 0: then
// three r, of three colours, have a product. For w below `narrow`, 1 - e^-w is w. Beyond `most` exp_within is not defined.
template <class T>
struct Limits;
template <>
struct Limits<float> {
  static constexpr float deep = 28, narrow = 1e-8f, most = 80;
};
template <>
struct Limits<double> {
  static constexpr double deep = 200, narrow = 1e-16, most = 690;
};

// What is the same for all pixels. Limits are here too: the least of a vector and a number is one instruction, that of a vector and
// a constant is two in GCC.
template <class T>
struct Scale {
  T levels_minus_1, inverse;  // and 1 / (levels - 1)
  T log_width;                // ln of the width 2 / (levels - 1), in the unit of the scales
  T highest;                  // of what lowers: -log-scale
  T farthest, deep, narrow, most;
  Scale(int64_t levels, double min_log_scale)
      : levels_minus_1(T(levels - 1)), inverse(T(1.0 / double(levels - 1))), log_width(T(__builtin_log(2.0 / double(levels - 1)))),
        highest(T(-(min_log_scale > kLowestLogScale ? min_log_scale : kLowestLogScale))), farthest(T(1e30)), deep(Limits<T>::deep),
        narrow(Limits<T>::narrow), most(Limits<T>::most) {}
};

template <class T>
struct Bin {
  typename Vector<T>::type exponent, above, below;  // ln P = exponent + ln(above / below)
  typename Vector<T>::type dmean, dlog_scale;       // of ln P; the mean in half bins
};

template <class V>
GENFAST_INLINE V least_of(V a, V b) {
  return b < a ? b : a;  // a NaN in a stays
}
template <class V>
GENFAST_INLINE V most_of(V a, V b) {
  return b > a ? b : a;
}

// middle: of the bin, and mean, in half bins. Derivatives are computed (one division) only if kBackward.
template <bool kBackward, class T, class V = typename Vector<T>::type>
GENFAST_INLINE Bin<T> bin(const Scale<T>& scale, V middle, V mean, V log_scale) {
  const V zero = {}, one = splat(T(1));
  const V sharpness = least_of(-log_scale, splat(scale.highest));
  const V t = exp_within(most_of(sharpness, splat(-scale.most))) * scale.inverse;  // 1 / s, of half bins
  const auto first = middle <= -scale.levels_minus_1, last = middle >= scale.levels_minus_1;
  const V from_lower = mean - (middle - T(1)), from_upper = (middle + T(1)) - mean;
  const auto at_lower = last | (~first & (from_lower < from_upper));
  const V depth = most_of(least_of((at_lower ? from_lower : from_upper) * t, splat(scale.deep)), splat(-scale.farthest));
  const V minus_w = first | last ? splat(T(-1e3)) : least_of(T(-2) * t, splat(-scale.narrow));
  const V r = exp_within(most_of(depth, splat(-scale.most)));
  const auto across = decay(minus_w);
  const auto is_narrow = minus_w > -one;
  const V rise = -across.expm1, far = r * across.exp;  // far: e^(depth - w)
  const V of_near = one + r, of_far = one + far;
  Bin<T> out = {};
  out.exponent = (is_narrow ? scale.log_width + sharpness : zero) + least_of(depth, zero);
  out.above = rise * most_of(r, one);
  out.below = of_near * of_far * (is_narrow ? -minus_w : one);
  if constexpr (kBackward) {
    const V of_all = one / (of_near * of_far * rise);  // one division serves for three
    const V near_edge = depth >= scale.deep ? zero : of_far * (rise * of_all);  // sigmoid(-depth)
    const V far_edge = far * (of_near * (rise * of_all));                       // sigmoid(depth - w)
    const V of_w = minus_w * across.exp * (of_near * of_far * of_all);          // -w / (e^w - 1)
    const V dmean = t * (near_edge - far_edge);
    out.dmean = at_lower ? dmean : -dmean;
    out.dlog_scale = of_w + far_edge * (depth + minus_w) - near_edge * depth;
    out.dlog_scale = -log_scale > scale.highest ? zero : out.dlog_scale;
  }
  return out;
}

}  // namespace genfast::GENFAST_ISA
