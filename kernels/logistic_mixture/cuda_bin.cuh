// One logistic and one bin of it for a thread: ln P and its derivatives.
//
// With a < b the edges of the bin in scales from the mean, u = e^-|a|, v = e^-|b| and w = b - a,
//
//   P = sigmoid(b) sigmoid(-a) (1 - e^-w) = e^(min(b, 0) + min(-a, 0)) (1 - e^-w) / ((1 + u) (1 + v))
//
// and ln P is kept as exponent + ln(ratio), as in bin.h. That gets v from u and e^-w, one exponential less; whether a GPU would
// notice has not been measured.
#pragma once

#include "common/cuda_math.cuh"

namespace genfast::cuda {

template <typename T>
struct Scale {
    T levels_minus_1, inverse;  // and 1 / (levels - 1)
    T log_width;                // ln of the width 2 / (levels - 1), in the unit of the scales
    T least;                    // the lowest log-scale
};

template <typename T>
struct Bin {
    T exponent, ratio;    // ln P = exponent + ln(ratio)
    T dmean, dlog_scale;  // of ln P; the mean in half bins
};

template <typename T>
__device__ inline T least_of(T a, T b) {
    return b < a ? b : a;  // a NaN in a stays
}
template <typename T>
__device__ inline T most_of(T a, T b) {
    return b > a ? b : a;
}

// middle: of the bin, and mean, in half bins. Derivatives are computed only if BACKWARD.
template <bool BACKWARD, typename T>
__device__ inline Bin<T> bin(const Scale<T>& scale, T middle, T mean, T log_scale) {
    const T farthest = T(1e30), tiny = T(1e-15);  // narrower, 1 - e^-w is w
    const T raised = most_of(log_scale, scale.least);
    const T t = exp_of(-raised) * scale.inverse;  // 1 / s, of half bins
    const T a = most_of(least_of(((middle - T(1)) - mean) * t, farthest), -farthest);
    const T b = most_of(least_of(((middle + T(1)) - mean) * t, farthest), -farthest);
    const T w = most_of(T(2) * t, tiny);
    const bool first = middle <= -scale.levels_minus_1, last = middle >= scale.levels_minus_1;
    const bool inside = !first && !last;
    const T u = first ? T(0) : exp_of(a > T(0) ? -a : a), v = last ? T(0) : exp_of(b > T(0) ? -b : b);
    const T lower = first ? T(0) : least_of(-a, T(0)), upper = last ? T(0) : least_of(b, T(0));
    const T width = inside ? least_of(scale.log_width - raised, T(0)) : T(0);
    const T rise = inside ? -expm1_of(-w) : T(1), per = inside ? least_of(w, T(1)) : T(1);
    Bin<T> out = {};
    out.exponent = lower + upper + width;
    out.ratio = rise / ((T(1) + u) * (T(1) + v) * per);
    if (BACKWARD) {
        const T of_u = T(1) / (T(1) + u), of_v = T(1) / (T(1) + v);
        const T at_a = first ? T(0) : a > T(0) ? of_u : u * of_u;          // sigmoid(a)
        const T at_b = last ? T(0) : b > T(0) ? v * of_v : of_v;           // sigmoid(-b)
        const T of_w = inside ? w * exp_of(-w) / rise : T(0);              // w / (e^w - 1)
        out.dmean = t * (at_a - at_b);
        out.dlog_scale = log_scale < scale.least ? T(0) : at_a * a - at_b * b - of_w;
    }
    return out;
}

}  // namespace genfast::cuda
