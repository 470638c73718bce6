// Tests only: enough of CUDA to run SIMT kernels on a CPU, one block after another, each CUDA thread a fiber.
//
// A fiber runs until __syncthreads() or its end; then the next one runs. Between two barriers the threads of a block run
// one after another, in rising order and in falling order by turns, and in the next block the other way round: a kernel
// that lacks a barrier reads what is not there yet, or overwrites what is still needed, and gives wrong numbers. A
// barrier that only some threads reach ends the process. Under AddressSanitizer every access outside an array or a
// buffer is found. What is not emulated: warps, order of memory within a phase, textures, tensor cores, time. A pass is
// called "emulated", never "tested on a GPU".
#pragma once

#include <ucontext.h>

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
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

struct cudaLaunchConfig_t {
    dim3 gridDim, blockDim;
    size_t dynamicSmemBytes;
    cudaStream_t stream;
};

namespace emulation {

constexpr size_t STACK = 256 * 1024;

struct Fiber {
    ucontext_t context;
    char* stack;
    dim3 index;
    void* sanitizer;  // AddressSanitizer's own record of this stack
    bool finished;
};

inline ucontext_t scheduler;
inline void* scheduler_sanitizer;
inline const void* scheduler_stack;
inline size_t scheduler_stack_size;
inline std::vector<Fiber> fibers;
inline Fiber* running;
inline const std::function<void()>* body;
inline unsigned blocks;  // how many there were so far
inline unsigned char* shared;  // the dynamic shared memory of the block

inline void leave(bool for_good) {
    Fiber* fiber = running;
    __sanitizer_start_switch_fiber(for_good ? nullptr : &fiber->sanitizer, scheduler_stack, scheduler_stack_size);
    swapcontext(&fiber->context, &scheduler);
    __sanitizer_finish_switch_fiber(fiber->sanitizer, &scheduler_stack, &scheduler_stack_size);
}

inline void start() {
    __sanitizer_finish_switch_fiber(nullptr, &scheduler_stack, &scheduler_stack_size);
    (*body)();
    running->finished = true;
    leave(true);
}

inline void resume(Fiber& fiber) {
    running = &fiber;
    threadIdx = fiber.index;
    __sanitizer_start_switch_fiber(&scheduler_sanitizer, fiber.stack, STACK);
    swapcontext(&scheduler, &fiber.context);
    __sanitizer_finish_switch_fiber(scheduler_sanitizer, nullptr, nullptr);
}

inline void run_block(const std::function<void()>& kernel) {
    const unsigned count = blockDim.x * blockDim.y * blockDim.z;
    body = &kernel;
    while (fibers.size() < count) fibers.push_back({{}, static_cast<char*>(std::malloc(STACK)), {}, nullptr, false});
    for (unsigned t = 0; t < count; ++t) {
        Fiber& fiber = fibers[t];
        fiber.index = dim3(t % blockDim.x, t / blockDim.x % blockDim.y, t / blockDim.x / blockDim.y);
        fiber.finished = false;
        getcontext(&fiber.context);
        fiber.context.uc_stack.ss_sp = fiber.stack;
        fiber.context.uc_stack.ss_size = STACK;
        fiber.context.uc_link = nullptr;
        makecontext(&fiber.context, start, 0);
    }
    unsigned finished = 0;
    for (unsigned phase = blocks++; finished < count; ++phase) {  // so every phase sees both orders
        finished = 0;
        for (unsigned t = 0; t < count; ++t) {
            Fiber& fiber = fibers[phase % 2 == 0 ? t : count - 1 - t];
            resume(fiber);
            finished += fiber.finished;
        }
        if (finished != 0 && finished != count) {
            std::fprintf(stderr, "emulation: %u of %u threads ended, the others wait at a barrier.\n", finished, count);
            std::abort();
        }
    }
}

}  // namespace emulation

// GENFAST_SKIP_BARRIER=<end of a file's name>:<line> leaves one barrier out, to see whether a test notices.
namespace emulation {
inline void barrier(const char* file, int line) {
    static const char* const skip = std::getenv("GENFAST_SKIP_BARRIER");
    if (skip != nullptr) {
        const std::string here = std::string(file) + ":" + std::to_string(line), end = skip;
        if (here.size() >= end.size() && here.compare(here.size() - end.size(), end.size(), end) == 0) return;
    }
    leave(false);
}
}  // namespace emulation
#define __syncthreads() emulation::barrier(__FILE__, __LINE__)

template <typename... Parameters, typename... Arguments>
cudaError_t cudaLaunchKernelEx(const cudaLaunchConfig_t* config, void (*kernel)(Parameters...),
                               Arguments... arguments) {
    gridDim = config->gridDim;
    blockDim = config->blockDim;
    const std::function<void()> call = [&] { kernel(arguments...); };
    for (unsigned z = 0; z < gridDim.z; ++z)
        for (unsigned y = 0; y < gridDim.y; ++y)
            for (unsigned x = 0; x < gridDim.x; ++x) {
                blockIdx = dim3(x, y, z);
                std::vector<unsigned char> memory(config->dynamicSmemBytes, 0xff);  // NaN, of its exact size
                emulation::shared = memory.data();
                emulation::run_block(call);
            }
    return cudaSuccess;
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
