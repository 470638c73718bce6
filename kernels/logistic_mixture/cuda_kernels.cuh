// logistic_mixture in CUDA C++, the device code: included by cuda.cu and by nothing else.
//
// A block copies a tile of pixels, widened, into rows of shared memory, one row a parameter; so every storage format and
// memory layout has one body. Then each thread takes a logistic of a pixel (or a component with all of its colours), and
// between these phases one thread a pixel adds up its components. Backward overwrites the rows by the gradients and
// copies them back. Offsets are 64-bit.
#pragma once

#include "common/cuda_convert.cuh"
#include "common/cuda_raster.cuh"
#include "common/cuda_shared.cuh"
#include "logistic_mixture/cuda.cuh"
#include "logistic_mixture/cuda_bin.cuh"

namespace {

using genfast::cuda::bin;
using genfast::cuda::Bin;
using genfast::cuda::narrow;
using genfast::cuda::Pixel;
using genfast::cuda::Scale;
using genfast::cuda::Sum;
using genfast::cuda::widen;

constexpr int THREADS = 128;

template <typename T>
struct Args {
    const void* params;
    const uint8_t* images;
    const T* grad;  // backward only
    void* out;      // ln P, or the gradient of params
    Strides4 params_strides, images_strides, grad_strides, out_strides;
    Scale<T> scale;
    int64_t pixels;
    int height, width, channels, components, num_params, results;
    int tile, row;            // pixels of a block, and numbers from one row to the next
    bool parameters_together;  // in memory: then neighbouring threads copy those, and otherwise neighbouring pixels
};

// The rows of a tile in shared memory.
template <typename T>
struct Rows {
    T *params, *middles, *results, *ratios, *weights, *sums;
    __device__ Rows(const Args<T>& g, T* memory)
        : params(memory), middles(params + g.num_params * g.row), results(middles + g.channels * g.row),
          ratios(results + g.results * g.row), weights(ratios + g.components * g.row),
          sums(weights + g.components * g.row) {}
    // of the sums: the greatest logit, the greatest exponent, the sum of weights and the sum of ratios
    static __host__ __device__ int count(int num_params, int channels, int results, int components) {
        return num_params + channels + results + 2 * components + 4;
    }
};

// Calls f(row, pixel of the tile, offset of that pixel) for every number of the tile, in the order that memory likes.
template <typename T, typename F>
__device__ void for_tile(const Args<T>& g, int64_t first, int rows, const Strides4& strides, bool rows_together, F f) {
    const int64_t left = g.pixels - first;
    const int n = left < g.tile ? static_cast<int>(left) : g.tile;
    for (int e = threadIdx.x; e < rows * n; e += THREADS) {
        const int r = rows_together ? e % rows : e / n, m = rows_together ? e / rows : e % n;
        const Pixel p(first + m, g.height, g.width);
        f(r, m, p.batch * strides.s[0] + r * strides.s[1] + p.y * strides.s[2] + p.x * strides.s[3]);
    }
}

// One logistic a channel: the results, or with BACKWARD the gradients in the place of the parameters.
template <bool BACKWARD, typename T>
__device__ void independent(const Args<T>& g, const Rows<T>& rows) {
    for (int item = threadIdx.x; item < g.channels * g.tile; item += THREADS) {
        const int m = item % g.tile, at = item / g.tile * g.row + m;
        T *mean = rows.params + at, *log_scale = mean + g.channels * g.row, *result = rows.results + at;
        const Bin<T> one = bin<BACKWARD>(g.scale, rows.middles[at], *mean * g.scale.levels_minus_1, *log_scale);
        if (BACKWARD) {
            *mean = *result * one.dmean * g.scale.levels_minus_1;
            *log_scale = *result * one.dlog_scale;
        } else {
            *result = one.exponent + genfast::cuda::log_of(one.ratio);
        }
    }
}

// Where component k's numbers are, for pixel m of the tile.
template <typename T>
struct Component {
    T* logit;
    T* colours;       // of colour c: mean, log-scale and coefficient, K rows apart
    int step, colour;  // numbers from one of these to the next, and from colour to colour
    T *ratio, *weight;
    __device__ Component(const Args<T>& g, const Rows<T>& rows, int k, int m)
        : logit(rows.params + k * g.row + m), colours(logit + g.components * g.row), step(g.components * g.row),
          colour(step * (g.channels == 3 ? 3 : 2)), ratio(rows.ratios + k * g.row + m),
          weight(rows.weights + k * g.row + m) {}
    __device__ T& mean(int c) const { return colours[c * colour]; }
    __device__ T& log_scale(int c) const { return colours[c * colour + step]; }
    __device__ T& coefficient(int c) const { return colours[c * colour + 2 * step]; }
};

// All logistics of one component: its product of ratios, and in the place of the logit the exponent of its share. With
// BACKWARD the derivatives of ln P take the places of mean and log-scale, and tanh that of the coefficient.
template <bool BACKWARD, int C, typename T>
__device__ void all_colours(const Args<T>& g, const Component<T>& one, const T* middle, T greatest) {
    T coefficient[3] = {}, exponent = 0, ratio = 1;
    for (int c = 0; c < (C == 3 ? 3 : 0); ++c) {
        coefficient[c] = genfast::cuda::tanh_of(one.coefficient(c));
        if (BACKWARD) one.coefficient(c) = coefficient[c];
    }
#pragma unroll
    for (int c = 0; c < C; ++c) {
        T mean = one.mean(c) * g.scale.levels_minus_1;
        if (c == 1) mean += coefficient[0] * middle[0];
        if (c == 2) mean += coefficient[1] * middle[0] + coefficient[2] * middle[1];
        const Bin<T> of_c = bin<BACKWARD>(g.scale, middle[c], mean, one.log_scale(c));
        exponent += of_c.exponent;
        ratio *= of_c.ratio;
        if (BACKWARD) {
            one.mean(c) = of_c.dmean;
            one.log_scale(c) = of_c.dlog_scale;
        }
    }
    const T logit = *one.logit - greatest;
    *one.ratio = ratio;
    *one.weight = genfast::cuda::exp_of(logit);
    *one.logit = logit + exponent;
}

// The gradients of one component, given how much of P it has (share) and the softmax of its logit.
template <int C, typename T>
__device__ void finish_gradients(const Args<T>& g, const Component<T>& one, const T* middle, T grad, T share, T softmax) {
    *one.logit = grad * (share - softmax);
    const T count = grad * share;
    T dmean[3] = {};
#pragma unroll
    for (int c = 0; c < C; ++c) {
        dmean[c] = count * one.mean(c);
        one.mean(c) = dmean[c] * g.scale.levels_minus_1;
        one.log_scale(c) *= count;
    }
    if (C == 3) {
        const T inner[3] = {dmean[1] * middle[0], dmean[2] * middle[0], dmean[2] * middle[C - 2]};
#pragma unroll
        for (int c = 0; c < 3; ++c) {
            const T coefficient = one.coefficient(c % C);
            one.coefficient(c % C) = inner[c] * (T(1) - coefficient * coefficient);
        }
    }
}

template <bool BACKWARD, int C, typename T>
__device__ void mixture(const Args<T>& g, const Rows<T>& rows) {
    T *greatest = rows.sums, *top = greatest + g.row, *weights = top + g.row, *total = weights + g.row;
    const int K = g.components, items = K * g.tile;
    for (int m = threadIdx.x; m < g.tile; m += THREADS) {
        T most = rows.params[m];
        for (int k = 1; k < K; ++k) most = genfast::cuda::most_of(most, rows.params[k * g.row + m]);
        greatest[m] = most;
    }
    __syncthreads();
    for (int item = threadIdx.x; item < items; item += THREADS) {
        const int m = item % g.tile;
        T middle[C];
        for (int c = 0; c < C; ++c) middle[c] = rows.middles[c * g.row + m];
        all_colours<BACKWARD, C>(g, Component<T>(g, rows, item / g.tile, m), middle, greatest[m]);
    }
    __syncthreads();
    for (int m = threadIdx.x; m < g.tile; m += THREADS) {
        T most = rows.params[m], sum = 0;
        for (int k = 1; k < K; ++k) most = genfast::cuda::most_of(most, rows.params[k * g.row + m]);
        for (int k = 0; k < K; ++k) {
            T& ratio = rows.ratios[k * g.row + m];
            ratio *= genfast::cuda::exp_of(rows.params[k * g.row + m] - most);
            sum += ratio;
        }
        T normal = 0;
        for (int k = 0; k < K; ++k) normal += rows.weights[k * g.row + m];
        top[m] = most;
        weights[m] = normal;
        total[m] = sum;
        if (!BACKWARD) rows.results[m] = most + genfast::cuda::log_of(sum / normal);
    }
    if (BACKWARD) {
        __syncthreads();
        for (int item = threadIdx.x; item < items; item += THREADS) {
            const int m = item % g.tile;
            const Component<T> one(g, rows, item / g.tile, m);
            T middle[C];
            for (int c = 0; c < C; ++c) middle[c] = rows.middles[c * g.row + m];
            finish_gradients<C>(g, one, middle, rows.results[m], *one.ratio / total[m], *one.weight / weights[m]);
        }
    }
}

// At least four blocks a multiprocessor: told nothing, nvcc gives float64 64 registers, and spills.
template <typename E, bool BACKWARD>
__global__ void __launch_bounds__(THREADS, 4) logistic_mixture(Args<typename Sum<E>::type> g) {
    using T = typename Sum<E>::type;
    T* memory = genfast::cuda::dynamic_shared<T>();
    const Rows<T> rows(g, memory);
    const int64_t first = static_cast<int64_t>(blockIdx.x) * g.tile;
    const E* params = static_cast<const E*>(g.params);
    for_tile(g, first, g.num_params, g.params_strides, g.parameters_together,
             [&](int r, int m, int64_t offset) { rows.params[r * g.row + m] = widen(params[offset]); });
    for_tile(g, first, g.channels, g.images_strides, false, [&](int r, int m, int64_t offset) {
        rows.middles[r * g.row + m] = T(2 * g.images[offset]) - g.scale.levels_minus_1;
    });
    if (BACKWARD)
        for_tile(g, first, g.results, g.grad_strides, false,
                 [&](int r, int m, int64_t offset) { rows.results[r * g.row + m] = g.grad[offset]; });
    __syncthreads();
    if (g.components == 0)
        independent<BACKWARD>(g, rows);
    else if (g.channels == 1)
        mixture<BACKWARD, 1>(g, rows);
    else
        mixture<BACKWARD, 3>(g, rows);
    __syncthreads();
    if (BACKWARD) {
        E* dparams = static_cast<E*>(g.out);
        for_tile(g, first, g.num_params, g.out_strides, g.parameters_together,
                 [&](int r, int m, int64_t offset) { narrow(dparams + offset, rows.params[r * g.row + m]); });
    } else {
        T* out = static_cast<T*>(g.out);
        for_tile(g, first, g.results, g.out_strides, false,
                 [&](int r, int m, int64_t offset) { out[offset] = rows.results[r * g.row + m]; });
    }
}

}  // namespace
