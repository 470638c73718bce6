// The register tile: GENFAST_TILE_ROWS x 2 vectors of accumulators, each weight vector loaded once per k for all rows, each
// element of a broadcast once for two vectors. With 14 x 32 floats it needs 128 bytes of weights for 28 multiply-adds (14
// cycles), which an L2 cache delivers, so panels are streamed and never blocked. Where columns fill no more than one vector a
// tile is one vector wide, in a wide panel three, and few rows take two panels at once.
#include "tap_gemm/cpu.h"

#include "common/convert.h"
#include "tap_gemm/factors.h"
#if defined(__AMX_BF16__)
#include "tap_gemm/amx.h"
#endif

namespace genfast::GENFAST_ISA {
namespace {

constexpr int kVectors = 2;  // of a whole panel
constexpr int kWide = 3;     // of a wide one
template <class E>
constexpr int kPanel = kVectors * kLanes<E>;
// With so few rows a tile takes two panels at once: fewer than 8 sums would wait for each other, not for the weights.
template <class E>
constexpr int kFewRows = Factors<E>::kFewRows;
template <class E, int V>
constexpr int kTileRows = V == 1          ? GENFAST_NARROW_TILE_ROWS
                          : V == kVectors ? Factors<E>::kTileRows
                          : V == kWide    ? Factors<E>::kWideTileRows
                                          : kFewRows<E>;
// Rows anywhere need a pointer each, and x86 has fifteen registers for them and for everything else.
constexpr int kMostPointers = 9;
template <class E, int V>
constexpr int kScatteredRows = kTileRows<E, V> < kMostPointers ? kTileRows<E, V> : kMostPointers;

template <class E>
using SumOf = typename Factors<E>::Sum;
template <class E>
using Gemm = TapGemm<E, SumOf<E>>;
template <class E>
using Sums = typename Factors<E>::Sums;

// Keeps a sum in a register of its own between two steps. Left alone, the compiler overlaps steps until it runs out of
// registers, and one sum that goes through memory makes all wait. Where the tile itself fills the registers there is nothing to
// overlap.
template <class V>
GENFAST_INLINE void keep_in_register(V& sum) {
#if defined(__x86_64__)
  asm("" : "+v"(sum));
#elif defined(__aarch64__)
  asm("" : "+w"(sum));
#endif
}
template <int R, int V>
constexpr bool kFillsRegisters = GENFAST_VECTOR_BYTES < 64 && R * V >= 12;

// Rows of a are pixels: k is contiguous. Rows a constant length apart: with many of them every third has a pointer of its own,
// and the two after it are one and two row lengths further on, which x86 addresses for free; left alone, the compiler keeps a
// pointer for every row and spills.
template <class E, int R>
struct SpacedRows {
  static constexpr int kShare = R <= 6 ? 1 : 3, kPointers = (R + kShare - 1) / kShare;
  const E* base[kPointers];
  ptrdiff_t row;
  GENFAST_INLINE SpacedRows(const Gemm<E>& g, int64_t t, int64_t m) : row(g.taps[t].a_row) {
#pragma GCC unroll 8
    for (int i = 0; i < kPointers; i++) {
      base[i] = g.a + g.taps[t].a + (m + kShare * i) * row;
      asm("" : "+r"(base[i]));
    }
  }
  GENFAST_INLINE E at(int r, int k) const { return base[r / kShare][(r % kShare) * row + k]; }
  GENFAST_INLINE void advance(ptrdiff_t k) {
#pragma GCC unroll 8
    for (int i = 0; i < kPointers; i++) base[i] += k;
  }
  GENFAST_INLINE static bool absent(const Gemm<E>&, int64_t, int64_t) { return false; }
  GENFAST_INLINE static void fetch(const Gemm<E>&, int64_t, int64_t) {}
};

template <class E, int R>
struct ScatteredRows {
  const E* base[R];
  GENFAST_INLINE ScatteredRows(const Gemm<E>& g, int64_t t, int64_t m) {
#pragma GCC unroll 16
    for (int r = 0; r < R; r++) {
      base[r] = g.at[t * g.rows + m + r];
      asm("" : "+r"(base[r]));
    }
  }
  GENFAST_INLINE E at(int r, int k) const { return base[r][k]; }
  GENFAST_INLINE void advance(ptrdiff_t k) {
#pragma GCC unroll 16
    for (int r = 0; r < R; r++) base[r] += k;
  }
  // Whether no row of the tile has anything at this tap.
  GENFAST_INLINE static bool absent(const Gemm<E>& g, int64_t t, int64_t m) {
    const E* const* at = g.at + t * g.rows + m;
    for (int r = 0; r < R; r++)
      if (at[r] != g.nothing) return false;
    return true;
  }
  // Rows m and on of a tap, for the tile that comes next: what lies anywhere no hardware fetches ahead.
  GENFAST_INLINE static void fetch(const Gemm<E>& g, int64_t t, int64_t m) {
    const int64_t end = m + R < g.rows ? m + R : g.rows;
    for (; m < end; m++) {
      const char* row = reinterpret_cast<const char*>(g.at[t * g.rows + m]);
      for (int64_t k = 0; k < int64_t(sizeof(E)) * g.taps[t].depth; k += 64) __builtin_prefetch(row + k, 0, 3);
    }
  }
};

// One k of all sums. The fewer of rows and vectors wait in registers for the others.
template <class E, int R, int V, class Element>
GENFAST_INLINE void multiply_add(Sums<E> (&acc)[R][V], const E* w, ptrdiff_t w_panel, Element a) {
  using F = Factors<E>;
  using Factor = typename F::Type;
  constexpr int kOfPanel = V == kWide ? kWide : kVectors;
  const auto weights = [&](int v) { return F::columns(w + v / kOfPanel * w_panel + v % kOfPanel * kLanes<E>); };
  const auto add = [&](int r, int v, const Factor& x, const Factor& b) {
    F::add(acc[r][v], x, b);
    if constexpr (!kFillsRegisters<R, V>) keep_in_register(acc[r][v]);
  };
  if constexpr (R < V) {
    Factor x[R];
#pragma GCC unroll 16
    for (int r = 0; r < R; r++) x[r] = F::everywhere(a(r));
#pragma GCC unroll 4
    for (int v = 0; v < V; v++) {
      const Factor b = weights(v);
#pragma GCC unroll 16
      for (int r = 0; r < R; r++) add(r, v, x[r], b);
    }
  } else {
    Factor b[V];
#pragma GCC unroll 4
    for (int v = 0; v < V; v++) b[v] = weights(v);
#pragma GCC unroll 16
    for (int r = 0; r < R; r++) {
      const Factor x = F::everywhere(a(r));
#pragma GCC unroll 4
      for (int v = 0; v < V; v++) add(r, v, x, b[v]);
    }
  }
}

template <class E, int R, int V>
GENFAST_INLINE void store_sums(const Sums<E> (&acc)[R][V], SumOf<E>* sums) {
#pragma GCC unroll 16
  for (int r = 0; r < R; r++)
#pragma GCC unroll 4
    for (int v = 0; v < V; v++) store(sums + (r * V + v) * kLanes<E>, acc[r][v]);
}

// Weights that are not in an L2 cache arrive too late for a tile, and in time for a later panel's tiles if they are asked for
// now: eight rows with 14 MB of weights went from 46 to 79 GFLOP/s. As much as a panel is fetched, in as many shares as it has
// vectors, each kAhead cache lines with every four k: a tile alone fetches them all, several divide them.
constexpr int kAhead = GENFAST_VECTOR_BYTES / 16;
template <int V>
struct Ahead {
  static constexpr int kShares = V == kWide ? kWide : kVectors;
  const char* share[kShares];
  Ahead(const void* panel, int64_t bytes, int64_t tile, int64_t count) {
    const int tiles = count < kShares ? int(count) : kShares, mine = int(tile) % tiles;
    int first = 0;  // of this tile's shares
    while (first * tiles / kShares != mine) first++;
    for (int i = 0; i < kShares; i++)
      share[i] = static_cast<const char*>(panel) + (i * tiles / kShares == mine ? i : first) * (bytes / kShares);
  }
  GENFAST_INLINE void fetch(int u) {
#pragma GCC unroll 4
    for (int i = 0; i < kShares; i++) __builtin_prefetch(share[i] + 64 * u, 0, 2);
  }
  GENFAST_INLINE void advance() {
#pragma GCC unroll 4
    for (int i = 0; i < kShares; i++) share[i] += 64 * kAhead;
  }
};

// The two summations are functions of their own, with nothing else in them: with the epilogue in the same function the compiler
// spills accumulators inside the loop, which costs a third of the speed. Every loop over acc is unrolled, or it would live in
// memory.
template <class E, int R, int V, template <class, int> class Rows>
__attribute__((noinline)) void sum_rows_of_pixels(const Gemm<E>& g, int64_t m, Ahead<V> ahead, SumOf<E>* sums) {
  Sums<E> acc[R][V] = {};
  for (int64_t t = 0; t < g.num_taps; t++) {
    if (g.fetch_rows) Rows<E, R>::fetch(g, t, m + R);
    if (Rows<E, R>::absent(g, t, m)) continue;
    Rows<E, R> a(g, t, m);
    const E* w = g.w + g.taps[t].w * g.w_k;
    int64_t k = g.taps[t].depth;
    for (; k >= 4; k -= 4) {
#pragma GCC unroll 4
      for (int u = 0; u < 4; u++) {
        multiply_add<E, R, V>(acc, w + u * g.w_k, g.w_panel, [&](int r) { return a.at(r, u); });
        if (u < kAhead) ahead.fetch(u);
      }
      ahead.advance();
      a.advance(4);
      w += 4 * g.w_k;
    }
    for (; k > 0; k--) {
      multiply_add<E, R, V>(acc, w, g.w_panel, [&](int r) { return a.at(r, 0); });
      a.advance(1);
      w += g.w_k;
    }
  }
  store_sums<E, R, V>(acc, sums);
}

template <class E, int R, int V>
__attribute__((noinline)) void sum_columns_of_channels(const Gemm<E>& g, int64_t m, SumOf<E>* sums) {
  Sums<E> acc[R][V] = {};
  for (int64_t t = 0; t < g.num_taps; t++) {
    const E* a = g.a + g.taps[t].a + m;
    const E* w = g.w + g.taps[t].w * g.w_k;
    for (int64_t k = g.taps[t].depth; k > 0; k--) {
      multiply_add<E, R, V>(acc, w, g.w_panel, [&](int r) { return a[r]; });
      a += g.a_k;
      w += g.w_k;
    }
  }
  store_sums<E, R, V>(acc, sums);
}

// Columns [n0, n0 + columns) of row m, whose sums these are. What is added to a sum joins last: a large bias at the start would
// cost every partial sum its low bits.
template <class G, class T>
GENFAST_INLINE void finish_row(const G& g, int64_t m, int64_t n0, int64_t columns, const T* sum) {
  T* to = (g.to ? g.to[m] + g.to_column : g.out + m * g.out_row) + n0;
  const T* plus = g.add == Add::kNothing ? nullptr : g.add == Add::kBias ? g.bias + n0 : to;
  int64_t n = 0;
  if (plus) {
    for (; n + kLanes<T> <= columns; n += kLanes<T>) store(to + n, load(sum + n) + load(plus + n));
    for (; n < columns; n++) to[n] = sum[n] + plus[n];
  } else {
    for (; n + kLanes<T> <= columns; n += kLanes<T>) store(to + n, load(sum + n));
    for (; n < columns; n++) to[n] = sum[n];
  }
}

// Rows [m, m + R) of V vectors of columns. Weights that are wider than the output are never written past its end.
template <class E, int R, int V>
void tile(const Gemm<E>& g, int64_t m, const Ahead<V>& ahead) {
  using T = SumOf<E>;
  constexpr int kColumns = V * kLanes<E>;
  alignas(64) T sums[R * kColumns];
  constexpr bool scatters = R <= kScatteredRows<E, V>, columns = V <= kVectors;
  if (scatters && g.at) {
    if constexpr (scatters) sum_rows_of_pixels<E, R, V, ScatteredRows>(g, m, ahead, sums);
  } else if (!columns || g.a_k == 1) {
    sum_rows_of_pixels<E, R, V, SpacedRows>(g, m, ahead, sums);
  } else {
    if constexpr (columns) sum_columns_of_channels<E, R, V>(g, m, sums);
  }
  for (int64_t r = 0; r < R; r++) {
    if (g.columns == kColumns)  // a constant, so that this is a few vector instructions
      finish_row(g, m + r, 0, kColumns, sums + r * kColumns);
    else
      finish_row(g, m + r, 0, g.columns, sums + r * kColumns);
  }
}

template <class E, int R, int V>
GENFAST_INLINE void tile_of(int64_t rows, const Gemm<E>& g, int64_t m, const Ahead<V>& ahead) {
  if (rows == R) return tile<E, R, V>(g, m, ahead);
  if constexpr (R > 1) tile_of<E, R - 1, V>(rows, g, m, ahead);
}

// Rows are split evenly: 32 rows in tiles of at most 14 are 11 + 11 + 10, not 14 + 14 + 4.
template <class E, int V>
GENFAST_INLINE void tiles(const Gemm<E>& g) {
  const int64_t most = g.at ? kScatteredRows<E, V> : kTileRows<E, V>, count = (g.rows + most - 1) / most;
  for (int64_t i = 0, m = 0; i < count; i++) {
    const int64_t rows = (g.rows - m) / (count - i);
    tile_of<E, kTileRows<E, V>, V>(rows, g, m, {g.next, g.w_panel * int64_t(sizeof(E)), i, count});
    m += rows;
  }
}

// The columns from n0 on, at most `most` of them.
template <class E>
GENFAST_INLINE Gemm<E> columns_of(const Gemm<E>& g, int64_t n0, int64_t most) {
  Gemm<E> part = g;
  part.w += n0 / kPanel<E> * g.w_panel;
  part.out += n0;
  part.to_column += n0;
  part.fetch_rows = g.fetch_rows && n0 == 0;
  if (g.add == Add::kBias) part.bias += n0;
  part.next = g.next                   ? g.next + n0 / kPanel<E> * g.w_panel
              : n0 + most < g.columns ? part.w + most / kPanel<E> * g.w_panel
                                      : part.w;
  part.columns = g.columns - n0 < most ? g.columns - n0 : most;
  return part;
}

template <class E>
GENFAST_INLINE void all_tiles(const Gemm<E>& g) {
  int64_t n = 0;
  if (g.wide && g.columns > kPanel<E>) {
    Gemm<E> all = g;
    if (!all.next) all.next = g.w;
    return tiles<E, kWide>(all);
  }
  if (g.rows <= kFewRows<E> && (g.at || g.a_k == 1))
    for (; g.columns - n > kPanel<E>; n += 2 * kPanel<E>) tiles<E, 2 * kVectors>(columns_of(g, n, 2 * kPanel<E>));
  for (; n < g.columns; n += kPanel<E>) {
    const Gemm<E> part = columns_of(g, n, kPanel<E>);
    if (part.columns <= kLanes<E>)
      tiles<E, 1>(part);
    else
      tiles<E, kVectors>(part);
  }
}

}  // namespace

extern const int64_t panel_bytes = kVectors * GENFAST_VECTOR_BYTES;
void tap_gemm(const TapGemm<float>& gemm) { all_tiles<float>(gemm); }
void tap_gemm(const TapGemm<double>& gemm) { all_tiles<double>(gemm); }
void tap_gemm(const TapGemm<BFloat16Pair, float>& gemm) {
#if defined(__AMX_BF16__)
  if (fits_tiles(gemm))
    return product_by_tiles(gemm, [&](int64_t m, int64_t first, int64_t rows, int64_t n, int64_t columns, const float* sums, int64_t row) {
      for (int64_t r = first; r < rows; r++) finish_row(gemm, m + r, n, columns, sums + r * row);
    });
#endif
  all_tiles<BFloat16Pair>(gemm);
}
void narrow(const float* from, BFloat16* to, int64_t n) { copy(from, to, n); }

}  // namespace genfast::GENFAST_ISA
