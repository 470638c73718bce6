// Products of bfloat16 pairs by Intel's AMX tiles: up to 16 rows of sums by 16 columns, to which one instruction adds the products
// of 16 rows of 16 pairs with 16 pairs of 16 columns, in as many cycles as there are rows: 16 times the rate of float32. Rows
// are few when one samples, so what remains is to read the weights, which the packed layout holds as tiles want them.
#pragma once

#include <immintrin.h>

#include "tap_gemm/cpu.h"

namespace genfast::GENFAST_ISA {
namespace {

constexpr int kTileSize = 16;  // rows, columns, and pairs in k
// The tiles: four of sums, rows and weights of 16 pairs, and the same of the pairs that are left over. Their numbers become part of
// the instructions' names, hence the macros here and below.
#define GENFAST_SUMS 4
#define GENFAST_ROWS_TILE 4
#define GENFAST_WEIGHTS_TILE 5
#define GENFAST_REST_ROWS_TILE 6
#define GENFAST_REST_WEIGHTS_TILE 7

struct alignas(64) TileShapes {
  uint8_t palette = 1, start = 0, reserved[14] = {};
  uint16_t row_bytes[16] = {};
  uint8_t rows[16] = {};
  TileShapes(int m, int rest) {
    for (int i = 0; i < GENFAST_SUMS; i++) shape(i, m, kTileSize);
    shape(GENFAST_ROWS_TILE, m, kTileSize);
    shape(GENFAST_WEIGHTS_TILE, kTileSize, kTileSize);
    if (rest == 0) return;
    shape(GENFAST_REST_ROWS_TILE, m, rest);
    shape(GENFAST_REST_WEIGHTS_TILE, rest, kTileSize);
  }
  void shape(int tile, int height, int width) { rows[tile] = uint8_t(height), row_bytes[tile] = uint16_t(4 * width); }
};

// From one row of a to the next, in k and between panels, in bytes; and what lies where.
struct TileOperands {
  const char *a, *w;
  int64_t a_row, w_k, w_panel;
  int per_panel;       // vectors of a panel
  const char* fetch;   // null, or what to fetch meanwhile: as many bytes as there are weights
};

// Adds the products of `depth` pairs to V tiles of sums.
template <int V>
GENFAST_INLINE void add_products(const TileOperands& o, int64_t depth) {
  const char *a = o.a, *w[V];
  for (int v = 0; v < V; v++) w[v] = o.w + v / o.per_panel * o.w_panel + v % o.per_panel * 64;
  const char* fetch = o.fetch;
#define GENFAST_ADD(N, ROWS, WEIGHTS)                    \
  if constexpr (V > N) {                                 \
    _tile_loadd(WEIGHTS, w[N < V ? N : 0], o.w_k);       \
    _tile_dpbf16ps(N, ROWS, WEIGHTS);                    \
  }
#define GENFAST_ADD_ALL(ROWS, WEIGHTS) \
  _tile_loadd(ROWS, a, o.a_row);       \
  GENFAST_ADD(0, ROWS, WEIGHTS) GENFAST_ADD(1, ROWS, WEIGHTS) GENFAST_ADD(2, ROWS, WEIGHTS) GENFAST_ADD(3, ROWS, WEIGHTS)
  for (; depth >= kTileSize; depth -= kTileSize) {
    if (fetch) {
      for (int i = 0; i < V * kTileSize; i++) __builtin_prefetch(fetch + 64 * i, 0, 2);
      fetch += 64 * V * kTileSize;
    }
    GENFAST_ADD_ALL(GENFAST_ROWS_TILE, GENFAST_WEIGHTS_TILE)
    a += 4 * kTileSize;
    for (int v = 0; v < V; v++) w[v] += kTileSize * o.w_k;
  }
  if (depth == 0) return;
  if (fetch)
    for (int i = 0; i < V * int(depth); i++) __builtin_prefetch(fetch + 64 * i, 0, 2);
  GENFAST_ADD_ALL(GENFAST_REST_ROWS_TILE, GENFAST_REST_WEIGHTS_TILE)
#undef GENFAST_ADD_ALL
#undef GENFAST_ADD
}

// `rows` sums of V vectors of columns, for rows m and on.
template <int V>
void sum_tiles(const TapGemm<BFloat16Pair, float>& g, int64_t m, bool fetch, float* sums) {
  _tile_zero(0);
  if constexpr (V > 1) _tile_zero(1);
  if constexpr (V > 2) _tile_zero(2);
  if constexpr (V > 3) _tile_zero(3);
  const char* next = fetch ? reinterpret_cast<const char*>(g.next) : nullptr;
  for (int64_t t = 0; t < g.num_taps; t++) {
    const Tap& tap = g.taps[t];
    add_products<V>({reinterpret_cast<const char*>(g.a + tap.a + m * tap.a_row), reinterpret_cast<const char*>(g.w + tap.w * g.w_k),
                     4 * tap.a_row, 4 * g.w_k, 4 * g.w_panel, g.wide ? 3 : 2, next},
                    tap.depth);
    if (next) next += 64 * V * tap.depth;
  }
  _tile_stored(0, sums, 64 * V);
  if constexpr (V > 1) _tile_stored(1, sums + kTileSize, 64 * V);
  if constexpr (V > 2) _tile_stored(2, sums + 2 * kTileSize, 64 * V);
  if constexpr (V > 3) _tile_stored(3, sums + 3 * kTileSize, 64 * V);
}

// Whether tiles can do it: their shapes are set once, so there is one number of pairs left over.
inline bool fits_tiles(const TapGemm<BFloat16Pair, float>& g) { return !g.at && g.a_k == 1 && g.num_taps == 1; }

// finish(m, first, rows, n0, columns, sums, row of sums) stores rows [first, rows) of those that start at m.
template <class Finish>
void product_by_tiles(const TapGemm<BFloat16Pair, float>& g, const Finish& finish) {
  if (g.rows <= 0) return;
  // All tiles have as many rows: the last overlaps with the one before it, and stores only what is new.
  const int64_t count = (g.rows + kTileSize - 1) / kTileSize, rows = (g.rows + count - 1) / count;
  const TileShapes shapes(int(rows), int(g.taps[0].depth % kTileSize));
  alignas(64) float sums[kTileSize * 4 * kTileSize];
  _tile_loadconfig(&shapes);
  const int per_panel = g.wide ? 3 : 2;
  for (int64_t n = 0, vectors; n < g.columns; n += vectors * kTileSize) {
    const int64_t left = (g.columns - n + kTileSize - 1) / kTileSize, most = g.wide ? 3 : 4;
    vectors = left < most ? left : most;
    TapGemm<BFloat16Pair, float> part = g;
    const int64_t offset = n / kTileSize / per_panel * g.w_panel + n / kTileSize % per_panel * kTileSize;
    part.w += offset;
    if (g.next) part.next = g.next + offset;
    for (int64_t i = 0, done = 0; i < count; i++) {
      const int64_t m = i + 1 < count ? i * rows : g.rows - rows;
      const bool fetch = g.next && i == 0;
      switch (vectors) {
        case 1: sum_tiles<1>(part, m, fetch, sums); break;
        case 2: sum_tiles<2>(part, m, fetch, sums); break;
        case 3: sum_tiles<3>(part, m, fetch, sums); break;
        default: sum_tiles<4>(part, m, fetch, sums);
      }
      finish(m, done - m, rows, n, g.columns - n < vectors * kTileSize ? g.columns - n : vectors * kTileSize, sums, vectors * kTileSize);
      done = m + rows;
    }
  }
  _tile_release();
}

}  // namespace
}  // namespace genfast::GENFAST_ISA
