// Storage types and the types they are added up in, on a GPU: double as itself, the others as float.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

namespace genfast::cuda {

template <typename T>
struct Sum {
    using type = float;
};
template <>
struct Sum<double> {
    using type = double;
};

__device__ inline float widen(float v) { return v; }
__device__ inline double widen(double v) { return v; }
__device__ inline float widen(__nv_bfloat16 v) { return __bfloat162float(v); }
__device__ inline float widen(__half v) { return __half2float(v); }

// Rounds to nearest, ties to even.
__device__ inline void narrow(float* to, float v) { *to = v; }
__device__ inline void narrow(double* to, double v) { *to = v; }
__device__ inline void narrow(__nv_bfloat16* to, float v) { *to = __float2bfloat16_rn(v); }
__device__ inline void narrow(__half* to, float v) { *to = __float2half_rn(v); }

}  // namespace genfast::cuda
