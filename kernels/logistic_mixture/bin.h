// One logistic and one bin of it, for a vector of pixels: ln P and its derivatives.
//
// With a < b the edges of the bin in scales from the mean, u = e^-|a|, v = e^-|b| and w = b - a,
//
//   P = sigmoid(b) sigmoid(-a) (1 - e^-w) = e^(min(b, 0) + min(-a, 0)) (1 - e^-w) / ((1 + u) (1 + v))
//
// and ln P is kept as exponent + ln(ratio): what can be huge or tiny goes into the exponent (for small w its logarithm, which is
// known), and the ratio is 0.15 to 1. Ratios of a pixel's colours multiply and those of its components add up, so a pixel costs
// one logarithm, however many logistics it has; a logistic costs four exponentials.
#pragma once

#include "common/math.h"

namespace genfast::GENFAST_ISA {

template <class T>
struct Scale {
  T levels_minus_1, inverse;   // and 1 / (levels - 1)
  T log_width;                 // ln of the width 2 / (levels - 1), in the unit of the scales
  T least;                     // the lowest log-scale
};

template <class T>
struct Bin {
  typename Vector<T>::type exponent, ratio;    // ln P = exponent + ln(ratio)
  typename Vector<T>::type dmean, dlog_scale;  // of ln P; the mean in half bins
};

template <class V>
GENFAST_INLINE V least_of(V a, V b) {
  return b < a ? b : a;  // a NaN in a stays
}
template <class V>
GENFAST_INLINE V most_of(V a, V b) {
  return b > a ? b : a;
}

// middle: of the bin, and mean, in half bins. Derivatives are computed (one division more) only if kBackward.
template <bool kBackward, class T, class V = typename Vector<T>::type>
GENFAST_INLINE Bin<T> bin(const Scale<T>& scale, V middle, V mean, V log_scale) {
  const V zero = {}, one = splat(T(1)), farthest = splat(T(1e30)), tiny = splat(T(1e-15));  // narrower, 1 - e^-w is w
  const V raised = most_of(log_scale, splat(scale.least));
  const V t = exp(-raised) * scale.inverse;  // 1 / s, of half bins
  const V a = most_of(least_of(((middle - T(1)) - mean) * t, farthest), -farthest);
  const V b = most_of(least_of(((middle + T(1)) - mean) * t, farthest), -farthest);
  const V w = most_of(T(2) * t, tiny);
  const auto first = middle <= -scale.levels_minus_1, last = middle >= scale.levels_minus_1;
  const auto inside = ~(first | last);
  const auto across = decay(-w);
  const V u = first ? zero : decay(a > zero ? -a : a).exp, v = last ? zero : decay(b > zero ? -b : b).exp;
  const V lower = first ? zero : least_of(-a, zero), upper = last ? zero : least_of(b, zero);
  const V width = inside ? least_of(scale.log_width - raised, zero) : zero;
  const V rise = inside ? -across.expm1 : one, per = inside ? least_of(w, one) : one;
  Bin<T> out = {};
  out.exponent = lower + upper + width;
  if constexpr (!kBackward) {
    out.ratio = rise / ((one + u) * (one + v) * per);
  } else {
    const V of_both = one / ((one + u) * (one + v)), of_rise = one / (rise * per);  // two divisions serve for four
    const V of_u = (one + v) * of_both, of_v = (one + u) * of_both;
    out.ratio = rise * rise * of_rise * of_both;
    const V at_a = first ? zero : a > zero ? of_u : u * of_u;   // sigmoid(a)
    const V at_b = last ? zero : b > zero ? v * of_v : of_v;    // sigmoid(-b)
    const V of_w = inside ? w * across.exp * per * of_rise : zero;  // w / (e^w - 1)
    out.dmean = t * (at_a - at_b);
    const V dlog_scale = at_a * a - at_b * b - of_w;
    out.dlog_scale = log_scale < splat(scale.least) ? zero : dlog_scale;
  }
  return out;
}

}  // namespace genfast::GENFAST_ISA
