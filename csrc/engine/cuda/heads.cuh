// The heads of kernels: products of gathered numbers with weights, attention, and the others.
#pragma once

#include "attend/cuda_attend.cuh"
#include "common/cuda_convert.cuh"
#include "common/cuda_math.cuh"
#include "engine/cuda/block.cuh"
#include "reduce/cuda_reduce.cuh"

namespace genfast::engine {

using Four = cuda::Vector<float, 4>;

__device__ inline Four four_at(const float* p) { return *reinterpret_cast<const Four*>(p); }

// As the factor of a product: rounded to bfloat16 where that is asked.
__device__ inline float factor(float v, bool rounds) {
  return rounds ? cuda::widen(__float2bfloat16_rn(v)) : v;
}

// What a Linear multiplies or a Reduce reduces, side by side in each row's scratch memory; zeros where nothing is.
__device__ inline void gather(const Block& b, const flat::Kernel& k, const Chunk& c, const int32_t* places) {
  const int32_t* source = b.ints() + k.source;
  const flat::Piece* pieces = b.section<flat::Piece>(b.args.header.pieces) + k.first_piece;
  const bool rounds = b.args.header.bfloat16 && k.head == flat::HeadKind::kLinear;
  if (k.vectors) {
    for_each(c.rows, k.depth / 4, [&](int row, int group) {
      const RowAt r(b, k, c, places, row);
      const int n = 4 * group;
      const flat::Piece& piece = pieces[source[n]];
      const int32_t slot = slot_of(piece.from, r);
      Four v = {};
      if (slot >= 0)
        v = four_at(b.cell(piece.from.at, slot, r.image, piece.from.channels) + piece.from.start + n - piece.start);
      for (float& x : v.v) x = factor(x, rounds);
      *reinterpret_cast<Four*>(r.scratch + k.gathered + n) = v;
    });
    return;
  }
  for_each(c.rows, k.depth, [&](int row, int n) {
    const RowAt r(b, k, c, places, row);
    const int piece = source[n];
    const float v = piece < 0 ? 0.0f : number(b, pieces[piece].from, r, n - pieces[piece].start);
    r.scratch[k.gathered + n] = factor(v, rounds);
  });
}

// The products of one slice of the depth: rows [first, first + kRows) of the chunk, as far as there are so many, and four columns.
template <int kRows>
__device__ inline void multiply(const flat::Kernel& k, float* scratch, const float* weights, int rows, int first, int slice,
                                int column) {
  const int begin = slice * k.slice, end = begin + k.slice < k.depth ? begin + k.slice : k.depth, columns = k.columns;
  int a[kRows];
#pragma unroll
  for (int m = 0; m < kRows; ++m) a[m] = (first + m < rows ? first + m : first) * k.row + k.gathered;
  const float* w = weights + static_cast<int64_t>(begin) * columns + column;
  float sums[kRows][4] = {};
#pragma unroll 2
  for (int d = begin; d < end; d += 4, w += 4 * columns) {
    Four of[4];
#pragma unroll
    for (int i = 0; i < 4; ++i) of[i] = four_at(w + i * columns);
#pragma unroll
    for (int m = 0; m < kRows; ++m) {
      const Four x = four_at(scratch + a[m] + d);
#pragma unroll
      for (int i = 0; i < 4; ++i)
#pragma unroll
        for (int n = 0; n < 4; ++n) sums[m][n] = cuda::fma_of(x.v[i], of[i].v[n], sums[m][n]);
    }
  }
#pragma unroll
  for (int m = 0; m < kRows; ++m) {
    if (first + m >= rows) continue;
    float* to = scratch + (first + m) * k.row + k.partial + slice * columns + column;
    *reinterpret_cast<Four*>(to) = {{sums[m][0], sums[m][1], sums[m][2], sums[m][3]}};
  }
}

// Every slice of every row, as many rows at a time by a thread as share its weights.
template <int kRows>
__device__ inline void multiply_all(const flat::Kernel& k, float* scratch, const float* weights, int rows) {
  for_each((rows + kRows - 1) / kRows * k.slices, k.columns / 4, [&](int item, int column) {
    multiply<kRows>(k, scratch, weights, rows, item / k.slices * kRows, item % k.slices, 4 * column);
  });
}

template <Residence kResidence>
__device__ inline void products(const Block& b, const flat::Kernel& k, int rows) {
  float* scratch = scratch_of<kResidence>(b);
  const float* weights = weights_of<kResidence>(b) + k.weight;
  if (rows == 1) return multiply_all<1>(k, scratch, weights, rows);
  if (rows <= 4) return multiply_all<4>(k, scratch, weights, rows);
  multiply_all<8>(k, scratch, weights, rows);
}

__device__ inline cuda::ReduceRows reduce_rows(const Block& b, const flat::Kernel& k, int rows) {
  return {b.scratch + k.gathered, b.scratch + k.partial, k.row, rows, k.reduced, k.eps};
}

__device__ inline const flat::Attention& attention_of(const Block& b, const flat::Kernel& k) {
  return b.section<flat::Attention>(b.args.header.attentions)[k.attention];
}

__device__ inline cuda::AttendShape shape_of(const flat::Attention& a) {
  return {a.heads, a.depth, a.width, a.keys, a.slices, a.scale, a.vectors != 0};
}

// What a row of an Attend asks, sees, and keeps in its scratch memory.
__device__ inline cuda::AttendQuery query_of(const Block& b, const flat::Attention& a, const RowAt& r) {
  const auto cache = [&](const flat::Argument& from, int32_t slot) {
    return slot < 0 ? nullptr : b.cell(from.at, slot, r.image, from.channels) + from.start;
  };
  const int32_t begin = r.places[a.begin];
  const int64_t images = b.args.run.layout.images;
  return {cache(a.query, slot_of(a.query, r)),
          cache(a.key, 0),
          cache(a.value, 0),
          images * a.key.channels,
          images * a.value.channels,
          b.ints() + a.key_slots + begin,
          b.ints() + a.value_slots + begin,
          a.bias < 0 ? nullptr : b.floats() + a.bias + static_cast<int64_t>(begin) * a.heads,
          r.places[a.end] - begin,
          r.scratch + a.scores,
          r.scratch + a.states,
          r.scratch + a.sums};
}

__device__ inline void attend(const Block& b, const flat::Kernel& k, const Chunk& c, const int32_t* places) {
  const flat::Attention& a = attention_of(b, k);
  int most = 0;
  for (int i = 0; i < c.positions; ++i) {
    const int32_t* at = places + i * k.tables;
    most = at[a.end] - at[a.begin] > most ? at[a.end] - at[a.begin] : most;
  }
  cuda::attend(shape_of(a), c.rows, most, [&](int row) { return query_of(b, a, RowAt(b, k, c, places, row)); });
}

// Number n of a head's result, when its products, groups or sums are there.
__device__ inline float head_number(const Block& b, const flat::Kernel& k, const flat::Step& step, const RowAt& r, int n) {
  const flat::Piece* pieces = b.section<flat::Piece>(b.args.header.pieces) + k.first_piece;
  switch (k.head) {
    case flat::HeadKind::kNone: break;
    case flat::HeadKind::kLinear: {
      float total = 0;
      for (int s = 0; s < k.slices; ++s) total += r.scratch[k.partial + s * k.columns + n];
      return total + number(b, step.args[0], r, n);
    }
    case flat::HeadKind::kLookup: {
      const float index = number(b, pieces[0].from, r, 0), last = static_cast<float>(k.entries - 1);
      const int64_t entry = index >= last ? k.entries - 1 : index > 0 ? static_cast<int64_t>(index) : 0;
      return b.floats()[k.weight + entry * k.width + n];
    }
    case flat::HeadKind::kReduce:
      return cuda::reduced(static_cast<ReduceKind>(k.reduce), reduce_rows(b, k, 0), r.row, n);
    case flat::HeadKind::kAttend: {
      const flat::Attention& a = attention_of(b, k);
      return cuda::attended(shape_of(a), query_of(b, a, r), n);
    }
    case flat::HeadKind::kCopy:
      for (int p = k.pieces - 1; p >= 0; --p) {  // a later piece over an earlier
        const flat::Piece& piece = pieces[p];
        if (n < piece.start || n >= piece.end) continue;
        if (piece.from.from == flat::From::kRead && slot_of(piece.from, r) < 0) continue;
        return number(b, piece.from, r, n - piece.start);
      }
      break;
  }
  return ::nanf("");  // what no piece of a copy covers
}

}  // namespace genfast::engine
