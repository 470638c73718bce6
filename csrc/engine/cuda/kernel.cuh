// The image loop of a block: draws, and the launches of each tick. Between two barriers nothing reads what another thread writes.
#pragma once

#include "categorical/cuda_draw.cuh"
#include "engine/cuda/block.cuh"
#include "engine/cuda/heads.cuh"
#include "logistic_mixture/cuda_draw.cuh"
#include "pointwise/cuda_pointwise.cuh"

namespace genfast::engine {

__device__ inline void do_step(const Block& b, const flat::Kernel& k, const flat::Step& step, const RowAt& r, int n) {
  if (step.op == flat::kStore) {
    const int32_t slot = slot_of(step.args[1], r);
    if (slot >= 0)
      b.cell(step.args[1].at, slot, r.image, step.args[1].channels)[step.args[1].start + n] = number(b, step.args[0], r, n);
    return;
  }
  float result;
  if (step.op == flat::kTheHead) {
    result = head_number(b, k, step, r, n);
  } else {
    const PointwiseOp op = static_cast<PointwiseOp>(step.op);
    const float a = number(b, step.args[0], r, n);
    const float second = op >= PointwiseOp::add ? number(b, step.args[1], r, n) : 0.0f;
    const float third = op == PointwiseOp::where ? number(b, step.args[2], r, n) : 0.0f;
    result = cuda::pointwise(op, a, second, third);
  }
  r.scratch[step.to + n] = result;
}

template <Residence kResidence>
__device__ inline void compute(const Block& b, const Chunk& c, const int32_t* places) {
  const flat::Kernel& k = b.kernel(c.launch);
  if (k.depth > 0) {
    gather(b, k, c, places);
    __syncthreads();
    if (k.head == flat::HeadKind::kReduce) {
      cuda::reduce_groups(static_cast<ReduceKind>(k.reduce), reduce_rows(b, k, c.rows));
    } else {
      products<kResidence>(b, k, c.rows);
      __syncthreads();
    }
  }
  if (k.head == flat::HeadKind::kAttend) attend(b, k, c, places);
  const flat::Phase* phases = b.section<flat::Phase>(b.args.header.phases) + k.first_phase;
  const flat::Step* steps = b.section<flat::Step>(b.args.header.steps);
  for (int p = 0; p < k.phases; ++p) {
    const flat::Phase& phase = phases[p];
    for_each(c.rows, phase.lanes, [&](int row, int n) {
      const RowAt r(b, k, c, places, row);
      for (int s = phase.first; s < phase.end; ++s)
        if (n < steps[s].width) do_step(b, k, steps[s], r, n);
    });
    __syncthreads();
  }
}

// A sub-pixel of one image.
struct Pair {
  const flat::Draw& draw;
  int64_t pixel, image, place;  // the image of the block; the sub-pixel in the batch

  __device__ Pair(const Block& b, int64_t first_draw, int index)
      : Pair(b, b.section<flat::SubPixel>(b.args.header.draw_order)[first_draw + index / b.images], index % b.images) {}
  __device__ Pair(const Block& b, flat::SubPixel at, int64_t image)
      : draw(b.section<flat::Draw>(b.args.header.draws)[at.channel]), pixel(at.pixel), image(image),
        place(((b.first + image) * b.args.header.channels + at.channel) * b.args.header.pixels + pixel) {}

  __device__ const float* params(const Block& b) const {
    const int32_t slot = b.ints()[draw.slots + pixel];
    return b.cell(draw.params.at, slot, image, draw.params.channels) + draw.params.start;
  }
};

// Draws the sub-pixels of a tick. False: something is wrong, and all threads know it.
static __device__ __noinline__ bool draw(const Block& b, int64_t tick) {
  const flat::Header& h = b.args.header;
  const GenfastCudaRun& run = b.args.run;
  const GenfastCudaRequest& request = run.request;
  const int32_t* first_draw = b.section<int32_t>(h.first_draw) + tick;
  const cuda::DrawOptions options = {static_cast<int>(h.levels), request.temperature, request.top_k, request.top_p};
  const cuda::MixtureOptions mixture = {options, static_cast<int>(h.components), static_cast<int>(h.channels), h.min_log_scale};
  const bool is_mixture = h.likelihood == flat::Likelihood::kLogisticMixture;
  const int64_t each = is_mixture ? cuda::MixtureDrawMemory::doubles(mixture) : cuda::LevelMemory::doubles(options);
  const int all = (first_draw[1] - first_draw[0]) * b.images, most = static_cast<int>(run.layout.scratch / (2 * each));
  for (int begin = 0; begin < all; begin += most) {
    const int count = all - begin < most ? all - begin : most;
    const auto rows_of = [&](int index) {
      const Pair at(b, first_draw[0], begin + index);
      const bool known = run.known[(b.first + at.image) * h.pixels + at.pixel] != 0;
      double* log_prob = run.log_probs ? run.log_probs + at.place : nullptr;
      return cuda::DrawRow{at.params(b), run.images + at.place,    log_prob,
                           run.uniforms[at.place], known, !known || log_prob != nullptr};
    };
    double* memory = reinterpret_cast<double*>(b.scratch);
    if (is_mixture)
      cuda::draw_logistic_mixture(mixture, count, rows_of, memory, b.wrong);
    else
      cuda::draw_categorical(options, h.likelihood == flat::Likelihood::kBernoulli, count, rows_of, memory, b.wrong);
    for_each(count, 1, [&](int index, int) {
      const Pair at(b, first_draw[0], begin + index);
      const int32_t level = run.images[at.place], slot = b.ints()[at.draw.input_slots + at.pixel];
      if (level < 0 || level >= h.levels) *b.wrong = cuda::NO_LEVEL;
      if (slot >= 0) *b.cell(at.draw.input, slot, at.image, 1) = static_cast<float>(level);
    });
    if (run.params) {
      for_each(count, static_cast<int>(h.params), [&](int index, int n) {
        const Pair at(b, first_draw[0], begin + index);
        run.params[at.place * h.params + n] = at.params(b)[n];
      });
    }
    __syncthreads();  // the caches may be read, and the memory written again
  }
  if (*b.wrong == 0) return true;
  *run.wrong = *b.wrong;
  return false;
}

__device__ inline void copy(const float* from, float* to, int64_t count) {
  for (int64_t i = threadIdx.x; i < count; i += blockDim.x) to[i] = from[i];
}

// kResidence: kNothing, kScratch, or kWeights, where the caches may be in shared memory too. One block has a multiprocessor to
// itself: without the 1 ptxas may leave room for a second, whose shared memory there is not, and keeps sums elsewhere.
template <Residence kResidence>
__global__ void __launch_bounds__(flat::kThreads, 1) run_ticks(const __grid_constant__ Args args) {
  const flat::Header& h = args.header;
  const GenfastCudaLayout& layout = args.run.layout;
  unsigned char* shared = cuda::dynamic_shared<unsigned char>();
  unsigned char* own = args.run.memory + blockIdx.x * layout.block_bytes;
  unsigned char* at = kResidence == kNothing ? own : shared + kSignals;
  const int64_t first = blockIdx.x * layout.images, left = args.run.request.n - first;
  Block b = {args, first, static_cast<int>(left < layout.images ? left : layout.images), reinterpret_cast<int*>(shared),
             {nullptr, nullptr}, nullptr, nullptr, nullptr, 0, 0};
  b.places[0] = reinterpret_cast<int32_t*>(at);
  b.places[1] = b.places[0] + layout.places;
  b.scratch = reinterpret_cast<float*>(b.places[1] + layout.places);
  float* next = b.scratch + layout.scratch;
  const float* weights = b.section<float>(h.weights);
  float* caches = args.run.caches + blockIdx.x * layout.cache_floats;
  b.weights = const_cast<float*>(weights), b.caches = caches;
  if constexpr (kResidence >= kWeights) {
    b.weights = next, next += h.weight_floats;
    copy(weights, b.weights, h.weight_floats);
  }
  if (kResidence >= kWeights && layout.residence == kCaches) {
    b.caches = next;
    copy(caches, b.caches, layout.cache_floats);
  }
  if constexpr (kResidence >= kScratch) {
    b.scratch_at = static_cast<int>(b.scratch - reinterpret_cast<float*>(shared));
    b.weights_at = b.scratch_at + static_cast<int>(layout.scratch);
  }
  if (threadIdx.x == 0) *b.wrong = 0;

  const int32_t* first_launch = b.section<int32_t>(h.first_launch);
  const int end = first_launch[args.run.last_tick + 2];
  int turn = 0;
  Chunk c = b.chunk(first_launch[args.run.first_tick + 1], 0, end);
  b.find_places(c, b.places[turn]);
  __syncthreads();
  bool sound = true;
  for (int64_t tick = args.run.first_tick; sound && tick <= args.run.last_tick; ++tick) {
    if (tick >= 0) sound = draw(b, tick);
    while (sound && c.rows > 0 && c.launch < first_launch[tick + 2]) {
      // Where the next rows lie is looked up while these are computed: it depends on nothing that is drawn.
      const Chunk following = b.chunk(c.launch, c.row + c.rows, end);
      b.find_places(following, b.places[1 - turn]);
      compute<kResidence>(b, c, b.places[turn]);
      c = following, turn = 1 - turn;
    }
  }
  if (b.caches != caches) copy(b.caches, caches, layout.cache_floats);
}

}  // namespace genfast::engine
