// masked_conv2d in CUDA C++, the device code: included by cuda.cu and by nothing else. The four kernels of
// triton_kernel.py:
//
//   pack_weight       weight -> [taps * read channels, written channels], padded with zeros to whole tiles
//   conv              out[pixel, n] = bias[n] + sum over k = (tap, channel) of x[pixel + offset(tap), channel] *
//                     packed[k, n]; the input gradient is the same with the offsets negated and the two kinds of
//                     channel swapped
//   weight_partials   sums over runs of pixels of grad[o, pixel] * x[i, pixel + offset(tap)], and of grad[o, pixel]
//   finish_weight     adds the runs in order; zero where the mask is
//
// A block multiplies one pair of tiles at a time from shared memory while the next pair is on its way to registers;
// each thread owns a small rectangle of sums. Offsets are 64-bit.
#pragma once

#include "common/cuda_convert.cuh"
#include "common/cuda_raster.cuh"
#include "common/cuda_tile.cuh"
#include "masked_conv2d/cuda.cuh"

namespace {

using genfast::cuda::multiply_tile;
using genfast::cuda::narrow;
using genfast::cuda::Pixel;
using genfast::cuda::Place;
using genfast::cuda::Sum;
using genfast::cuda::Vector;
using genfast::cuda::widen;

constexpr int THREADS = 256;
constexpr int ELEMENTWISE = 256;

// Sizes of a tile, and of the rectangle of sums that a thread owns: (rows / m) * (columns / n) == THREADS.
template <typename T>
struct ConvTile {
    static constexpr int rows = 128, columns = 64, depth = 16, m = 8, n = 4, vector = 4;
};
template <>
struct ConvTile<double> {
    static constexpr int rows = 64, columns = 64, depth = 16, m = 4, n = 4, vector = 2;
};
struct WeightTile {
    static constexpr int rows = 64, columns = 64, depth = 16, m = 4, n = 4;
};

struct Filter {
    int kh, kw, taps, groups, strict;
};

// Whether the mask keeps the weight of output channel o, input channel i, tap t.
__device__ inline bool kept(const Filter& f, int o, int i, int t, int out_channels, int in_channels) {
    if (t >= f.taps) return false;
    if (f.groups == 1 || t != f.kh / 2 * f.kw + f.kw / 2) return true;
    const int64_t out_group = static_cast<int64_t>(o) * f.groups / out_channels;
    const int64_t in_group = static_cast<int64_t>(i) * f.groups / in_channels;
    return f.strict ? in_group < out_group : in_group <= out_group;
}

// packed[k, n], k = t * read + r: weight[n, r, t], or transposed weight[r, n, t]; zero in the padding and where masked.
template <typename T>
__global__ void pack_weight(const T* weight, Strides4 strides, T* packed, Filter f, int out_channels, int in_channels,
                            bool transposed, int64_t padded_depth, int padded_columns) {
    const int64_t e = static_cast<int64_t>(blockIdx.x) * ELEMENTWISE + threadIdx.x;
    if (e >= padded_depth * padded_columns) return;
    const int64_t k = e / padded_columns;
    const int n = static_cast<int>(e % padded_columns);
    const int read = transposed ? out_channels : in_channels;
    const int written = transposed ? in_channels : out_channels;
    const int64_t t = k / read;
    const int r = static_cast<int>(k % read);
    const int o = transposed ? r : n;
    const int i = transposed ? n : r;
    T value;
    narrow(&value, typename Sum<T>::type(0));
    if (t < f.taps && n < written && kept(f, o, i, static_cast<int>(t), out_channels, in_channels)) {
        value = weight[o * strides.s[0] + i * strides.s[1] + t / f.kw * strides.s[2] + t % f.kw * strides.s[3]];
    }
    packed[e] = value;
}
struct ConvArgs {
    const void* x;
    const void* packed;
    const void* bias;
    void* out;
    Strides4 x_strides, out_strides;
    int64_t pixels;
    int height, width, read, written, kh, kw, taps;
    int sign;             // +1 forward, -1 input gradient
    int steps;            // tiles along the summation
    int padded_columns;   // row length of packed
};

// One tile of pixels (rows) by written channels (columns). CHANNELS_TOGETHER: x has unit channel stride, `read` and the
// other strides are multiples of the vector and x is aligned to it: a thread then loads a vector of channels of a pixel.
// Otherwise neighbouring threads load neighbouring pixels.
template <typename T, bool CHANNELS_TOGETHER>
__global__ void __launch_bounds__(THREADS) conv(ConvArgs args) {
    using Tile = ConvTile<T>;
    using S = typename Sum<T>::type;
    constexpr int V = Tile::vector;
    constexpr int PAD = 16 / sizeof(S);
    constexpr int A_LOADS = Tile::rows * Tile::depth / THREADS;
    constexpr int B_LOADS = Tile::columns * Tile::depth / THREADS;
    constexpr int A_QUADS = Tile::depth / V;            // channels together: vectors per pixel and tile
    static_assert(Tile::rows / Tile::m * (Tile::columns / Tile::n) == THREADS, "one rectangle of sums per thread");
    static_assert(B_LOADS % V == 0 && A_LOADS % V == 0, "whole vectors");

    alignas(16) __shared__ S a[Tile::depth][Tile::rows + PAD];
    alignas(16) __shared__ S b[Tile::depth][Tile::columns];
    __shared__ int64_t x_origin[Tile::rows];
    __shared__ int64_t out_origin[Tile::rows];
    __shared__ int pixel_y[Tile::rows];
    __shared__ int pixel_x[Tile::rows];

    const T* x = static_cast<const T*>(args.x);
    const int thread = threadIdx.x;
    const int column_tiles = args.padded_columns / Tile::columns;
    // Tiles of the same pixels run side by side, so that the second one finds x in the L2 cache.
    const int64_t first_pixel = static_cast<int64_t>(blockIdx.x / column_tiles) * Tile::rows;
    const int first_column = static_cast<int>(blockIdx.x % column_tiles) * Tile::columns;
    const int64_t stride_c = args.x_strides.s[1], stride_y = args.x_strides.s[2], stride_x = args.x_strides.s[3];

    if (thread < Tile::rows) {
        const Pixel p(first_pixel + thread, args.height, args.width);
        const bool exists = first_pixel + thread < args.pixels;
        x_origin[thread] = p.batch * args.x_strides.s[0] + p.y * stride_y + p.x * stride_x;
        out_origin[thread] =
            p.batch * args.out_strides.s[0] + p.y * args.out_strides.s[2] + p.x * args.out_strides.s[3];
        pixel_y[thread] = exists ? p.y : -(1 << 30);  // far outside: reads as padding, is never written
        pixel_x[thread] = p.x;
    }
    __syncthreads();

    // Where this thread's loads of x lie: pixels together, one pixel and A_LOADS places; channels together, one vector
    // of places and a few pixels.
    const int a_row = CHANNELS_TOGETHER ? thread / A_QUADS : thread % Tile::rows;
    const int a_depth = CHANNELS_TOGETHER ? thread % A_QUADS * V : thread / Tile::rows * A_LOADS;
    Place place(a_depth, args.read, args.kw);
    const int b_depth = thread * B_LOADS / Tile::columns;
    const int b_column = thread * B_LOADS % Tile::columns;
    const T* b_source = static_cast<const T*>(args.packed) +
                        static_cast<int64_t>(b_depth) * args.padded_columns + first_column + b_column;

    T a_next[A_LOADS];
    Vector<T, V> b_next[B_LOADS / V];

    auto inside = [&](int row, const Place& at, int64_t& offset) {
        const int dy = args.sign * (at.ty - args.kh / 2), dx = args.sign * (at.tx - args.kw / 2);
        const int y = pixel_y[row] + dy, xx = pixel_x[row] + dx;
        offset = x_origin[row] + dy * stride_y + dx * stride_x + at.channel * stride_c;
        // The last tile runs past the filter: what lies there is never read, so that a NaN in it stays where it is.
        return at.ty * args.kw + at.tx < args.taps && y >= 0 && y < args.height && xx >= 0 && xx < args.width;
    };
    const int64_t places = static_cast<int64_t>(args.steps) * Tile::depth;
    auto fetch = [&](int64_t first_place) {
        if (first_place >= places) return;
        if constexpr (CHANNELS_TOGETHER) {
#pragma unroll
            for (int j = 0; j < A_LOADS / V; ++j) {
                Vector<T, V> loaded;
                int64_t offset;
                if (inside(a_row + j * (THREADS / A_QUADS), place, offset)) {
                    loaded = *reinterpret_cast<const Vector<T, V>*>(x + offset);
                } else {
#pragma unroll
                    for (int v = 0; v < V; ++v) narrow(&loaded.v[v], S(0));
                }
#pragma unroll
                for (int v = 0; v < V; ++v) a_next[j * V + v] = loaded.v[v];
            }
            place.step(Tile::depth, args.read, args.kw);
        } else {
#pragma unroll
            for (int j = 0; j < A_LOADS; ++j) {
                int64_t offset;
                narrow(&a_next[j], S(0));
                if (inside(a_row, place, offset)) a_next[j] = x[offset];
                place.step(1, args.read, args.kw);
            }
            place.step(Tile::depth - A_LOADS, args.read, args.kw);
        }
#pragma unroll
        for (int j = 0; j < B_LOADS / V; ++j) {
            b_next[j] = *reinterpret_cast<const Vector<T, V>*>(b_source + j * V);
        }
        b_source += static_cast<int64_t>(Tile::depth) * args.padded_columns;
    };

    S sums[Tile::m][Tile::n] = {};
    const int row = thread / (Tile::columns / Tile::n) * Tile::m;
    const int column = thread % (Tile::columns / Tile::n) * Tile::n;
    fetch(0);
    for (int step = 0; step < args.steps; ++step) {
        if constexpr (CHANNELS_TOGETHER) {
#pragma unroll
            for (int j = 0; j < A_LOADS; ++j)
                a[a_depth + j % V][a_row + j / V * (THREADS / A_QUADS)] = widen(a_next[j]);
        } else {
#pragma unroll
            for (int j = 0; j < A_LOADS; ++j) a[a_depth + j][a_row] = widen(a_next[j]);
        }
#pragma unroll
        for (int j = 0; j < B_LOADS; ++j) b[b_depth][b_column + j] = widen(b_next[j / V].v[j % V]);
        __syncthreads();
        fetch(static_cast<int64_t>(step + 1) * Tile::depth);
        multiply_tile(a, b, row, column, sums);
        __syncthreads();
    }

    T* out = static_cast<T*>(args.out);
#pragma unroll
    for (int n = 0; n < Tile::n; ++n) {
        const int channel = first_column + column + n;
        if (channel >= args.written) continue;
        const S offset = args.bias ? widen(static_cast<const T*>(args.bias)[channel]) : S(0);
#pragma unroll
        for (int m = 0; m < Tile::m; ++m) {
            if (first_pixel + row + m >= args.pixels) continue;
            narrow(out + out_origin[row + m] + channel * args.out_strides.s[1], sums[m][n] + offset);
        }
    }
}

struct WeightArgs {
    const void* grad;
    const void* x;
    void* partials;  // [splits, O, taps * I + 1]; the last column belongs to the bias
    Strides4 grad_strides, x_strides;
    int64_t pixels;
    int height, width, out_channels, in_channels, kh, kw;
    int columns;  // taps * I
    int steps;    // tiles of pixels per split
};

// One tile of output channels (rows) by places (tap, input channel) (columns), summed over this split's run of pixels.
// CHANNELS_TOGETHER: neighbouring threads load neighbouring channels; otherwise neighbouring pixels.
template <typename T, bool CHANNELS_TOGETHER>
__global__ void __launch_bounds__(THREADS) weight_partials(WeightArgs args) {
    using Tile = WeightTile;
    using S = typename Sum<T>::type;
    constexpr int PAD = 16 / sizeof(S);
    constexpr int LOADS = Tile::rows * Tile::depth / THREADS;
    static_assert(Tile::rows == Tile::columns, "one mapping of loads serves both tiles");
    static_assert(Tile::rows / Tile::m * (Tile::columns / Tile::n) == THREADS, "one rectangle of sums per thread");

    alignas(16) __shared__ S a[Tile::depth][Tile::rows + PAD];
    alignas(16) __shared__ S b[Tile::depth][Tile::columns + PAD];
    __shared__ int64_t column_offset[Tile::columns];
    __shared__ int column_dy[Tile::columns];
    __shared__ int column_dx[Tile::columns];

    const T* grad = static_cast<const T*>(args.grad);
    const T* x = static_cast<const T*>(args.x);
    const int thread = threadIdx.x;
    const int column_tiles = args.columns == 0 ? 1 : (args.columns + Tile::columns - 1) / Tile::columns;
    const int first_row = static_cast<int>(blockIdx.x / column_tiles) * Tile::rows;
    const int first_column = static_cast<int>(blockIdx.x % column_tiles) * Tile::columns;
    const int64_t first_pixel = static_cast<int64_t>(blockIdx.y) * args.steps * Tile::depth;

    if (thread < Tile::columns) {
        const Place place(first_column + thread, args.in_channels, args.kw);
        const int dy = place.ty - args.kh / 2, dx = place.tx - args.kw / 2;
        column_offset[thread] =
            place.channel * args.x_strides.s[1] + dy * args.x_strides.s[2] + dx * args.x_strides.s[3];
        column_dy[thread] = first_column + thread < args.columns ? dy : -(1 << 30);  // far outside: reads as zero
        column_dx[thread] = dx;
    }
    __syncthreads();

    const int lane = CHANNELS_TOGETHER ? thread % Tile::rows : thread / Tile::depth;
    const int depth = CHANNELS_TOGETHER ? thread / Tile::rows * LOADS : thread % Tile::depth;
    constexpr int LANE_STEP = CHANNELS_TOGETHER ? 0 : THREADS / Tile::depth;
    constexpr int DEPTH_STEP = CHANNELS_TOGETHER ? 1 : 0;
    int64_t p = first_pixel + depth;
    Pixel pixel(p, args.height, args.width);
    T a_next[LOADS], b_next[LOADS];

    auto fetch = [&](int step) {
        if (step >= args.steps) return;
#pragma unroll
        for (int j = 0; j < LOADS; ++j) {
            const int at = lane + j * LANE_STEP;
            const bool exists = p < args.pixels;
            narrow(&a_next[j], S(0));
            if (exists && first_row + at < args.out_channels) {
                a_next[j] = grad[pixel.batch * args.grad_strides.s[0] + (first_row + at) * args.grad_strides.s[1] +
                                 pixel.y * args.grad_strides.s[2] + pixel.x * args.grad_strides.s[3]];
            }
            const int y = pixel.y + column_dy[at], xx = pixel.x + column_dx[at];
            narrow(&b_next[j], S(0));
            if (exists && y >= 0 && y < args.height && xx >= 0 && xx < args.width) {
                b_next[j] = x[pixel.batch * args.x_strides.s[0] + pixel.y * args.x_strides.s[2] +
                              pixel.x * args.x_strides.s[3] + column_offset[at]];
            }
            p += DEPTH_STEP;
            if (DEPTH_STEP) pixel.step(DEPTH_STEP, args.height, args.width);
        }
        p += Tile::depth - LOADS * DEPTH_STEP;
        pixel.step(Tile::depth - LOADS * DEPTH_STEP, args.height, args.width);
    };

    S sums[Tile::m][Tile::n] = {};
    S bias_sum = 0;
    const int row = thread / (Tile::columns / Tile::n) * Tile::m;
    const int column = thread % (Tile::columns / Tile::n) * Tile::n;
    const bool sums_bias = first_column == 0 && thread < Tile::rows;
    fetch(0);
    for (int step = 0; step < args.steps; ++step) {
#pragma unroll
        for (int j = 0; j < LOADS; ++j) {
            a[depth + j * DEPTH_STEP][lane + j * LANE_STEP] = widen(a_next[j]);
            b[depth + j * DEPTH_STEP][lane + j * LANE_STEP] = widen(b_next[j]);
        }
        __syncthreads();
        fetch(step + 1);
        multiply_tile(a, b, row, column, sums);
        if (sums_bias) {
#pragma unroll
            for (int k = 0; k < Tile::depth; ++k) bias_sum += a[k][thread];
        }
        __syncthreads();
    }

    S* partials = static_cast<S*>(args.partials) +
                  static_cast<int64_t>(blockIdx.y) * args.out_channels * (args.columns + 1);
#pragma unroll
    for (int m = 0; m < Tile::m; ++m) {
        const int o = first_row + row + m;
#pragma unroll
        for (int n = 0; n < Tile::n; ++n) {
            const int at = first_column + column + n;
            if (o < args.out_channels && at < args.columns) {
                partials[static_cast<int64_t>(o) * (args.columns + 1) + at] = sums[m][n];
            }
        }
    }
    if (sums_bias && first_row + thread < args.out_channels) {
        partials[static_cast<int64_t>(first_row + thread) * (args.columns + 1) + args.columns] = bias_sum;
    }
}

// One thread per element of dweight [O, I, kh * kw], then of dbias [O].
template <typename T>
__global__ void finish_weight(const typename Sum<T>::type* partials, T* dweight, T* dbias, Filter f, int out_channels,
                              int in_channels, int splits) {
    using S = typename Sum<T>::type;
    const int64_t e = static_cast<int64_t>(blockIdx.x) * ELEMENTWISE + threadIdx.x;
    const int64_t row = static_cast<int64_t>(f.taps) * in_channels + 1;
    const int64_t weights = static_cast<int64_t>(out_channels) * in_channels * f.kh * f.kw;
    if (e >= weights + out_channels) return;
    int64_t source;
    bool used = true;
    if (e < weights) {
        const int t = static_cast<int>(e % (f.kh * f.kw));
        const int i = static_cast<int>(e / (f.kh * f.kw) % in_channels);
        const int o = static_cast<int>(e / (f.kh * f.kw) / in_channels);
        source = o * row + static_cast<int64_t>(t) * in_channels + i;
        used = kept(f, o, i, t, out_channels, in_channels);
    } else {
        source = (e - weights) * row + row - 1;
    }
    S total = 0;
    if (used) {
        for (int s = 0; s < splits; ++s) total += partials[s * out_channels * row + source];
    }
    narrow(e < weights ? dweight + e : dbias + (e - weights), total);
}

}  // namespace
