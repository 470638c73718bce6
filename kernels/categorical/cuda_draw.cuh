// Drawing levels from logits, on a GPU: one block draws several rows together. cpu.h says what is drawn, and how known levels,
// temperature, top_k and top_p count; here all threads work on the levels of a row, in float64.
//
// Weights are added up in groups (cuda_items.cuh), and the groups after one another, in one order whatever the options; so a level
// drawn or known has the same log-probability to the bit.
#pragma once

#include "common/cuda_items.cuh"
#include "common/cuda_math.cuh"

namespace genfast::cuda {

constexpr int NO_DISTRIBUTION = 1, NO_LEVEL = 2;  // what can be wrong with a row: its logits; a known level out of range

struct DrawOptions {
    int levels;
    double temperature;  // 0: the most probable level, the lowest of equals
    int64_t top_k;       // 0: all
    double top_p;        // 1: all

    __host__ __device__ bool cuts_tail() const { return (top_k > 0 && top_k < levels) || top_p < 1; }
};

// A sub-pixel to draw. `asked`: there is a level or a log-probability to find.
struct DrawRow {
    const float* params;
    int32_t* level;
    double* log_prob;  // null: not wanted
    double uniform;
    bool known, asked;
};

// What a row keeps in memory.
struct LevelMemory {
    double *logits, *weights, *sorted, *groups, *top, *plain, *kept;
    int32_t* rank;

    static __host__ __device__ int64_t doubles(const DrawOptions& o) {
        return (o.cuts_tail() ? 4 : 2) * static_cast<int64_t>(o.levels) + groups_of(o.levels) + 3;
    }
    __device__ LevelMemory(double* at, const DrawOptions& o) {
        top = at, plain = at + 1, kept = at + 2, groups = at + 3;
        logits = groups + groups_of(o.levels);
        weights = logits + o.levels;
        sorted = weights + o.levels;
        rank = reinterpret_cast<int32_t*>(sorted + o.levels);
    }
};

// The sums of the weights of each group. Ends with a barrier.
template <typename Memory, typename Asked>
__device__ inline void sum_weights(const DrawOptions& o, int rows, Memory memory, Asked asked) {
    const int length = group_of(o.levels);
    for_each(rows, groups_of(o.levels), [&](int row, int g) {
        if (!asked(row)) return;
        const LevelMemory m = memory(row);
        const int end = (g + 1) * length < o.levels ? (g + 1) * length : o.levels;
        double total = 0;
        for (int l = g * length; l < end; ++l) total += m.weights[l];
        m.groups[g] = total;
    });
    __syncthreads();
}

__device__ inline double total_of(const DrawOptions& o, const LevelMemory& m) {
    double total = 0;
    for (int g = 0; g < groups_of(o.levels); ++g) total += m.groups[g];
    return total;
}

// Sets to zero the weights that top_k and top_p leave out: both keep a first part of the levels in the order of their
// probability, the lower of equals first. Every level counts how many come before it. Ends with a barrier.
template <typename Memory, typename Asked>
__device__ inline void cut_tail(const DrawOptions& o, int rows, Memory memory, Asked asked) {
    for_each(rows, o.levels, [&](int row, int l) {
        if (!asked(row)) return;
        const LevelMemory m = memory(row);
        const double x = m.logits[l];
        int before = 0;
        for (int j = 0; j < o.levels; ++j) before += m.logits[j] > x || (m.logits[j] == x && j < l);
        m.rank[l] = before;
        m.sorted[before] = m.weights[l];
    });
    __syncthreads();
    for_each(rows, 1, [&](int row, int) {
        if (!asked(row)) return;
        const LevelMemory m = memory(row);
        int kept = o.top_k > 0 && o.top_k < o.levels ? static_cast<int>(o.top_k) : o.levels;
        if (o.top_p < 1) {
            double total = 0, before = 0;
            for (int i = 0; i < o.levels; ++i) total += m.sorted[i];
            int reached = 0;
            for (; reached < o.levels && before < o.top_p * total; ++reached) before += m.sorted[reached];
            if (reached < kept) kept = reached;
        }
        *m.kept = kept;
    });
    __syncthreads();
    for_each(rows, o.levels, [&](int row, int l) {
        if (!asked(row)) return;
        const LevelMemory m = memory(row);
        if (m.rank[l] >= *m.kept) m.weights[l] = 0;
    });
    __syncthreads();
}

__device__ inline int first_largest(const DrawOptions& o, const LevelMemory& m) {
    for (int l = 0; l < o.levels; ++l)
        if (m.logits[l] == *m.top) return l;
    return 0;
}

// The smallest level at which the sum of the weights passes uniform * their total: the group first, then the level in it.
__device__ inline int level_at(const DrawOptions& o, const LevelMemory& m, double uniform) {
    const int length = group_of(o.levels), groups = groups_of(o.levels);
    const double target = uniform * total_of(o, m);
    double before = 0;
    int g = 0;
    while (g < groups - 1 && !(target < before + m.groups[g])) before += m.groups[g++];
    int level = 0;  // the last that has a weight, should rounding let none of the group pass
    for (int l = g * length; l < (g + 1) * length && l < o.levels; ++l) {
        before += m.weights[l];
        if (m.weights[l] > 0) level = l;
        if (target < before) break;
    }
    return level;
}

// Draws rows whose logits are in memory (after a barrier): rows_of(row) is a DrawRow, memory(row) its LevelMemory. tells: the
// log-probabilities are those of the logits. What is wrong goes to *wrong. Ends with a barrier.
template <typename Rows, typename Memory>
__device__ inline void draw_levels(const DrawOptions& o, int rows, Rows rows_of, Memory memory, bool tells, int* wrong) {
    const int length = group_of(o.levels), groups = groups_of(o.levels);
    const auto asked = [&](int row) { return rows_of(row).asked; };
    for_each(rows, groups, [&](int row, int g) {
        if (!asked(row)) return;
        const LevelMemory m = memory(row);
        double top = -HUGE_VAL;
        for (int l = g * length; l < (g + 1) * length && l < o.levels; ++l) {
            const double x = m.logits[l];
            top = top != top ? top : x > top || x != x ? x : top;
        }
        m.groups[g] = top;
    });
    __syncthreads();
    for_each(rows, o.levels, [&](int row, int l) {
        if (!asked(row)) return;
        const LevelMemory m = memory(row);
        double top = -HUGE_VAL;
        for (int g = 0; g < groups; ++g) {
            const double x = m.groups[g];
            top = top != top ? top : x > top || x != x ? x : top;
        }
        m.weights[l] = exp_of(m.logits[l] - top);
        if (l > 0) return;
        *m.top = top;
        if (!(top - top == 0)) *wrong = NO_DISTRIBUTION;  // NaN, plus infinity, or minus infinity at every level
    });
    __syncthreads();
    sum_weights(o, rows, memory, asked);
    for_each(rows, 1, [&](int row, int) {
        if (asked(row)) *memory(row).plain = total_of(o, memory(row));
    });
    const bool again = o.temperature != 0 && (o.temperature != 1 || o.cuts_tail());
    if (again) {
        if (o.temperature != 1) {
            for_each(rows, o.levels, [&](int row, int l) {
                const LevelMemory m = memory(row);
                if (asked(row)) m.weights[l] = exp_of((m.logits[l] - *m.top) / o.temperature);
            });
        }
        if (o.cuts_tail())
            cut_tail(o, rows, memory, asked);  // of weights that each thread has just written, and ends with a barrier
        else
            __syncthreads();
        sum_weights(o, rows, memory, asked);
    }
    for_each(rows, 1, [&](int index, int) {
        const DrawRow row = rows_of(index);
        if (!row.asked) return;
        const LevelMemory m = memory(index);
        if (!row.known) *row.level = o.temperature == 0 ? first_largest(o, m) : level_at(o, m, row.uniform);
        const int level = *row.level;
        if (level < 0 || level >= o.levels)
            *wrong = NO_LEVEL;
        else if (tells && row.log_prob)
            *row.log_prob = m.logits[level] - *m.top - log_of(*m.plain);
    });
    __syncthreads();
}

// memory: LevelMemory::doubles(o) of them a row. params: a logit for each level, or only that of level 1.
template <typename Rows>
__device__ inline void draw_categorical(const DrawOptions& o, bool bernoulli, int rows, Rows rows_of, double* memory,
                                        int* wrong) {
    const auto memory_of = [&](int row) { return LevelMemory(memory + row * LevelMemory::doubles(o), o); };
    for_each(rows, o.levels, [&](int index, int l) {
        const DrawRow row = rows_of(index);
        if (row.asked) memory_of(index).logits[l] = bernoulli ? (l == 0 ? 0.0 : row.params[0]) : row.params[l];
    });
    __syncthreads();
    draw_levels(o, rows, rows_of, memory_of, true, wrong);
}

}  // namespace genfast::cuda
