// CUDA's own functions under one name for float and double: each is good to two units in the last place, and compiled
// without --use_fast_math it stays so.
#pragma once

#include <cuda_runtime.h>

#include <cmath>

namespace genfast::cuda {

__device__ inline float exp_of(float v) { return ::expf(v); }
__device__ inline double exp_of(double v) { return ::exp(v); }
__device__ inline float expm1_of(float v) { return ::expm1f(v); }
__device__ inline double expm1_of(double v) { return ::expm1(v); }
__device__ inline float log_of(float v) { return ::logf(v); }
__device__ inline double log_of(double v) { return ::log(v); }
__device__ inline float tanh_of(float v) { return ::tanhf(v); }
__device__ inline double tanh_of(double v) { return ::tanh(v); }

// a * b + c, rounded once, whatever the compiler makes of the expression around it.
__device__ inline float fma_of(float a, float b, float c) { return ::fmaf(a, b, c); }
__device__ inline double fma_of(double a, double b, double c) { return ::fma(a, b, c); }

// 0 and 1 for numbers that are far out, where exp is infinite or zero.
template <typename T>
__device__ inline T sigmoid_of(T v) {
    return T(1) / (T(1) + exp_of(-v));
}

}  // namespace genfast::cuda
