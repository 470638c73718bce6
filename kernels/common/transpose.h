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
// A last block is a whole one too if it can begin earlier; what it has in common with the one before is written twice.
template <class T, class From, class ToRow>
GENFAST_INLINE void transpose(const From* from, int64_t from_row, int64_t rows, int64_t columns, bool planes_are_rows, ToRow to_row) {
  constexpr int L = kLanes<T>;
  const int64_t outer = planes_are_rows ? rows : columns, inner = planes_are_rows ? columns : rows;
  const auto begin = [](int64_t at, int64_t size) { return size >= L && size - at < L ? size - L : at; };
  for (int64_t a = 0; a < outer; a += L)
    for (int64_t b = 0; b < inner; b += L) {
      const int64_t i0 = begin(planes_are_rows ? a : b, rows), j0 = begin(planes_are_rows ? b : a, columns);
      const int64_t ni = rows - i0 < L ? rows - i0 : L, nj = columns - j0 < L ? columns - j0 : L;
      transpose_block<T>(from, from_row, i0, ni, j0, nj, to_row);
    }
}

// index(i) for every lane i of a vector, two vectors a and b counting as one: the numbers of b begin at L.
template <class T, class Index>
GENFAST_INLINE typename Vector<T>::type shuffle(typename Vector<T>::type a, typename Vector<T>::type b, Index index) {
  constexpr int L = kLanes<T>;
#if defined(__clang__)
  typename Vector<T>::type out;
  for (int i = 0; i < L; i++) out[i] = index(i) < L ? a[index(i) % L] : b[index(i) % L];
  return out;
#else
  typename Indices<T>::type places = {};
#pragma GCC unroll 16
  for (int i = 0; i < L; i++) places[i] = index(i);
  return __builtin_shuffle(a, b, places);
#endif
}

// N vectors hold N numbers of each of L pixels, pixel by pixel; afterwards v[j] holds number j of all pixels. 2 shuffles a vector for
// each factor 2 of N, and N - 1 for the odd rest.
template <class T, int N>
GENFAST_INLINE void deinterleave(typename Vector<T>::type (&v)[N]) {
  constexpr int L = kLanes<T>;
  if constexpr (N % 2 == 0) {
    typename Vector<T>::type even[N / 2], odd[N / 2];
    for (int q = 0; q < N / 2; q++) {
      even[q] = shuffle<T>(v[2 * q], v[2 * q + 1], [](int i) { return 2 * i; });
      odd[q] = shuffle<T>(v[2 * q], v[2 * q + 1], [](int i) { return 2 * i + 1; });
    }
    deinterleave<T, N / 2>(even);
    deinterleave<T, N / 2>(odd);
    for (int q = 0; q < N / 2; q++) v[2 * q] = even[q], v[2 * q + 1] = odd[q];
  } else if constexpr (N > 1) {
    typename Vector<T>::type from[N];
    for (int k = 0; k < N; k++) from[k] = v[k];
#pragma GCC unroll 16
    for (int j = 0; j < N; j++) {
      v[j] = from[0];
#pragma GCC unroll 16
      for (int k = 1; k < N; k++)  // what lies in from[k] joins what was found before
        v[j] = shuffle<T>(v[j], from[k], [=](int i) {
          const int at = i * N + j;
          return at / L == k ? L + at % L : k == 1 && at / L == 0 ? at % L : i;
        });
    }
  }
}

// The inverse.
template <class T, int N>
GENFAST_INLINE void interleave(typename Vector<T>::type (&v)[N]) {
  constexpr int L = kLanes<T>;
  if constexpr (N % 2 == 0) {
    typename Vector<T>::type even[N / 2], odd[N / 2];
    for (int q = 0; q < N / 2; q++) even[q] = v[2 * q], odd[q] = v[2 * q + 1];
    interleave<T, N / 2>(even);
    interleave<T, N / 2>(odd);
    for (int q = 0; q < N / 2; q++) {
      v[2 * q] = shuffle<T>(even[q], odd[q], [](int i) { return i / 2 + i % 2 * L; });
      v[2 * q + 1] = shuffle<T>(even[q], odd[q], [](int i) { return (L + i) / 2 + i % 2 * L; });
    }
  } else if constexpr (N > 1) {
    typename Vector<T>::type from[N];
    for (int k = 0; k < N; k++) from[k] = v[k];
#pragma GCC unroll 16
    for (int k = 0; k < N; k++) {
      v[k] = from[0];
#pragma GCC unroll 16
      for (int j = 1; j < N; j++)
        v[k] = shuffle<T>(v[k], from[j], [=](int i) {
          const int at = k * L + i;
          return at % N == j ? L + at / N : j == 1 && at % N == 0 ? at / N : i;
        });
    }
  }
}

}  // namespace genfast::GENFAST_ISA
