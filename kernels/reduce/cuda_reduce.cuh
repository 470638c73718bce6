// reduce on a GPU: something over each of several rows of floats, by one block. cpu.h says what.
//
// A row is cut into groups (cuda_items.cuh), of which each is added up from its first number to its last, and then the groups
// from the first to the last: an order that depends on the width alone.
#pragma once

#include "common/cuda_items.cuh"
#include "common/cuda_math.cuh"
#include "reduce/cpu.h"

namespace genfast::cuda {

// Row m is the `width` numbers from x + m * stride on; of groups, two numbers each, there is room for groups_of(width) from
// groups + m * stride on.
struct ReduceRows {
    const float* x;
    float* groups;
    int64_t stride;
    int rows, width;
    float eps;
};

template <typename F>
__device__ inline float of_group(const ReduceRows& r, int row, int group, float start, F f) {
    const float* x = r.x + row * r.stride;
    const int length = group_of(r.width), begin = group * length;
    const int end = begin + length < r.width ? begin + length : r.width;
    float total = start;
    for (int n = begin; n < end; ++n) total = f(total, x[n]);
    return total;
}

// The groups of a row put together: the first or the second number of each.
template <typename F>
__device__ inline float of_groups(const ReduceRows& r, int row, int which, float start, F f) {
    const float* groups = r.groups + row * r.stride + which * groups_of(r.width);
    float total = start;
    for (int g = 0; g < groups_of(r.width); ++g) total = f(total, groups[g]);
    return total;
}

struct Plus {
    __device__ float operator()(float a, float b) const { return a + b; }
};
struct Larger {  // NaN stays
    __device__ float operator()(float a, float b) const { return a != a ? a : b > a || b != b ? b : a; }
};
struct Smaller {
    __device__ float operator()(float a, float b) const { return a != a ? a : b < a || b != b ? b : a; }
};

__device__ inline float mean_of(const ReduceRows& r, int row) {
    return of_groups(r, row, 0, 0.0f, Plus()) / static_cast<float>(r.width);
}
__device__ inline float top_of(const ReduceRows& r, int row) { return of_groups(r, row, 0, -HUGE_VALF, Larger()); }

// All that `reduced` needs: called by all threads, after a barrier; ends with one.
__device__ inline void reduce_groups(ReduceKind kind, const ReduceRows& r) {
    const int groups = groups_of(r.width);
    for_each(r.rows, groups, [&](int row, int g) {
        float* to = r.groups + row * r.stride + g;
        switch (kind) {
            case ReduceKind::sum:
            case ReduceKind::standardize: *to = of_group(r, row, g, 0.0f, Plus()); break;
            case ReduceKind::min: *to = of_group(r, row, g, HUGE_VALF, Smaller()); break;
            default: *to = of_group(r, row, g, -HUGE_VALF, Larger()); break;
        }
    });
    __syncthreads();
    if (kind == ReduceKind::sum || kind == ReduceKind::max || kind == ReduceKind::min) return;
    for_each(r.rows, groups, [&](int row, int g) {
        float* to = r.groups + row * r.stride + groups + g;
        if (kind == ReduceKind::standardize) {
            const float mean = mean_of(r, row);
            *to = of_group(r, row, g, 0.0f, [=](float total, float v) { return total + (v - mean) * (v - mean); });
        } else {
            const float top = top_of(r, row);
            *to = of_group(r, row, g, 0.0f, [=](float total, float v) { return total + exp_of(v - top); });
        }
    });
    __syncthreads();
}

// Number n of a row's result.
__device__ inline float reduced(ReduceKind kind, const ReduceRows& r, int row, int n) {
    const float x = r.x[row * r.stride + n];
    switch (kind) {
        case ReduceKind::sum: return of_groups(r, row, 0, 0.0f, Plus());
        case ReduceKind::max: return top_of(r, row);
        case ReduceKind::min: return of_groups(r, row, 0, HUGE_VALF, Smaller());
        case ReduceKind::standardize: {
            const float variance = of_groups(r, row, 1, 0.0f, Plus()) / static_cast<float>(r.width);
            return (x - mean_of(r, row)) / ::sqrtf(variance + r.eps);
        }
        case ReduceKind::softmax: return exp_of(x - top_of(r, row)) / of_groups(r, row, 1, 0.0f, Plus());
        case ReduceKind::log_softmax: return (x - top_of(r, row)) - log_of(of_groups(r, row, 1, 0.0f, Plus()));
    }
    return x;
}

}  // namespace genfast::cuda
