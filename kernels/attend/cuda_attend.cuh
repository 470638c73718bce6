// attend on a GPU: queries, each over the keys and values that it sees in a cache, by one block. cpu.h says what.
//
// What bounds it is reading: a query takes its keys and values from the caches, and no other query that is there at
// the time wants them, since images have their own. The last pixel of a 32 x 32 PixelSNAIL sees 1023 keys and values,
// of 16 and 128 floats: 590 KB. From a memory of 3.35 TB/s a multiprocessor, one of 132, has 25 bytes a nanosecond:
// 23 us, of which arithmetic, exponentials included, is about a tenth by count. What comes out of the L2 cache comes
// a few times as fast. Either way a load takes some 0.8 us to arrive, so that 20 KB must be on their way at all
// times, four numbers for each of 384 threads three or four times. Hence:
//   - a thread takes a whole key, all of whose loads go out together, and the values of kAtOnce keys;
//   - the keys are cut into slices, of which a thread adds up one, for four columns: even one query gives all threads
//     something to do. Slice s has the keys s, s + slices, ..., so that it does when few keys are seen too;
//   - who adds up a slice finds its largest score and its exponentials alone, though the threads of the other columns
//     do the same: that costs less than waiting for one that does it for all.
// The scores of at most `keys` keys are kept. If there are more, each slice carries on with its sums, scaled for a
// new largest score: the scratch memory does not grow with what is seen. At the end the slices are put together from
// the first to the last. The order of all sums depends on the query's own keys, `keys` and `slices`, and on nothing
// else.
#pragma once

#include "common/cuda_items.cuh"
#include "common/cuda_math.cuh"
#include "common/cuda_tile.cuh"

namespace genfast::cuda {

struct AttendShape {
    int heads, depth, width;  // of one head: numbers in a query or key, and in a value
    int keys, slices;         // keys that are scored at a time, and how many slices they are cut into, at most as many
    float scale;
    bool vectors;  // depth, width and all places of caches are multiples of four numbers

    __device__ int groups() const { return heads * ((width + 3) / 4); }  // of four columns
    __device__ int states() const { return slices * heads * 2; }         // floats
};

// A query. Caches are as in cpu.h, from its own image's numbers in slot 0 on.
struct AttendQuery {
    const float *query, *keys, *values;  // query: null for zeros
    int64_t key_slot, value_slot;        // floats from slot to slot
    const int32_t *key_at, *value_at;    // [count]; of values -1 for one that counts in the softmax, and adds nothing
    const float* bias;                   // [heads][count], or null
    int count;
    float* scores;  // [heads][keys]
    float* states;  // [2][slices][heads]: the largest score so far, the sum of the exponentials; halves take turns
    float* sums;    // [slices][heads][fours of columns]
};

namespace attending {

constexpr int kAtOnce = 8;  // values that a thread has on their way

using Four = Vector<float, 4>;

// Numbers p[0] to p[3], zeros from the `left`-th on.
template <bool kVectors>
__device__ inline Four four_of(const float* p, int left) {
    if constexpr (kVectors) {
        return *reinterpret_cast<const Four*>(p);
    } else {
        Four v = {};
#pragma unroll
        for (int i = 0; i < 4; ++i)
            if (i < left) v.v[i] = p[i];
        return v;
    }
}

template <bool kVectors>
__device__ inline float score(const AttendShape& a, const AttendQuery& q, int head, int key) {
    const float* k = q.keys + q.key_at[key] * q.key_slot + head * a.depth;
    float sums[4] = {};
#pragma unroll 4
    for (int d = 0; d < a.depth; d += 4) {
        const Four y = four_of<kVectors>(k + d, a.depth - d);
        const Four x = q.query == nullptr ? Four{} : four_of<kVectors>(q.query + head * a.depth + d, a.depth - d);
#pragma unroll
        for (int i = 0; i < 4; ++i) sums[i] = fma_of(x.v[i], y.v[i], sums[i]);
    }
    const float s = ((sums[0] + sums[1]) + (sums[2] + sums[3])) * a.scale;
    return q.bias == nullptr ? s : s + q.bias[static_cast<int64_t>(head) * q.count + key];
}

// What exponentials are taken relative to: not minus infinity, less which minus infinity is NaN. All scores minus
// infinity give 0 / 0.
__device__ inline float base_of(float top) { return top > -HUGE_VALF ? top : 0.0f; }

__device__ inline float* state_of(const AttendShape& a, const AttendQuery& q, int turn, int slice, int head) {
    return q.states + turn * a.states() + (slice * a.heads + head) * 2;
}

// Adds to the sums of a slice, for four columns, those of the keys scored last: `first` and those after it.
template <bool kVectors>
__device__ inline void add_values(const AttendShape& a, const AttendQuery& q, int first, int slice, int group) {
    const int fours = (a.width + 3) / 4, head = group / fours, column = group % fours * 4;
    const int left = q.count - first < a.keys ? q.count - first : a.keys, turn = first / a.keys % 2;
    const float* scores = q.scores + head * a.keys;
    const float* values = q.values + head * a.width + column;
    Four* to = reinterpret_cast<Four*>(q.sums) + slice * a.groups() + group;
    float before = -HUGE_VALF, total = 0;
    Four sum = {};
    if (first > 0) {
        const float* state = state_of(a, q, turn, slice, head);
        before = state[0], total = state[1], sum = *to;
    }
    float top = before;  // a NaN is no score to compare with, but its exponential will be NaN
    for (int i = slice; i < left; i += a.slices) top = scores[i] > top ? scores[i] : top;
    const float base = base_of(top), kept = exp_of(before - base);
    total *= kept;
    for (float& x : sum.v) x *= kept;
    for (int i = slice; i < left; i += kAtOnce * a.slices) {
        Four v[kAtOnce];
        float weight[kAtOnce];
#pragma unroll
        for (int u = 0; u < kAtOnce; ++u) {
            const int key = i + u * a.slices;
            const int32_t at = key < left ? q.value_at[first + key] : -1;
            v[u] = at < 0 ? Four{} : four_of<kVectors>(values + at * q.value_slot, a.width - column);
        }
#pragma unroll
        for (int u = 0; u < kAtOnce; ++u) {
            const int key = i + u * a.slices;
            weight[u] = key < left ? exp_of(scores[key] - base) : 0.0f;
        }
#pragma unroll
        for (int u = 0; u < kAtOnce; ++u) {
            total += weight[u];
#pragma unroll
            for (int n = 0; n < 4; ++n) sum.v[n] = fma_of(weight[u], v[u].v[n], sum.v[n]);
        }
    }
    *to = sum;
    if (column > 0) return;
    float* state = state_of(a, q, 1 - turn, slice, head);
    state[0] = top, state[1] = total;
}

template <bool kVectors, typename F>
__device__ inline void attend(const AttendShape& a, int queries, int most, F query_of) {
    for (int first = 0; first < most; first += a.keys) {
        for_each(queries * a.heads, most - first < a.keys ? most - first : a.keys, [&](int item, int n) {
            const AttendQuery q = query_of(item / a.heads);
            const int head = item % a.heads;
            if (first + n < q.count) q.scores[head * a.keys + n] = score<kVectors>(a, q, head, first + n);
        });
        __syncthreads();
        for_each(queries * a.slices, a.groups(), [&](int item, int group) {
            const AttendQuery q = query_of(item / a.slices);
            if (first < q.count) add_values<kVectors>(a, q, first, item % a.slices, group);
        });
        __syncthreads();
    }
}

}  // namespace attending

// All that `attended` needs. query_of(i): query i, of which none sees more than `most` keys. Called by all threads,
// after a barrier; ends with one.
template <typename F>
__device__ inline void attend(const AttendShape& a, int queries, int most, F query_of) {
    if (a.vectors) return attending::attend<true>(a, queries, most, query_of);
    attending::attend<false>(a, queries, most, query_of);
}

// Number n of a query's result.
__device__ inline float attended(const AttendShape& a, const AttendQuery& q, int n) {
    if (q.count == 0) return 0;
    const int head = n / a.width, turn = (q.count + a.keys - 1) / a.keys % 2;
    const int place = head * ((a.width + 3) / 4) * 4 + n % a.width;
    float top = -HUGE_VALF, total = 0, sum = 0;
    for (int s = 0; s < a.slices; ++s) {
        const float own = attending::state_of(a, q, turn, s, head)[0];
        top = own > top ? own : top;
    }
    const float base = attending::base_of(top);
    for (int s = 0; s < a.slices; ++s) {
        const float* state = attending::state_of(a, q, turn, s, head);
        const float kept = exp_of(state[0] - base);
        total = fma_of(kept, state[1], total);
        sum = fma_of(kept, q.sums[s * a.groups() * 4 + place], sum);
    }
    return sum / total;
}

}  // namespace genfast::cuda
