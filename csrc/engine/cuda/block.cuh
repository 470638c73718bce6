// What a block of threads knows: the program, its images, and where its memory lies.
#pragma once

#include "common/cuda_items.cuh"
#include "common/cuda_shared.cuh"
#include "common/cuda_tile.cuh"
#include "engine/cuda/engine.cuh"
#include "engine/flat.h"

namespace genfast::engine {

using cuda::for_each;

enum Residence { kNothing, kScratch, kWeights, kCaches };

struct Args {
  flat::Header header;
  GenfastCudaRun run;
};

constexpr int64_t kSignals = 16;  // bytes at the beginning of shared memory: what is wrong, for all threads to see

// Rows [row, row + rows) of a launch, computed together; `positions` of the kernel's order from `position` on.
struct Chunk {
  int launch, row, rows, position, positions;
};

struct Block {
  const Args& args;
  int64_t first;  // of its images in the batch
  int images;
  int* wrong;
  int32_t* places[2];
  float *scratch, *weights, *caches;
  int scratch_at, weights_at;  // floats of shared memory that come before them, if they are there

  template <class T>
  __device__ const T* section(int64_t at) const {
    return reinterpret_cast<const T*>(args.run.program + at);
  }
  __device__ const flat::Kernel& kernel(int launch) const {
    return section<flat::Kernel>(args.header.kernels)[section<flat::Launch>(args.header.launches)[launch].kernel];
  }
  __device__ const int32_t* ints() const { return section<int32_t>(args.header.ints); }
  __device__ const float* floats() const { return section<float>(args.header.floats); }
  // Channel 0 of a value in a slot; `before`: floats of one image that come before the value.
  __device__ float* cell(int64_t before, int64_t slot, int64_t image, int64_t channels) const {
    return caches + before * args.run.layout.images + (slot * args.run.layout.images + image) * channels;
  }

  // The rows of a launch from `row` on, or of the next one, that are computed together; rows 0: there are no more before `end`.
  __device__ Chunk chunk(int launch, int row, int end) const {
    for (; launch < end; ++launch, row = 0) {
      const flat::Launch& l = section<flat::Launch>(args.header.launches)[launch];
      const flat::Kernel& k = section<flat::Kernel>(args.header.kernels)[l.kernel];
      const int64_t all = static_cast<int64_t>(l.end - l.begin) * images, left = all - row;
      if (left <= 0) continue;
      int64_t most = args.run.layout.scratch / (k.row > 0 ? k.row : 1);
      if (k.tables > 0) {
        const int64_t fit = (args.run.layout.places / k.tables - 1) * images;
        most = fit < most ? fit : most;
      }
      const int64_t parts = (all + most - 1) / most, even = (all + parts - 1) / parts;  // so that no chunk is much smaller
      const int rows = static_cast<int>(left < even ? left : even);
      const int position = row / images, last = (row + rows - 1) / images;
      return {launch, row, rows, l.begin + position, last - position + 1};
    }
    return {end, 0, 0, 0, 0};
  }

  // Where the rows of a chunk lie: entry q of each table of its kernel, for each of its positions q.
  __device__ void find_places(const Chunk& c, int32_t* to) const {
    if (c.rows == 0) return;
    const flat::Kernel& k = kernel(c.launch);
    const int32_t* order = ints() + k.order + c.position;
    const int64_t* tables = section<int64_t>(args.header.tables) + k.first_table;
    for_each(c.positions, k.tables, [&](int i, int t) { to[i * k.tables + t] = ints()[tables[t] + order[i]]; });
  }
};

// The same memory, for loops whose loads must be those of shared memory: what a pointer points to, a compiler forgets.
template <Residence kResidence>
__device__ inline float* scratch_of(const Block& b) {
  return kResidence == kNothing ? b.scratch : cuda::dynamic_shared<float>() + b.scratch_at;
}
template <Residence kResidence>
__device__ inline const float* weights_of(const Block& b) {
  return kResidence < kWeights ? b.weights : cuda::dynamic_shared<float>() + b.weights_at;
}

// A row of a chunk: an image at a position.
struct RowAt {
  int row, image;
  const int32_t* places;  // of its position
  float* scratch;         // its own

  __device__ RowAt(const Block& b, const flat::Kernel& k, const Chunk& c, const int32_t* all_places, int row) : row(row) {
    const int at = c.row + row, position = at / b.images;
    image = at - position * b.images;
    places = all_places + (position - c.row / b.images) * k.tables;
    scratch = b.scratch + row * k.row;
  }
};

// A slot that a read takes its numbers from, or -1.
__device__ inline int32_t slot_of(const flat::Argument& a, const RowAt& r) { return r.places[a.place]; }

// Lane n of an argument; 0 where nothing is there.
__device__ inline float number(const Block& b, const flat::Argument& a, const RowAt& r, int n) {
  const int64_t lane = static_cast<int64_t>(n) * a.step;
  if (a.from == flat::From::kSlice) return r.scratch[a.at + lane];
  if (a.from == flat::From::kConstant)
    return b.floats()[a.at + (a.place < 0 ? 0 : static_cast<int64_t>(r.places[a.place])) * a.channels + lane];
  const int32_t slot = slot_of(a, r);
  return slot < 0 ? 0.0f : b.cell(a.at, slot, r.image, a.channels)[a.start + lane];
}

}  // namespace genfast::engine
