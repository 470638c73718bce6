// Between channel-major and pixel-major: L x L blocks are transposed in registers, log2(L) shuffles a vector.
#pragma once

#include "common/convert.h"

namespace genfast::GENFAST_ISA {

template <class T>
struct Indices;
template <>
struct Indices<float> {
  typedef int32_t type __attribute__((vector_size(GENFAST_VECTOR_BYTES)));
};
template <>
struct Indices<double> {
  typedef int64_t type __attribute__((vector_size(GENFAST_VECTOR_BYTES)));
};

// One step of the transpose, and by recursion all that follow: swap the off-diagonal S x S blocks of every 2S x 2S block.
template <class T, int S>
GENFAST_INLINE void swap_blocks(typename Vector<T>::type (&v)[kLanes<T>]) {
  constexpr int L = kLanes<T>;
#if !defined(__clang__)
  typename Indices<T>::type low = {}, high = {};
#pragma GCC unroll 16
  for (int j = 0; j < L; j++) {
    low[j] = j & S ? L + j - S : j;
    high[j] = j & S ? L + j : j + S;
  }
#endif
#pragma GCC unroll 16
  for (int i = 0; i < L; i++) {
    if (i & S) continue;
    const auto a = v[i], b = v[i + S];
#if defined(__clang__)  // has no shuffle by a vector of indices, but sees one in this
    for (int j = 0; j < L; j++) {
      v[i][j] = j & S ? b[j - S] : a[j];
      v[i + S][j] = j & S ? b[j] : a[j + S];
    }
#else
    v[i] = __builtin_shuffle(a, b, low);
    v[i + S] = __builtin_shuffle(a, b, high);
#endif
  }
  if constexpr (2 * S < L) swap_blocks<T, 2 * S>(v);
}

// to_row(j)[i] = from[i * from_row + j] for one block of at most L x L.
template <class T, class From, class ToRow>
GENFAST_INLINE void transpose_block(const From* from, int64_t from_row, int64_t i0, int64_t ni, int64_t j0, int64_t nj, ToRow to_row) {
  constexpr int L = kLanes<T>;
  if (ni == L && nj == L) {
    typename Vector<T>::type v[L];
#pragma GCC unroll 16
    for (int i = 0; i < L; i++) v[i] = load_wide(from + (i0 + i) * from_row + j0);
    swap_blocks<T, 1>(v);
#pragma GCC unroll 16
    for (int j = 0; j < L; j++) store_narrow(v[j], to_row(j0 + j) + i0);
  } else {
    for (int64_t i = 0; i < ni; i++)
      for (int64_t j = 0; j < nj; j++) narrow(widen(from[(i0 + i) * from_row + j0 + j]), to_row(j0 + j) + i0 + i);
  }
}

// to_row(j)[i] = from[i * from_row + j] for i < rows, j < columns. to_row gives an address, so that image rows can be padded.
// Planes are far apart, and walking along L of them at a time keeps the prefetcher with it: set planes_are_rows where they are read.
template <class T, class From, class ToRow>
GENFAST_INLINE void transpose(const From* from, int64_t from_row, int64_t rows, int64_t columns, bool planes_are_rows, ToRow to_row) {
  constexpr int L = kLanes<T>;
  const int64_t outer = planes_are_rows ? rows : columns, inner = planes_are_rows ? columns : rows;
  for (int64_t a = 0; a < outer; a += L)
    for (int64_t b = 0; b < inner; b += L) {
      const int64_t i0 = planes_are_rows ? a : b, j0 = planes_are_rows ? b : a;
      const int64_t ni = rows - i0 < L ? rows - i0 : L, nj = columns - j0 < L ? columns - j0 : L;
      transpose_block<T>(from, from_row, i0, ni, j0, nj, to_row);
    }
}

}  // namespace genfast::GENFAST_ISA
