// Tests only: enough of CUDA to run SIMT kernels on a CPU, one block after another, each CUDA thread a fiber.
//
// A fiber runs until __syncthreads() or its end; then the next one runs. Between two barriers the threads of a block run
// one after another, in rising order and in falling order by turns, and in the next block the other way round: a kernel
// that lacks a barrier reads what is not there yet, or overwrites what is still needed, and gives wrong numbers. The
// blocks of a cluster go the same way from one barrier of the cluster to the next. A barrier that only some threads reach
// ends the process. Under AddressSanitizer every access outside an array or a buffer is found, and to the shared memory
// of a block that has ended. What is not emulated: warps, order of memory within a phase, static __shared__ memory in
// clusters, textures, tensor cores, time. A pass is called "emulated", never "tested on a GPU".
//
// GENFAST_EMULATED_GPU=<bytes of shared memory of a block>,<multiprocessors>,<clusters: 0 or 1>,<architecture that the
// code is for> is the GPU, asked at every launch; without it an H100. With GENFAST_EMULATED_DRY=1 launches are checked and recorded, but not run.
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
    unsigned phase;
};

inline ucontext_t scheduler;
inline void* scheduler_sanitizer;
inline const void* scheduler_stack;
inline size_t scheduler_stack_size;
inline std::vector<Fiber> fibers;
inline Fiber* running;
inline std::function<void()> body;
inline unsigned clusters;  // how many there were so far
inline std::vector<Block> cluster;
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

// Takes a block from barrier to barrier, until its threads wait for the cluster or have ended.
inline State run_block(Block& of) {
    const unsigned count = blockDim.x * blockDim.y * blockDim.z;
    block = &of;
    blockIdx = of.index;
    for (;; ++of.phase) {  // so every phase sees both orders
        for (unsigned t = 0; t < count; ++t) resume(of.threads[of.phase % 2 == 0 ? t : count - 1 - t]);
        const State state = of.threads[0].state;
        for (unsigned t = 0; t < count; ++t)
            if (of.threads[t].state != state) die("some threads wait at a barrier that others do not reach.");
        if (state != AT_BARRIER) return state;
    }
}

inline void run_cluster(dim3 first, unsigned blocks, size_t bytes) {
    const unsigned count = blockDim.x * blockDim.y * blockDim.z;
    while (fibers.size() < count * blocks)
        fibers.push_back({{}, static_cast<char*>(std::malloc(STACK)), {}, nullptr, RUNNING});
    cluster.clear();
    for (unsigned rank = 0; rank < blocks; ++rank) {
        const dim3 index(first.x + rank, first.y, first.z);
        cluster.push_back({index, std::vector<unsigned char>(bytes, 0xff), &fibers[rank * count], clusters + rank});
        for (unsigned t = 0; t < count; ++t)
            prepare(cluster[rank].threads[t],
                    dim3(t % blockDim.x, t / blockDim.x % blockDim.y, t / blockDim.x / blockDim.y));
    }
    for (unsigned phase = clusters++, ended = 0; ended < blocks; ++phase) {
        ended = 0;
        for (unsigned b = 0; b < blocks; ++b) {
            Block& next = cluster[phase % 2 == 0 ? b : blocks - 1 - b];
            if (run_block(next) == ENDED) {
                ++ended;
                std::vector<unsigned char>().swap(next.shared);
            }
        }
        if (ended != 0 && ended != blocks) die("some blocks wait for a cluster that others have left.");
    }
}

}  // namespace emulation

// GENFAST_SKIP_BARRIER=<end of a file's name>:<line> leaves one barrier out, to see whether a test notices.
namespace emulation {
inline void barrier(const char* file, int line, State where = AT_BARRIER) {
    static const char* const skip = std::getenv("GENFAST_SKIP_BARRIER");
    if (skip != nullptr) {
        const std::string here = std::string(file) + ":" + std::to_string(line), end = skip;
        if (here.size() >= end.size() && here.compare(here.size() - end.size(), end.size(), end) == 0) return;
    }
    leave(where);
}
}  // namespace emulation
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
    emulation::body = [=] { kernel(arguments...); };
    for (unsigned z = 0; z < gridDim.z; ++z)
        for (unsigned y = 0; y < gridDim.y; ++y)
            for (unsigned x = 0; x < gridDim.x; x += cluster) emulation::run_cluster(dim3(x, y, z), cluster, bytes);
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
