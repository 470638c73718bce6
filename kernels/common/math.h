// exp, log, tanh and the logistic function, for a vector of numbers at a time.
//
// Largest error against the exact result, over all finite arguments (tests/kernels/test_pointwise.py measures it): exp 1.5
// units in the last place, expm1 2, tanh 3, sigmoid 3; of doubles exp 1.5, tanh 3, sigmoid 3 (tests/ops/test_row_lstm.py). A result
// below 2^-125 (doubles: 2^-1020) is 0, so that no subnormal number comes out, which some machines compute with a hundred times
// slower. exp overflows to infinity; the others
// are finite for every finite argument. NaN gives NaN, and infinities give the limits. exp_within, decay and log_ratio take only
// the arguments they name: exp_within and decay 1.5 units, log_ratio 2.5, of floats and of doubles (the sum of their errors is
// what tests/ops/test_logistic_mixture.py sees).
//
// exp(x) = 2^n exp(r), n the whole number nearest to x / ln 2 and |r| <= ln 2 / 2. Adding 1.5 * 2^(mantissa bits) rounds to a
// whole number and leaves it in the low bits, from where a shift makes it an exponent.
#pragma once

#include "common/simd.h"

namespace genfast::GENFAST_ISA {

typedef Vector<float>::type Floats;
typedef Vector<double>::type Doubles;
typedef int32_t Int32s __attribute__((vector_size(GENFAST_VECTOR_BYTES)));
typedef int64_t Int64s __attribute__((vector_size(GENFAST_VECTOR_BYTES)));

GENFAST_INLINE Floats splat(float x) { return x - Floats{}; }
GENFAST_INLINE Doubles splat(double x) { return x - Doubles{}; }

struct ReducedFloats {
  Floats expm1;    // exp(r) - 1
  Int32s n_shifted;  // n in the place of the exponent
};

// The polynomial of Cephes' expf; ln 2 in two parts, of which the first times n is exact.
GENFAST_INLINE ReducedFloats reduce_exp(Floats x) {
  const Floats shifted = x * 1.44269504088896341f + 12582912.0f;
  const Floats n = shifted - 12582912.0f;
  const Floats r = (x - n * 0.693359375f) - n * -2.12194440e-4f;
  Floats p = splat(1.9875691500e-4f);
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  return {p * (r * r) + r, (Int32s)shifted << 23};
}

constexpr int32_t kOneBits = 0x3f800000;  // 1.0f; adding n << 23 makes it 2^n

GENFAST_INLINE Floats exp(Floats x) {
  const Floats low = splat(-86.6434f), high = splat(89.0f);
  const Floats clamped = x < low ? low : x > high ? high : x;
  const ReducedFloats e = reduce_exp(clamped);
  // 2^n can overflow where the result does not: 2^(n - 1), twice.
  const Floats scale = (Floats)(e.n_shifted + (kOneBits - (1 << 23)));
  const Floats y = (e.expm1 * scale + scale) * 2.0f;
  return x < low ? Floats{} : y;
}

GENFAST_INLINE Floats sigmoid(Floats x) {
  const Floats y = 1.0f / (1.0f + exp(-x));
  return x < splat(-86.6434f) ? Floats{} : y;
}

// t / (t + 2) with t = exp(2 |x|) - 1, which keeps its digits near 0.
GENFAST_INLINE Floats tanh(Floats x) {
  const Int32s sign = (Int32s)x & INT32_MIN;
  const Floats size = (Floats)((Int32s)x & INT32_MAX), most = splat(10.0f);
  const ReducedFloats e = reduce_exp(2.0f * (size > most ? most : size));
  const Floats scale = (Floats)(e.n_shifted + kOneBits);
  const Floats t = e.expm1 * scale + (scale - 1.0f);
  return (Floats)((Int32s)(t / (t + 2.0f)) | sign);
}

// For x between -86 and 86, or NaN.
GENFAST_INLINE Floats exp_within(Floats x) {
  const ReducedFloats e = reduce_exp(x);
  const Floats scale = (Floats)(e.n_shifted + kOneBits);
  return e.expm1 * scale + scale;
}

struct DecayOfFloats {
  Floats exp, expm1;  // each to its own last places
};

// exp(x) and exp(x) - 1 for x <= 0.
GENFAST_INLINE DecayOfFloats decay(Floats x) {
  const Floats low = splat(-86.6434f);
  const ReducedFloats e = reduce_exp(x < low ? low : x);
  const Floats scale = (Floats)(e.n_shifted + kOneBits);
  return {x < low ? Floats{} : e.expm1 * scale + scale, e.expm1 * scale + (scale - 1.0f)};
}

// exp(x) - 1, to the last places of itself: where exp is large the 1 is lost in them.
GENFAST_INLINE Floats expm1(Floats x) {
  const Floats low = splat(-86.6434f), high = splat(40.0f);
  const ReducedFloats e = reduce_exp(x < low ? low : x > high ? high : x);
  const Floats scale = (Floats)(e.n_shifted + kOneBits);
  return x > high ? exp(x) : e.expm1 * scale + (scale - 1.0f);
}

// ln(a / b) of positive normal numbers with a normal quotient, by one division: with b' = 2^n b so near to a that
// |s| <= 0.2006, s = (a - b') / (a + b'), it is n ln 2 + 2 artanh(s), by Taylor's polynomial to the 9th power: its rest is 1e-8 of
// the logarithm. As an integer a float is 2^23 times its logarithm to base 2, to 0.09, which is near enough to tell n.
GENFAST_INLINE Floats log_ratio(Floats a, Floats b) {
  const Int32s n = ((Int32s)a - (Int32s)b + (1 << 22)) >> 23;
  const Floats near = (Floats)((Int32s)b + (n << 23)), power = __builtin_convertvector(n, Floats);
  const Floats s = (a - near) / (a + near), z = s * s;
  Floats p = splat(1.0f / 9);
  p = p * z + 1.0f / 7;
  p = p * z + 1.0f / 5;
  p = p * z + 1.0f / 3;
  return power * 0.693359375f + (2.0f * (s * z * p + s) + power * -2.12194440e-4f);
}

struct ReducedDoubles {
  Doubles expm1;     // exp(r) - 1
  Int64s n_shifted;  // n in the place of the exponent
};

// Taylor's polynomial to r^13: its rest is 4e-18.
GENFAST_INLINE ReducedDoubles reduce_exp(Doubles x) {
  const Doubles shifted = x * 1.4426950408889634074 + 6755399441055744.0;
  const Doubles n = shifted - 6755399441055744.0;
  const Doubles r = (x - n * 6.93145751953125e-1) - n * 1.42860682030941723212e-6;
  Doubles p = splat(1.0 / 6227020800.0);
  p = p * r + 1.0 / 479001600.0;
  p = p * r + 1.0 / 39916800.0;
  p = p * r + 1.0 / 3628800.0;
  p = p * r + 1.0 / 362880.0;
  p = p * r + 1.0 / 40320.0;
  p = p * r + 1.0 / 5040.0;
  p = p * r + 1.0 / 720.0;
  p = p * r + 1.0 / 120.0;
  p = p * r + 1.0 / 24.0;
  p = p * r + 1.0 / 6.0;
  p = p * r + 0.5;
  return {p * (r * r) + r, (Int64s)shifted << 52};
}

constexpr int64_t kOneBitsOfDouble = 0x3ff0000000000000;

GENFAST_INLINE Doubles exp(Doubles x) {
  const Doubles low = splat(-707.0), high = splat(710.0);
  const ReducedDoubles e = reduce_exp(x < low ? low : x > high ? high : x);
  const Doubles scale = (Doubles)(e.n_shifted + (kOneBitsOfDouble - (int64_t(1) << 52)));
  return x < low ? Doubles{} : (e.expm1 * scale + scale) * 2.0;
}

// For x between -700 and 700, or NaN.
GENFAST_INLINE Doubles exp_within(Doubles x) {
  const ReducedDoubles e = reduce_exp(x);
  const Doubles scale = (Doubles)(e.n_shifted + kOneBitsOfDouble);
  return e.expm1 * scale + scale;
}

struct DecayOfDoubles {
  Doubles exp, expm1;
};

GENFAST_INLINE DecayOfDoubles decay(Doubles x) {
  const Doubles low = splat(-707.0);
  const ReducedDoubles e = reduce_exp(x < low ? low : x);
  const Doubles scale = (Doubles)(e.n_shifted + kOneBitsOfDouble);
  return {x < low ? Doubles{} : e.expm1 * scale + scale, e.expm1 * scale + (scale - 1.0)};
}

// To the 21st power: the rest is 2e-17 of the logarithm.
GENFAST_INLINE Doubles log_ratio(Doubles a, Doubles b) {
  const Int64s n = ((Int64s)a - (Int64s)b + (int64_t(1) << 51)) >> 52;
  const Doubles near = (Doubles)((Int64s)b + (n << 52)), power = __builtin_convertvector(n, Doubles);
  const Doubles s = (a - near) / (a + near), z = s * s;
  Doubles p = splat(1.0 / 21);
  p = p * z + 1.0 / 19;
  p = p * z + 1.0 / 17;
  p = p * z + 1.0 / 15;
  p = p * z + 1.0 / 13;
  p = p * z + 1.0 / 11;
  p = p * z + 1.0 / 9;
  p = p * z + 1.0 / 7;
  p = p * z + 1.0 / 5;
  p = p * z + 1.0 / 3;
  return power * 6.93145751953125e-1 + (2.0 * (s * z * p + s) + power * 1.42860682030941723212e-6);
}

GENFAST_INLINE Doubles sigmoid(Doubles x) {
  const Doubles y = 1.0 / (1.0 + exp(-x));
  return x < splat(-707.0) ? Doubles{} : y;
}

GENFAST_INLINE Doubles tanh(Doubles x) {
  const Int64s sign = (Int64s)x & INT64_MIN;
  const Doubles size = (Doubles)((Int64s)x & INT64_MAX), most = splat(22.0);
  const ReducedDoubles e = reduce_exp(2.0 * (size > most ? most : size));
  const Doubles scale = (Doubles)(e.n_shifted + kOneBitsOfDouble);
  const Doubles t = e.expm1 * scale + (scale - 1.0);
  return (Doubles)((Int64s)(t / (t + 2.0)) | sign);
}

}  // namespace genfast::GENFAST_ISA
