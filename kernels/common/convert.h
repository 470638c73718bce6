// Storage types and the types they are computed in: float and double as themselves, bfloat16 as float.
#pragma once

#if defined(__AVX512BF16__)
#include <immintrin.h>
#endif

#include "common/simd.h"
#include "common/storage.h"

namespace genfast::GENFAST_ISA {

template <class E>
struct Accumulator {
  using type = E;
};
template <>
struct Accumulator<BFloat16> {
  using type = float;
};

GENFAST_INLINE float widen(float x) { return x; }
GENFAST_INLINE double widen(double x) { return x; }
GENFAST_INLINE float widen(BFloat16 x) {
  const uint32_t bits = uint32_t(x.bits) << 16;
  float out;
  __builtin_memcpy(&out, &bits, 4);
  return out;
}

GENFAST_INLINE void narrow(float x, float* to) { *to = x; }
GENFAST_INLINE void narrow(double x, double* to) { *to = x; }
// Rounds to nearest, ties to even; a NaN stays a NaN.
GENFAST_INLINE void narrow(float x, BFloat16* to) {
  uint32_t bits;
  __builtin_memcpy(&bits, &x, 4);
  const uint32_t rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
  to->bits = uint16_t(x != x ? (bits >> 16) | 0x40 : rounded);
}

GENFAST_INLINE Vector<float>::type load_wide(const float* p) { return load(p); }
GENFAST_INLINE Vector<double>::type load_wide(const double* p) { return load(p); }
GENFAST_INLINE void store_narrow(Vector<float>::type v, float* to) { store(to, v); }
GENFAST_INLINE void store_narrow(Vector<double>::type v, double* to) { store(to, v); }

typedef uint32_t Words __attribute__((vector_size(GENFAST_VECTOR_BYTES)));
typedef uint16_t Halves __attribute__((vector_size(GENFAST_VECTOR_BYTES / 2), aligned(2), may_alias));

GENFAST_INLINE Vector<float>::type load_wide(const BFloat16* p) {
  const Halves halves = *reinterpret_cast<const Halves*>(p);
  return (Vector<float>::type)(__builtin_convertvector(halves, Words) << 16);
}
GENFAST_INLINE void store_narrow(Vector<float>::type v, BFloat16* to) {
#if defined(__AVX512BF16__)
  *reinterpret_cast<Halves*>(to) = (Halves)_mm512_cvtneps_pbh((__m512)v);  // denormals become zeros
#else
  const Words bits = (Words)v;
  const Words rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
  const Words is_nan = (Words)(v != v);
  const Words out = (is_nan & ((bits >> 16) | 0x40)) | (~is_nan & rounded);
  *reinterpret_cast<Halves*>(to) = __builtin_convertvector(out, Halves);
#endif
}

// to[i] = from[i] for i < n, between storage types.
template <class From, class To>
GENFAST_INLINE void copy(const From* from, To* to, int64_t n) {
  constexpr int L = GENFAST_VECTOR_BYTES / int(sizeof(widen(From{})));
  int64_t i = 0;
  for (; i + L <= n; i += L) store_narrow(load_wide(from + i), to + i);
  for (; i < n; i++) narrow(widen(from[i]), to + i);
}

}  // namespace genfast::GENFAST_ISA
