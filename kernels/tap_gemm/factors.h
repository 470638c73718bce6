// What tap_gemm multiplies and how: vectors of weights, one factor for all lanes, and a sum to which their products are added.
#pragma once

#if defined(__AVX512BF16__)
#include <immintrin.h>
#endif

#include "common/simd.h"
#include "tap_gemm/cpu.h"

namespace genfast::GENFAST_ISA {

template <class E>
struct Factors {
  using Sum = E;
  using Sums = typename Vector<E>::type;
  using Type = Sums;
  static constexpr int kTileRows = GENFAST_TILE_ROWS, kWideTileRows = GENFAST_WIDE_TILE_ROWS, kFewRows = 3;
  GENFAST_INLINE static Type columns(const E* w) { return load(w); }
  GENFAST_INLINE static Type everywhere(E x) { return x - Type{}; }  // minus zero: nothing is left of it
  GENFAST_INLINE static void add(Sums& sum, Type x, Type w) { sum += x * w; }
};

template <>
struct Factors<BFloat16Pair> {
  using Sum = float;
  using Sums = typename Vector<float>::type;
  typedef uint32_t Bits __attribute__((vector_size(GENFAST_VECTOR_BYTES)));
  typedef uint32_t UnalignedBits __attribute__((vector_size(GENFAST_VECTOR_BYTES), aligned(4), may_alias));
  GENFAST_INLINE static Bits bits(const BFloat16Pair* w) { return *reinterpret_cast<const UnalignedBits*>(w); }
#if defined(__AVX512BF16__)
  using Type = Bits;
  static constexpr int kTileRows = GENFAST_TILE_ROWS, kWideTileRows = GENFAST_WIDE_TILE_ROWS, kFewRows = 3;
  GENFAST_INLINE static Type columns(const BFloat16Pair* w) { return bits(w); }
  GENFAST_INLINE static Type everywhere(BFloat16Pair x) { return uint32_t(x) - Bits{}; }
  GENFAST_INLINE static void add(Sums& sum, Type x, Type w) {
    sum = (Sums)_mm512_dpbf16_ps((__m512)sum, (__m512bh)x, (__m512bh)w);
  }
#else
  // A float is a bfloat16 with sixteen more bits. Four registers of weights in place of two leave fewer for sums.
  struct Type {
    Sums first, second;
  };
  static constexpr int kTileRows = GENFAST_VECTOR_BYTES == 64 ? 12 : 4, kWideTileRows = GENFAST_VECTOR_BYTES == 64 ? 8 : 2,
                       kFewRows = GENFAST_VECTOR_BYTES == 64 ? 3 : 1;
  GENFAST_INLINE static Type widen(Bits both) { return {(Sums)(both << 16), (Sums)(both & 0xffff0000u)}; }
  GENFAST_INLINE static Type columns(const BFloat16Pair* w) { return widen(bits(w)); }
  GENFAST_INLINE static Type everywhere(BFloat16Pair x) { return widen(uint32_t(x) - Bits{}); }
  GENFAST_INLINE static void add(Sums& sum, const Type& x, const Type& w) {
    sum += x.second * w.second;
    sum += x.first * w.first;
  }
#endif
};

}  // namespace genfast::GENFAST_ISA
