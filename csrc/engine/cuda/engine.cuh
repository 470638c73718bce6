// A batch on its way through a flat program (engine/flat.h) on a GPU, as seen from C and Python without CUDA or torch headers:
// genfast/sampling/cuda.py has the same structures. Streams, memory and errors are as in common/cuda_types.cuh; nothing waits for
// the device.
//
// A block of threads owns a few images and runs the whole image loop for them, so that blocks never wait for one another.
#pragma once

#include <cstdint>

struct CUstream_st;

extern "C" {

// What is asked for beside the arrays.
struct GenfastCudaRequest {
  const void* header;  // a flat::Header, on the host
  int64_t n;           // images
  double temperature;
  int64_t top_k;
  double top_p;
};

// How a batch is shared out, and what memory it takes.
struct GenfastCudaLayout {
  int64_t images;        // of a block; of the last there may be fewer
  int64_t blocks;
  int64_t residence;     // what lies in shared memory: 0 nothing, 1 the scratch memory, 2 the weights too, 3 the caches too
  int64_t shared;        // bytes of it
  int64_t places;        // ints that say where the rows of a chunk lie; there are two of them
  int64_t scratch;       // floats
  int64_t block_bytes;   // of device memory, for each block: what of these two is not in shared memory
  int64_t cache_floats;  // of a block
};

struct GenfastCudaRun {
  GenfastCudaRequest request;
  GenfastCudaLayout layout;
  const unsigned char* program;  // flat::Header::bytes
  float* caches;                 // [blocks, cache_floats]: of each value [slots, images, channels]
  unsigned char* memory;         // [blocks, block_bytes]
  int32_t* images;               // [n, C, H * W]: read where known, written elsewhere
  const uint8_t* known;          // [n, H * W]
  const double* uniforms;        // [n, C, H * W]
  double* log_probs;             // null, or [n, C, H * W]
  float* params;                 // null, or [n, C, H * W, params]
  int32_t* wrong;                // 0, or what ended the run: 1 the network's output is no distribution, 2 a level is out of range
  int64_t threads;               // of a block, at most flat::kThreads; 0: so many
  int64_t first_tick, last_tick;
};

// Asks the current device for its multiprocessors and shared memory. images, most_residence: -1: as many as are best.
__attribute__((visibility("default"))) int genfast_cuda_layout(const GenfastCudaRequest* request, int64_t images,
                                                               int64_t most_residence, GenfastCudaLayout* layout);

// Ticks first_tick .. last_tick, of which -1 is that of the launches before the first draw. One launch.
__attribute__((visibility("default"))) int genfast_cuda_run(const GenfastCudaRun* run, CUstream_st* stream);

}  // extern "C"
