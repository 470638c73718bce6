// The scan of row_lstm and diagonal_lstm in CUDA C++, the device code: included by cuda.cu and by nothing else.
//
//   pack_weight    weight -> vectors of the four gates, in the order in which a product reads them
//   forward        a line: the recurrent product and, in the same thread, the cell
//   backward       the lines in reverse: dh through the line after, and the gradients of the pre-activations
//
// One block takes one image through all of its lines, so that blocks never wait for each other; or a cluster of blocks
// does, each with its share of the hidden channels, and they wait for each other alone. A thread owns SLOTS slots and
// one hidden channel, with its four gates: 16 sums in registers. Its c (backward: dc) is its own from line to line; what
// other threads read, h (backward: the gradients of the pre-activations), lies in two lines of memory in turn, so one
// barrier a line is enough. Sums run over taps, then channels, whatever the cluster. Offsets in maps are 64-bit.
//
// Gates are read as forward stored them: recomputing them would be forward's product again, half as much work as
// backward has. Products are SIMT, float32 for 16-bit numbers: no tensor cores yet. None of this was measured on a GPU.
#pragma once

#include "common/cuda_cluster.cuh"
#include "common/cuda_convert.cuh"
#include "common/cuda_shared.cuh"
#include "common/cuda_tile.cuh"
#include "lstm/cuda.cuh"
#include "lstm/cuda_cell.cuh"

namespace {

using genfast::Scan;
using genfast::cuda::activate;
using genfast::cuda::cell_bwd;
using genfast::cuda::cluster_barrier;
using genfast::cuda::dynamic_shared;
using genfast::cuda::Gates;
using genfast::cuda::narrow;
using genfast::cuda::next_c;
using genfast::cuda::of_rank;
using genfast::cuda::Sum;
using genfast::cuda::Vector;
using genfast::cuda::widen;

constexpr int ELEMENTWISE = 256;
constexpr int SLOTS = 4;

template <typename E>
struct Threads {
    static constexpr int most = 512;  // of a block: leaves each 128 registers
};
template <>
struct Threads<double> {
    static constexpr int most = 256;
};

// What lies in a block's shared memory: as much as fits, in this order. Weights that do not fit are read from global
// memory again for every line: the L1 and L2 caches have them.
enum Resident { NOTHING, WEIGHTS, WEIGHTS_AND_LINES };

struct Work {
    Scan scan;
    int ranks;     // blocks that share an image
    int channels;  // hidden channels of each of them; the last ones may have fewer
    int row;       // numbers of a place in a line: forward h rounded up to a vector, backward 4h
    int places;    // of a line: slots rounded up to whole threads, and the zeros beside them
    int lines_at;  // bytes of shared memory before the lines
};

// The slots of a line that are pixels; none before the image or after it.
struct Span {
    int begin, end;
    __device__ Span(const Scan& scan, int line)
        : begin(static_cast<int>(scan.first(line))), end(static_cast<int>(scan.end(line))) {
        if (line < 0 || line >= scan.lines()) begin = end = 0;
    }
    __device__ bool has(int slot) const { return slot >= begin && slot < end; }
};

// Where a slot of a line lies in a map whose rows and columns are so far apart: linear in both numbers (Scan::pixel).
struct Place {
    int64_t origin, per_line, per_slot;
    __device__ Place(const Scan& scan, int64_t y, int64_t x)
        : origin(scan.reverse ? (scan.W - 1) * x : 0), per_line(!scan.diagonal ? y : scan.reverse ? -x : x),
          per_slot(!scan.diagonal ? x : scan.reverse ? y + x : y - x) {}
    __device__ int64_t of(int line, int slot) const { return origin + line * per_line + slot * per_slot; }
};

// Vectors of weights that one hidden channel needs.
__device__ inline int vectors_of(const Work& work, bool backward) {
    return static_cast<int>(work.scan.num_taps) * (backward ? work.row / 4 : work.row);
}

// packed [vector][h][4 gates]. Forward: vector (tap, k) of column j holds weight[q h + j, k, tap], and zeros for the k
// that round h up. Backward: vector (taps - 1 - tap, k) of column j holds weight[q h + k, j, tap]. So both products walk
// over a line in the direction of its places.
template <typename E>
__global__ void pack_weight(const E* weight, E* packed, int hidden, int taps, int depth, bool backward) {
    const int64_t e = static_cast<int64_t>(blockIdx.x) * ELEMENTWISE + threadIdx.x;
    if (e >= static_cast<int64_t>(taps) * depth * hidden * 4) return;
    const int64_t q = e % 4, j = e / 4 % hidden, k = e / 4 / hidden % depth, tap = e / 4 / hidden / depth;
    E value;
    narrow(&value, typename Sum<E>::type(0));
    if (backward)
        value = weight[((q * hidden + k) * hidden + j) * taps + taps - 1 - tap];
    else if (k < hidden)
        value = weight[((q * hidden + j) * hidden + k) * taps + tap];
    packed[e] = value;
}

// A block's share of an image: its channels, their weights, and the two lines.
template <typename E, int RESIDENT>
struct Share {
    using S = typename Sum<E>::type;
    int64_t image;
    int first, count;             // hidden channels
    const Vector<E, 4>* weights;  // [vector][stride], its own channels first
    int stride;
    S* lines;                     // [2][place][row]
    int size, ranks;              // of one line; blocks that share the image

    // Copies the weights, if there is room; a barrier must follow.
    __device__ Share(const Work& work, const E* packed, S* global_lines, bool backward) {
        const int hidden = static_cast<int>(work.scan.hidden), vectors = vectors_of(work, backward);
        ranks = work.ranks;
        image = blockIdx.x / ranks;
        first = static_cast<int>(blockIdx.x % ranks) * work.channels;
        count = hidden - first < work.channels ? (hidden > first ? hidden - first : 0) : work.channels;
        weights = reinterpret_cast<const Vector<E, 4>*>(packed) + first;
        stride = hidden;
        if constexpr (RESIDENT != NOTHING) {
            Vector<E, 4>* copy = dynamic_shared<Vector<E, 4>>();
            for (int i = threadIdx.x; i < vectors * count; i += blockDim.x)
                copy[i] = weights[static_cast<int64_t>(i / count) * hidden + i % count];
            weights = copy;
            stride = count;
        }
        size = work.places * work.row;
        if constexpr (RESIDENT == WEIGHTS_AND_LINES)
            lines = reinterpret_cast<S*>(dynamic_shared<unsigned char>() + work.lines_at);
        else
            lines = global_lines + image * 2 * size;
    }

    __device__ S* line(int number) const { return lines + (number % 2 == 0 ? 0 : size); }

    // Both lines: value(place, number). A barrier must follow.
    template <typename F>
    __device__ void fill(const Work& work, const F& value) const {
        constexpr bool OWN = RESIDENT == WEIGHTS_AND_LINES;
        const int part = OWN ? 0 : static_cast<int>(blockIdx.x % ranks), parts = OWN ? 1 : ranks;
        for (int i = part * blockDim.x + threadIdx.x; i < 2 * size; i += parts * blockDim.x)
            lines[i] = value(i % size / work.row, i % work.row);
    }

    // Writes for all blocks of the cluster to read: each has the lines in its own shared memory, or all in one place.
    template <typename V>
    __device__ void publish(V* to, const V& value) const {
        if (RESIDENT == WEIGHTS_AND_LINES && ranks > 1) {
            for (int r = 0; r < ranks; ++r) *of_rank(to, r) = value;
        } else {
            *to = value;
        }
    }
};

// sums[m][q] += over the taps and channels k of line[place m + tap][k] * weights[tap, k][q]. Places lie `row` apart
// without gaps, so the taps and their channels are one run of `depth` numbers, a multiple of four.
template <typename E, typename S>
__device__ inline void multiply_forward(const S* line, int row, const Vector<E, 4>* weights, int stride, int depth,
                                        S (&sums)[SLOTS][4]) {
    for (int k = 0; k < depth; k += 4) {
        Vector<S, 4> left[SLOTS];
#pragma unroll
        for (int m = 0; m < SLOTS; ++m) left[m] = *reinterpret_cast<const Vector<S, 4>*>(line + m * row + k);
#pragma unroll
        for (int v = 0; v < 4; ++v) {
            const Vector<E, 4> right = *weights;
            weights += stride;
#pragma unroll
            for (int m = 0; m < SLOTS; ++m)
#pragma unroll
                for (int q = 0; q < 4; ++q) sums[m][q] += left[m].v[v] * widen(right.v[q]);
        }
    }
}

// sums[m] += over the taps, channels k and gates q of line[place m + tap][k][q] * weights[tap, k][q].
template <typename E, typename S>
__device__ inline void multiply_backward(const S* line, int row, const Vector<E, 4>* weights, int stride, int depth,
                                         S (&sums)[SLOTS]) {
#pragma unroll 2  // with 4, a few registers spill
    for (int k = 0; k < depth; ++k) {
        const Vector<E, 4> right = *weights;
        weights += stride;
#pragma unroll
        for (int m = 0; m < SLOTS; ++m) {
            const Vector<S, 4> left = *reinterpret_cast<const Vector<S, 4>*>(line + m * row + k * 4);
#pragma unroll
            for (int q = 0; q < 4; ++q) sums[m] += left.v[q] * widen(right.v[q]);
        }
    }
}

template <typename E>
struct ForwardArgs {
    using S = typename Sum<E>::type;
    Work work;
    const E *x, *packed, *h0, *c0;
    E* h;
    S *gates, *c;    // null, or kept for backward
    S *cells;        // [B, slots, h]: c of the line before
    S *lines;        // [B, 2, places, row], unless they are resident
    Strides4 x_strides, h_strides;
};

template <typename E, int RESIDENT>
__global__ void __launch_bounds__(Threads<E>::most, 1) forward(ForwardArgs<E> args) {
    using S = typename Sum<E>::type;
    const Scan scan = args.work.scan;
    const int hidden = static_cast<int>(scan.hidden), slots = static_cast<int>(scan.slots());
    const int reach = static_cast<int>(scan.reach), row = args.work.row;
    const Share<E, RESIDENT> share(args.work, args.packed, args.lines, false);
    const int depth = vectors_of(args.work, false);

    // A slot that no line has filled yet holds h0, in both lines; beside the slots are zeros.
    share.fill(args.work, [&](int place, int k) {
        const bool is_slot = place >= reach && place < reach + slots;
        return is_slot && k < hidden ? widen(args.h0[k]) : S(0);
    });
    if (share.ranks == 1) {
        __syncthreads();
    } else {
        cluster_barrier();
    }

    const E* x = args.x + share.image * args.x_strides.s[0];
    E* h = args.h + share.image * args.h_strides.s[0];
    S* cells = args.cells + share.image * slots * hidden;
    const int64_t first_pixel = share.image * scan.H * scan.W;
    const Place in_x(scan, args.x_strides.s[2], args.x_strides.s[3]), in_map(scan, scan.W, 1);
    const Place in_h(scan, args.h_strides.s[2], args.h_strides.s[3]);
    const int items = (slots + SLOTS - 1) / SLOTS * share.count;
    for (int line = 0; line < scan.lines(); ++line) {
        const Span here(scan, line), filled(scan, line - 1);
        const S* before = share.line(line);
        S* after = share.line(line + 1);
        for (int e = threadIdx.x; e < items; e += blockDim.x) {
            const int slot = e / share.count * SLOTS, own = e % share.count, j = share.first + own;
            if (slot + SLOTS <= here.begin || slot >= here.end) continue;
            // Asked for before the product, which takes longer than they do.
            S pre[SLOTS][4] = {}, c[SLOTS] = {};
#pragma unroll
            for (int m = 0; m < SLOTS; ++m) {
                const int s = slot + m;
                if (!here.has(s)) continue;
                const E* from = x + in_x.of(line, s) + j * args.x_strides.s[1];
#pragma unroll
                for (int q = 0; q < 4; ++q) pre[m][q] = widen(from[q * hidden * args.x_strides.s[1]]);
                c[m] = filled.has(s) ? cells[s * hidden + j] : widen(args.c0[j]);
            }
            S sums[SLOTS][4] = {};
            multiply_forward(before + slot * row, row, share.weights + own, share.stride, depth, sums);
#pragma unroll
            for (int m = 0; m < SLOTS; ++m) {
                const int s = slot + m;
                if (!here.has(s)) continue;
                const Gates<S> gates = activate(Gates<S>{pre[m][0] + sums[m][0], pre[m][1] + sums[m][1],
                                                         pre[m][2] + sums[m][2], pre[m][3] + sums[m][3]});
                const S c_here = next_c(gates, c[m]);
                E out;  // the next line reads what is stored: rounded, if E is narrower
                narrow(&out, gates.o * genfast::cuda::tanh_of(c_here));
                h[in_h.of(line, s) + j * args.h_strides.s[1]] = out;
                share.publish(after + (reach + s) * row + j, widen(out));
                cells[s * hidden + j] = c_here;
                if (args.gates) {
                    const int64_t pixel = first_pixel + in_map.of(line, s);
                    S* to = args.gates + pixel * 4 * hidden + j;
                    to[0] = gates.i;
                    to[hidden] = gates.f;
                    to[2 * hidden] = gates.g;
                    to[3 * hidden] = gates.o;
                    args.c[pixel * hidden + j] = c_here;
                }
            }
        }
        if (share.ranks == 1) {
            __syncthreads();
        } else {
            cluster_barrier();
        }
    }
}

template <typename E>
struct BackwardArgs {
    using S = typename Sum<E>::type;
    Work work;
    const E *grad, *packed, *c0;
    const S *gates, *c;
    S *dgates;
    S *dc;           // [B, slots, h]: of the cell before, through the line after
    S *lines;        // [B, 2, places, row], unless they are resident
    Strides4 grad_strides;
};

template <typename E, int RESIDENT>
__global__ void __launch_bounds__(Threads<E>::most, 1) backward(BackwardArgs<E> args) {
    using S = typename Sum<E>::type;
    const Scan scan = args.work.scan;
    const int hidden = static_cast<int>(scan.hidden), slots = static_cast<int>(scan.slots());
    const int row = args.work.row, zeros = static_cast<int>(scan.num_taps - 1 - scan.reach);  // before the first slot
    const Share<E, RESIDENT> share(args.work, args.packed, args.lines, true);
    const int depth = vectors_of(args.work, true);

    share.fill(args.work, [](int, int) { return S(0); });  // nothing comes after the image
    if (share.ranks == 1) {
        __syncthreads();
    } else {
        cluster_barrier();
    }

    const E* grad = args.grad + share.image * args.grad_strides.s[0];
    S* dc = args.dc + share.image * slots * hidden;
    const int64_t first_pixel = share.image * scan.H * scan.W;
    const Place in_grad(scan, args.grad_strides.s[2], args.grad_strides.s[3]), in_map(scan, scan.W, 1);
    const int items = (slots + SLOTS - 1) / SLOTS * share.count;
    for (int line = static_cast<int>(scan.lines()) - 1; line >= 0; --line) {
        const Span here(scan, line), filled(scan, line - 1), done(scan, line + 1);
        const S* after = share.line(line + 1);
        S* written = share.line(line);
        for (int e = threadIdx.x; e < items; e += blockDim.x) {
            const int slot = e / share.count * SLOTS, own = e % share.count, j = share.first + own;
            if (slot + SLOTS <= here.begin || slot >= here.end) continue;
            // Asked for before the product, which takes longer than they do. c and dc were here for the line after.
            Gates<S> gates[SLOTS] = {};
            S dh[SLOTS] = {}, c_prev[SLOTS] = {};
#pragma unroll
            for (int m = 0; m < SLOTS; ++m) {
                const int s = slot + m;
                if (!here.has(s)) continue;
                const int64_t pixel = first_pixel + in_map.of(line, s);
                const S* from = args.gates + pixel * 4 * hidden + j;
                gates[m] = {from[0], from[hidden], from[2 * hidden], from[3 * hidden]};
                dh[m] = widen(grad[in_grad.of(line, s) + j * args.grad_strides.s[1]]);
                c_prev[m] = filled.has(s) ? args.c[(first_pixel + in_map.of(line - 1, s)) * hidden + j]
                                          : widen(args.c0[j]);
            }
            S sums[SLOTS] = {};
            multiply_backward(after + slot * row, row, share.weights + own, share.stride, depth, sums);
#pragma unroll
            for (int m = 0; m < SLOTS; ++m) {
                const int s = slot + m;
                if (!here.has(s)) continue;
                const int64_t pixel = first_pixel + in_map.of(line, s);
                S dc_here = done.has(s) ? dc[s * hidden + j] : S(0);
                const Gates<S> d =
                    cell_bwd(gates[m], args.c[pixel * hidden + j], c_prev[m], dh[m] + sums[m], &dc_here);
                share.publish(reinterpret_cast<Vector<S, 4>*>(written + (zeros + s) * row + j * 4),
                              Vector<S, 4>{{d.i, d.f, d.g, d.o}});
                S* to = args.dgates + pixel * 4 * hidden + j;
                to[0] = d.i;
                to[hidden] = d.f;
                to[2 * hidden] = d.g;
                to[3 * hidden] = d.o;
                dc[s * hidden + j] = dc_here;
            }
        }
        if (share.ranks == 1) {
            __syncthreads();
        } else {
            cluster_barrier();
        }
    }
}

}  // namespace
