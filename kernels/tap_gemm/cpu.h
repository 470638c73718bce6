// tap_gemm on a CPU: out[m, :] = added + sum over taps t, k < depth_t of a[t.a + m * t.a_row + k * a_k] * w[t.w + k, :]
//
// E is what is multiplied: float, double, or BFloat16Pair, two neighbours in k whose two products are added up; T is what sums
// are made of. Weights lie in panels of panel_bytes / sizeof(E) columns. Pointers are raw; nothing is allocated.
//   a      any layout in which either a_k == 1 (rows of pixels) or every a_row == 1 (columns of channels: weight gradients)
//   at     or else, rows anywhere: row m of tap t starts at at[t * rows + m], and a, Tap::a, Tap::a_row and a_k are not read
//   w      panels w_panel elements apart, in each a row of consecutive columns for each k, rows w_k apart; all of a row must be
//          readable, past `columns` too. Half a panel of columns costs half. Or one wide panel, of half as many columns again.
//   out    `columns` values a row, rows out_row apart; may alias neither a nor w
//   to     or else, rows anywhere: row m starts at to[m] + to_column, and out and out_row are not read
// The sum runs over taps in the order given, and over k from 0, in one accumulator for each output: the result depends
// on neither the batch, nor the position in it, nor the number of threads, to the bit.
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "common/storage.h"

namespace genfast {

// Two bfloat16 numbers, the first in the low half: as they lie in memory on a little-endian machine. Where it has no instruction
// for such products (AVX512-BF16, AMX: amx.h) they are made of float ones: as exact, about as slow as float.
enum class BFloat16Pair : uint32_t {};

struct Tap {
  ptrdiff_t a;      // offset of the tap's first element, in elements from TapGemm::a
  int64_t w;        // the tap's first row of weights
  int64_t depth;    // how many k this tap sums over
  ptrdiff_t a_row;  // from one row of the tap to the next; each tap may read another map
};

enum class Add { kNothing, kBias, kOutput };  // what the sum is added to before it is stored

template <class E, class T = E>
struct TapGemm {
  const E* a;
  const E* w;
  const Tap* taps;
  int64_t num_taps;
  int64_t a_k, w_k, w_panel;  // w_panel only tells how much to fetch ahead where there is one panel
  T* out;
  int64_t out_row;
  int64_t rows, columns;
  Add add;
  const T* bias;  // `columns` values, read for Add::kBias
  const E* next;  // null, or what will be read a while after the first panel (and as much after the others): fetched meanwhile
  const E* const* at = nullptr;  // null, or [taps][rows]
  const E* nothing = nullptr;    // rows in `at` that start here are zeros: a tap without other rows may be left out
  T* const* to = nullptr;        // null, or [rows]
  int64_t to_column = 0;
  bool fetch_rows = true;  // `at` only: whether the rows may not be in the caches yet
  bool wide = false;       // up to panel_bytes * 3 / 2 of columns in one panel
};

// narrow: to[i] = from[i] for i < n, rounded to nearest, ties to even.
#define GENFAST_DECLARE_TAP_GEMM(ISA)                       \
  namespace ISA {                                           \
  extern const int64_t panel_bytes;                         \
  void tap_gemm(const TapGemm<float>&);                     \
  void tap_gemm(const TapGemm<double>&);                    \
  void tap_gemm(const TapGemm<BFloat16Pair, float>&);       \
  void narrow(const float* from, BFloat16* to, int64_t n);  \
  }
GENFAST_DECLARE_TAP_GEMM(generic)
GENFAST_DECLARE_TAP_GEMM(avx2)
GENFAST_DECLARE_TAP_GEMM(avx512)
GENFAST_DECLARE_TAP_GEMM(avx512_bf16)
GENFAST_DECLARE_TAP_GEMM(amx_bf16)
#undef GENFAST_DECLARE_TAP_GEMM

}  // namespace genfast
