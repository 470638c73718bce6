// Starting the image loop: how many images a block owns, and what lies in its shared memory. The loop is in kernel.cuh.
#include "engine/cuda/engine.cuh"

#include <algorithm>

#include "common/cuda_launch.cuh"
#include "engine/cuda/kernel.cuh"

namespace {

using namespace genfast::engine;
using genfast::cuda::device_attribute;

constexpr int64_t kMostImages = 64;    // of a block: what more would share no more weights, but wait for one another
constexpr int64_t kWantedRows = 8;     // of the widest kernel, that share their weights in registers
constexpr int64_t kMostRows = 64;      // of it, worked on at a time; more would only take memory
constexpr int64_t kFewPlaces = 1024;   // ints
constexpr int64_t kMostPlaces = 4096;  // ints in shared memory

int64_t round_up(int64_t value, int64_t unit) { return (value + unit - 1) / unit * unit; }

// Floats of scratch memory that drawing a sub-pixel takes.
int64_t draw_floats(const flat::Header& h, const GenfastCudaRequest& r) {
  const genfast::cuda::DrawOptions options = {int(h.levels), r.temperature, r.top_k, r.top_p};
  if (h.likelihood != flat::Likelihood::kLogisticMixture) return 2 * genfast::cuda::LevelMemory::doubles(options);
  return 2 * genfast::cuda::MixtureDrawMemory::doubles({options, int(h.components), int(h.channels), h.min_log_scale});
}

}  // namespace

extern "C" int genfast_cuda_layout(const GenfastCudaRequest* request, int64_t images, int64_t most_residence,
                                   GenfastCudaLayout* out) {
  const flat::Header& h = *static_cast<const flat::Header*>(request->header);
  const int64_t multiprocessors = device_attribute(cudaDevAttrMultiProcessorCount);
  const int64_t room = device_attribute(cudaDevAttrMaxSharedMemoryPerBlockOptin);
  if (multiprocessors < 1) return int(cudaErrorInvalidValue);
  *out = {};
  // One block for a multiprocessor, in which images share each look at the weights.
  const int64_t even = (request->n + multiprocessors - 1) / multiprocessors;
  out->images = images > 0 ? images : std::clamp<int64_t>(even, 1, kMostImages);
  out->blocks = (request->n + out->images - 1) / out->images;
  out->cache_floats = h.cache_floats * out->images;
  out->places = round_up(std::max(kFewPlaces, 2 * h.most_tables), 4);

  const int64_t draws = draw_floats(h, *request);
  const int64_t least = std::max(std::min(kWantedRows, out->images) * h.most_row, draws);
  const int64_t wanted = std::max(kMostRows * h.most_row, out->images * draws);
  const int64_t fixed = kSignals + 2 * 4 * out->places, weights = 4 * h.weight_floats, caches = 4 * out->cache_floats;
  const auto fits = [&](Residence residence, int64_t bytes) {
    const bool asked = most_residence < 0 || residence <= most_residence;
    return asked && out->places <= kMostPlaces && fixed + 4 * round_up(least, 4) + bytes <= room;
  };
  const Residence residence = fits(kCaches, weights + caches) ? kCaches
                              : fits(kWeights, weights)       ? kWeights
                              : fits(kScratch, 0)             ? kScratch
                                                              : kNothing;
  out->residence = residence;
  if (residence == kNothing) {
    out->scratch = round_up(wanted, 4);
    out->shared = kSignals;
    out->block_bytes = round_up(2 * 4 * out->places + 4 * out->scratch, 256);
    return 0;
  }
  const int64_t taken = fixed + (residence >= kWeights ? weights : 0) + (residence == kCaches ? caches : 0);
  out->scratch = std::min(round_up(wanted, 4), (room - taken) / 16 * 4);
  out->shared = taken + 4 * out->scratch;
  return 0;
}

extern "C" int genfast_cuda_run(const GenfastCudaRun* run, CUstream_st* stream) {
  const GenfastCudaLayout& layout = run->layout;
  if (layout.blocks == 0 || run->first_tick > run->last_tick) return 0;
  const Args args = {*static_cast<const flat::Header*>(run->request.header), *run};
  const int threads = run->threads > 0 ? int(run->threads) : flat::kThreads;
  const auto start = [&](auto kernel) {
    return int(genfast::cuda::launch_in_clusters(kernel, dim3(unsigned(layout.blocks)), 1, threads, layout.shared, stream, args));
  };
  switch (layout.residence) {
    case kNothing: return start(run_ticks<kNothing>);
    case kScratch: return start(run_ticks<kScratch>);
    default: return start(run_ticks<kWeights>);
  }
}
