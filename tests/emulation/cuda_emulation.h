// Tests only: enough of CUDA to run SIMT kernels on a CPU, one block after another, each CUDA thread a fiber.
//
// A fiber runs until __syncthreads() or its end; then the next one runs. Between two barriers the threads of a block run
// one after another, in rising order and in falling order by turns, and in the next block the other way round: a kernel
// that lacks a barrier reads what is not there yet, or overwrites what is still needed, and gives wrong numbers. The
// blocks of a cluster take turns, each as far as its next barrier. A barrier that only some threads or blocks reach ends
// the process. Under AddressSanitizer every access outside an array or a buffer is found, and to the shared memory of a
// block that has ended. What is not emulated: warps, order of memory within a phase, textures, tensor cores, time. A pass
// is called "emulated", never "tested on a GPU".
//
// GENFAST_EMULATED_TOGETHER=1 runs two blocks, or clusters, at a time, by turns: they may not use one another's memory.
// Those, and clusters, must have all of their shared memory from the launch: static __shared__ arrays are one for all.
// GENFAST_EMULATED_GPU=<bytes of shared memory of a block>,<multiprocessors>,<clusters: 0 or 1>,<architecture that the
// code is for> is the GPU, asked at every launch; without it an H100. GENFAST_EMULATED_DRY=1 checks and records launches,
// but runs none.
#pragma once

#include <ucontext.h>

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <map>
#include <string>
#include <vector>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/common_interface_defs.h>
#else
inline void __sanitizer_start_switch_fiber(void**, const void*, size_t) {}
inline void __sanitizer_finish_switch_fiber(void*, const void**, size_t*) {}
#endif

#define __global__
#define __device__
#define __host__
#define __launch_bounds__(...)
#define __grid_constant__
#define __noinline__
#define __shared__ static

struct dim3 {
    unsigned x, y, z;
    constexpr dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
};
inline dim3 threadIdx, blockIdx, blockDim, gridDim;

struct CUstream_st;
using cudaStream_t = CUstream_st*;
enum cudaError_t { cudaSuccess = 0, cudaErrorInvalidValue = 1 };
inline cudaError_t cudaGetLastError() { return cudaSuccess; }
inline const char* cudaGetErrorString(cudaError_t error) { return error ? "invalid argument" : "no error"; }

enum cudaDeviceAttr {
    cudaDevAttrMaxSharedMemoryPerBlockOptin = 0,
    cudaDevAttrMultiProcessorCount = 1,
    cudaDevAttrClusterLaunch = 2,
    emulatedArchitecture = 3,
};
inline cudaError_t cudaGetDevice(int* device) {
    *device = 0;
    return cudaSuccess;
}
inline cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr which, int) {
    const char* gpu = std::getenv("GENFAST_EMULATED_GPU");
    int all[4] = {227 * 1024, 132, 1, 90};
    if (gpu && std::sscanf(gpu, "%d,%d,%d,%d", all, all + 1, all + 2, all + 3) != 4) return cudaErrorInvalidValue;
    *value = all[which];
    return cudaSuccess;
}

struct cudaFuncAttributes {
    int ptxVersion;
};
template <typename... Parameters>
cudaError_t cudaFuncGetAttributes(cudaFuncAttributes* to, void (*)(Parameters...)) {
    return cudaDeviceGetAttribute(&to->ptxVersion, emulatedArchitecture, 0);
}

enum cudaLaunchAttributeID { cudaLaunchAttributeClusterDimension };
struct cudaLaunchAttribute {
    cudaLaunchAttributeID id;
    struct {
        struct {
            unsigned x, y, z;
        } clusterDim;
    } val;
};
struct cudaLaunchConfig_t {
    dim3 gridDim, blockDim;
    size_t dynamicSmemBytes;
    cudaStream_t stream;
    cudaLaunchAttribute* attrs;
    unsigned numAttrs;
};

namespace emulation {

constexpr size_t STACK = 256 * 1024;

enum State { RUNNING, AT_BARRIER, AT_CLUSTER_BARRIER, ENDED };

struct Fiber {
    ucontext_t context;
    char* stack;
    dim3 index;
    void* sanitizer;  // AddressSanitizer's own record of this stack
    State state;
};

struct Block {
    dim3 index;
    std::vector<unsigned char> shared;  // dynamic shared memory, of its exact size
    Fiber* threads;
    unsigned rank;  // in its cluster
    State state;
    unsigned phase;
};

inline ucontext_t scheduler;
inline void* scheduler_sanitizer;
inline const void* scheduler_stack;
inline size_t scheduler_stack_size;
inline std::vector<Fiber> fibers;
inline Fiber* running;
inline std::function<void()> body;
inline unsigned blocks;  // how many there were so far
inline std::vector<Block> together;
inline Block* block;  // whose thread runs
inline std::map<const void*, size_t> granted;  // kernel -> more than 48 KB of shared memory, if it asked
inline long long launched[4];  // blocks, blocks of a cluster, threads, bytes of shared memory: of the latest launch

inline void leave(State state) {
    Fiber* fiber = running;
    fiber->state = state;
    void** keep = state == ENDED ? nullptr : &fiber->sanitizer;
    __sanitizer_start_switch_fiber(keep, scheduler_stack, scheduler_stack_size);
    swapcontext(&fiber->context, &scheduler);
    __sanitizer_finish_switch_fiber(fiber->sanitizer, &scheduler_stack, &scheduler_stack_size);
}

inline void start() {
    __sanitizer_finish_switch_fiber(nullptr, &scheduler_stack, &scheduler_stack_size);
    body();
    leave(ENDED);
}

inline void resume(Fiber& fiber) {
    running = &fiber;
    threadIdx = fiber.index;
    __sanitizer_start_switch_fiber(&scheduler_sanitizer, fiber.stack, STACK);
    swapcontext(&scheduler, &fiber.context);
    __sanitizer_finish_switch_fiber(scheduler_sanitizer, nullptr, nullptr);
}

inline void prepare(Fiber& fiber, dim3 index) {
    fiber.index = index;
    fiber.state = RUNNING;
    getcontext(&fiber.context);
    fiber.context.uc_stack.ss_sp = fiber.stack;
    fiber.context.uc_stack.ss_size = STACK;
    fiber.context.uc_link = nullptr;
    makecontext(&fiber.context, start, 0);
}

[[noreturn]] inline void die(const char* what) {
    std::fprintf(stderr, "emulation: %s\n", what);
    std::abort();
}

// Takes a block to its next barrier, or to its end.
inline void step(Block& of) {
    const unsigned count = blockDim.x * blockDim.y * blockDim.z;
    block = &of;
    blockIdx = of.index;
    for (unsigned t = 0; t < count; ++t) resume(of.threads[of.phase % 2 == 0 ? t : count - 1 - t]);
    ++of.phase;  // so every phase sees both orders
    of.state = of.threads[0].state;
    for (unsigned t = 0; t < count; ++t)
        if (of.threads[t].state != of.state) die("some threads wait at a barrier that others do not reach.");
    if (of.state == ENDED) std::vector<unsigned char>().swap(of.shared);
}

// Lets a cluster pass its barrier once all of its blocks are there.
inline void pass(Block* of, unsigned cluster) {
    unsigned waiting = 0, ended = 0;
    for (unsigned rank = 0; rank < cluster; ++rank) {
        waiting += of[rank].state == AT_CLUSTER_BARRIER;
        ended += of[rank].state == ENDED;
    }
    if (waiting > 0 && ended > 0) die("some blocks wait for a cluster that others have left.");
    for (unsigned rank = 0; waiting == cluster && rank < cluster; ++rank) of[rank].state = RUNNING;
}

// Runs `count` neighbouring blocks together, in clusters: each in turn goes to its next barrier.
inline void run_blocks(dim3 first, unsigned count, unsigned cluster, size_t bytes) {
    const unsigned threads = blockDim.x * blockDim.y * blockDim.z;
    while (fibers.size() < threads * count)
        fibers.push_back({{}, static_cast<char*>(std::malloc(STACK)), {}, nullptr, RUNNING});
    together.clear();
    for (unsigned b = 0; b < count; ++b) {
        Fiber* own = &fibers[b * threads];
        const dim3 index(first.x + b, first.y, first.z);
        const unsigned rank = b % cluster;
        together.push_back({index, std::vector<unsigned char>(bytes, 0xff), own, rank, RUNNING, blocks++});
        for (unsigned t = 0; t < threads; ++t)
            prepare(own[t], dim3(t % blockDim.x, t / blockDim.x % blockDim.y, t / blockDim.x / blockDim.y));
    }
    unsigned ended = 0;
    for (unsigned round = 0; ended < count; ++round) {
        ended = 0;
        for (unsigned b = 0; b < count; ++b) {
            Block& next = together[round % 2 == 0 ? b : count - 1 - b];
            if (next.state != AT_CLUSTER_BARRIER && next.state != ENDED) step(next);
            ended += next.state == ENDED;
        }
        for (unsigned b = 0; b < count; b += cluster) pass(&together[b], cluster);
    }
}

}  // namespace emulation

// genfast_emulated_skip("<end of a file's name>:<line>") leaves one barrier out, to see whether a test notices; "" none.
namespace emulation {
inline std::string skipped_file;
inline int skipped_line = -1;
inline void barrier(const char* file, int line, State where = AT_BARRIER) {
    if (line == skipped_line) {
        const std::string here = file, &end = skipped_file;
        if (here.size() >= end.size() && here.compare(here.size() - end.size(), end.size(), end) == 0) return;
    }
    leave(where);
}
}  // namespace emulation
extern "C" inline __attribute__((used)) void genfast_emulated_skip(const char* barrier) {
    const std::string all = barrier;
    const size_t colon = all.rfind(':');
    emulation::skipped_file = all.substr(0, colon);
    emulation::skipped_line = colon == std::string::npos ? -1 : std::atoi(all.c_str() + colon + 1);
}
#define __syncthreads() emulation::barrier(__FILE__, __LINE__)

enum cudaFuncAttribute { cudaFuncAttributeMaxDynamicSharedMemorySize };
template <typename... Parameters>
cudaError_t cudaFuncSetAttribute(void (*kernel)(Parameters...), cudaFuncAttribute, int bytes) {
    emulation::granted[reinterpret_cast<const void*>(kernel)] = static_cast<size_t>(bytes);
    return cudaSuccess;
}

template <typename... Parameters, typename... Arguments>
cudaError_t cudaLaunchKernelEx(const cudaLaunchConfig_t* config, void (*kernel)(Parameters...),
                               Arguments... arguments) {
    gridDim = config->gridDim;
    blockDim = config->blockDim;
    const unsigned cluster = config->numAttrs ? config->attrs[0].val.clusterDim.x : 1;
    const size_t bytes = config->dynamicSmemBytes;
    int most = 0, has_clusters = 0, architecture = 0;
    cudaDeviceGetAttribute(&most, cudaDevAttrMaxSharedMemoryPerBlockOptin, 0);
    cudaDeviceGetAttribute(&has_clusters, cudaDevAttrClusterLaunch, 0);
    cudaDeviceGetAttribute(&architecture, emulatedArchitecture, 0);
    const bool fits = bytes <= static_cast<size_t>(most) &&
                      (bytes <= 48 * 1024 || bytes <= emulation::granted[reinterpret_cast<const void*>(kernel)]);
    const bool clusters = has_clusters && architecture >= 90 && cluster > 0 && cluster <= 8 && gridDim.x % cluster == 0;
    if (!fits || (config->numAttrs && !clusters) || blockDim.x > 1024 || blockDim.x == 0 || gridDim.x == 0) return cudaErrorInvalidValue;
    const long long launched[4] = {gridDim.x, cluster, blockDim.x, static_cast<long long>(bytes)};
    std::memcpy(emulation::launched, launched, sizeof(launched));
    if (std::getenv("GENFAST_EMULATED_DRY") != nullptr) return cudaSuccess;
    const bool waves = std::getenv("GENFAST_EMULATED_TOGETHER") != nullptr;
    emulation::body = [=] { kernel(arguments...); };
    for (unsigned z = 0; z < gridDim.z; ++z)
        for (unsigned y = 0; y < gridDim.y; ++y)
            for (unsigned x = 0, count; x < gridDim.x; x += count) {
                const unsigned left = gridDim.x - x, wave = cluster * (waves ? 2 : 1);
                count = left < wave ? left : wave;
                emulation::run_blocks(dim3(x, y, z), count, cluster, bytes);
            }
    return cudaSuccess;
}

// What the latest launch asked for: see emulation::launched.
extern "C" inline __attribute__((used)) void genfast_emulated_launch(long long* to) {
    std::memcpy(to, emulation::launched, sizeof(emulation::launched));
}

// 16-bit floats: conversions that round to nearest, ties to even, as the GPU's.
struct __nv_bfloat16 {
    uint16_t bits;
};
inline float __bfloat162float(__nv_bfloat16 v) {
    const uint32_t wide = static_cast<uint32_t>(v.bits) << 16;
    float f;
    std::memcpy(&f, &wide, 4);
    return f;
}
inline __nv_bfloat16 __float2bfloat16_rn(float f) {
    uint32_t wide;
    std::memcpy(&wide, &f, 4);
    if (f != f) return {0x7fff};
    return {static_cast<uint16_t>((wide + 0x7fff + (wide >> 16 & 1)) >> 16)};
}
struct __half {
    uint16_t bits;
};
inline float __half2float(__half v) {
    _Float16 h;
    std::memcpy(&h, &v.bits, 2);
    return static_cast<float>(h);
}
inline __half __float2half_rn(float f) {
    const _Float16 h = static_cast<_Float16>(f);
    __half v;
    std::memcpy(&v.bits, &h, 2);
    return v;
}
