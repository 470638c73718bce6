// pointwise on a GPU: one number for a thread. cpu.h says what each operation does.
#pragma once

#include "common/cuda_math.cuh"
#include "pointwise/cpu.h"

namespace genfast::cuda {

__device__ inline float truth(bool v) { return v ? 1.0f : 0.0f; }

__device__ inline float softplus_of(float a) { return (a > 0 ? a : a != a ? a : 0.0f) + ::log1pf(::expf(-::fabsf(a))); }

__device__ inline float remainder_of(float a, float b) {
    const float r = ::fmodf(a, b);
    return r != 0 && (r < 0) != (b < 0) ? r + b : r;
}

__device__ inline float pointwise(PointwiseOp op, float a, float b, float c) {
    switch (op) {
        case PointwiseOp::neg: return -a;
        case PointwiseOp::abs: return ::fabsf(a);
        case PointwiseOp::exp: return exp_of(a);
        case PointwiseOp::expm1: return expm1_of(a);
        case PointwiseOp::log: return log_of(a);
        case PointwiseOp::log1p: return ::log1pf(a);
        case PointwiseOp::sqrt: return ::sqrtf(a);
        case PointwiseOp::rsqrt: return 1.0f / ::sqrtf(a);
        case PointwiseOp::reciprocal: return 1.0f / a;
        case PointwiseOp::tanh: return tanh_of(a);
        case PointwiseOp::sigmoid: return sigmoid_of(a);
        case PointwiseOp::relu: return a < 0 ? 0.0f : a;
        case PointwiseOp::elu: return a > 0 ? a : expm1_of(a);
        case PointwiseOp::softplus: return softplus_of(a);
        case PointwiseOp::sin: return ::sinf(a);
        case PointwiseOp::cos: return ::cosf(a);
        case PointwiseOp::erf: return ::erff(a);
        case PointwiseOp::sign: return truth(a > 0) - truth(a < 0);
        case PointwiseOp::floor: return ::floorf(a);
        case PointwiseOp::ceil: return ::ceilf(a);
        case PointwiseOp::round: return ::rintf(a);
        case PointwiseOp::trunc: return ::truncf(a);
        case PointwiseOp::logical_not: return truth(a == 0);
        case PointwiseOp::isnan: return truth(a != a);
        case PointwiseOp::add: return a + b;
        case PointwiseOp::sub: return a - b;
        case PointwiseOp::mul: return a * b;
        case PointwiseOp::div: return a / b;
        case PointwiseOp::pow: return ::powf(a, b);
        case PointwiseOp::maximum: return a != a ? a : a > b ? a : b;
        case PointwiseOp::minimum: return a != a ? a : a < b ? a : b;
        case PointwiseOp::remainder: return remainder_of(a, b);
        case PointwiseOp::eq: return truth(a == b);
        case PointwiseOp::ne: return truth(a != b);
        case PointwiseOp::lt: return truth(a < b);
        case PointwiseOp::le: return truth(a <= b);
        case PointwiseOp::gt: return truth(a > b);
        case PointwiseOp::ge: return truth(a >= b);
        case PointwiseOp::where: return a != 0 ? b : c;
    }
    return a;
}

}  // namespace genfast::cuda
