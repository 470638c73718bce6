// Drawing sub-pixels from mixtures of logistics, on a GPU: one block draws several rows together. draw.h, for CPUs, says what and
// how; here threads share out the components, and the distribution function is looked at in 15 places at a time instead of one.
#pragma once

#include "categorical/cuda_draw.cuh"
#include "logistic_mixture/cuda_bin.cuh"

namespace genfast::cuda {

struct MixtureOptions {
    DrawOptions draw;
    int components, colours;
    double min_log_scale;
};

constexpr double LOWEST_LOG_SCALE = -60;        // as in reference.py
constexpr double COLDEST = 1.0 / (1ull << 40);  // in the place of temperature 0, as in genfast/likelihoods
constexpr int WAYS = 16;                        // into which the levels are divided by one look

// A mixture at some temperature: ln of the shares, unnormalised, and the logistics in half bins.
struct MixtureMemory {
    double *log_weights, *means, *log_scales;
    __device__ MixtureMemory(double* at, int components)
        : log_weights(at), means(at + components), log_scales(at + 2 * components) {}
};

// What a row keeps in memory: the mixture at the temperature drawn at and at 1, and more; then its levels, if they are looked at.
struct MixtureDrawMemory {
    MixtureMemory drawn, plain;
    double *weights, *inverse, *bins, *low, *passed, *levels;

    static __host__ __device__ bool all_levels(const DrawOptions& o) { return o.temperature == 0 || o.cuts_tail(); }
    static __host__ __device__ int64_t doubles(const MixtureOptions& o) {
        return 9 * static_cast<int64_t>(o.components) + 1 + WAYS + (all_levels(o.draw) ? LevelMemory::doubles(o.draw) : 0);
    }
    __device__ MixtureDrawMemory(double* at, int components)
        : drawn(at, components), plain(at + 3 * components, components), weights(at + 6 * components),
          inverse(weights + components), bins(inverse + components), low(bins + components), passed(low + 1),
          levels(passed + WAYS) {}
};

__device__ inline Scale<double> scale_of(const DrawOptions& o) {
    const double last = o.levels - 1;
    return {last, 1 / last, log_of(2 / last), LOWEST_LOG_SCALE};
}

__device__ inline double log_scale_of(const MixtureOptions& o, double number, double log_temperature) {
    return most_of(number, o.min_log_scale > LOWEST_LOG_SCALE ? o.min_log_scale : LOWEST_LOG_SCALE) + log_temperature;
}

// Component k at a temperature: its share, given what the earlier colours say about it, and its logistic.
__device__ inline void at_temperature(const MixtureOptions& o, const float* params, double temperature, int k,
                                      const MixtureMemory& to) {
    const Scale<double> scale = scale_of(o.draw);
    const double last = scale.levels_minus_1, log_temperature = log_of(temperature);
    const auto number = [&](int row) { return static_cast<double>(params[row * o.components + k]); };
    double log_weight = 1 / temperature * number(0);
    for (int row = 3; row < 3 * o.colours; row += 3) {
        if (params[row * o.components] < 0) continue;  // not an earlier colour
        const Bin<double> b = bin<false>(scale, 2 * number(row) - last, last * number(row + 1),
                                         log_scale_of(o, number(row + 2), log_temperature));
        log_weight = log_weight + b.exponent + log_of(b.ratio);
    }
    to.log_weights[k] = log_weight;
    to.means[k] = last * number(1);
    to.log_scales[k] = log_scale_of(o, number(2), log_temperature);
}

__device__ inline double log_bin(const MixtureOptions& o, const MixtureMemory& m, int k, int level) {
    const Scale<double> scale = scale_of(o.draw);
    const Bin<double> b = bin<false>(scale, 2.0 * level - scale.levels_minus_1, m.means[k], m.log_scales[k]);
    return m.log_weights[k] + b.exponent + log_of(b.ratio);
}

__device__ inline double largest_of(const double* x, int n) {
    double top = x[0];
    for (int k = 1; k < n; ++k) top = x[k] > top ? x[k] : top;
    return top;
}

template <typename F>
__device__ inline double log_sum(int n, F x) {
    double top = x(0), total = 0;
    for (int k = 1; k < n; ++k) {
        const double v = x(k);
        top = v > top ? v : top;
    }
    for (int k = 0; k < n; ++k) total += exp_of(x(k) - top);
    return top + log_of(total);
}

// The smallest level at which the distribution function passes the uniform. Ends with a barrier.
template <typename Rows, typename Memory>
__device__ inline void invert_mixture(const MixtureOptions& o, int rows, Rows rows_of, Memory memory) {
    const Scale<double> scale = scale_of(o.draw);
    const int K = o.components, last = o.draw.levels - 1;
    const auto drawn = [&](int row) { return rows_of(row).asked && !rows_of(row).known; };
    for_each(rows, K, [&](int row, int k) {
        if (!drawn(row)) return;
        const MixtureDrawMemory m = memory(row);
        m.weights[k] = exp_of(m.drawn.log_weights[k] - largest_of(m.drawn.log_weights, K));
        m.inverse[k] = exp_of(-most_of(m.drawn.log_scales[k], LOWEST_LOG_SCALE)) * scale.inverse;
        if (k == 0) *m.low = 0;
    });
    __syncthreads();
    // The level is one of the next `width` ones from *low on.
    for (int width = o.draw.levels, step; width > 1; width = step) {
        step = (width + WAYS - 1) / WAYS;
        for_each(rows, WAYS - 1, [&](int row, int way) {
            if (!drawn(row)) return;
            const MixtureDrawMemory m = memory(row);
            const int level = static_cast<int>(*m.low) + (way + 1) * step - 1;
            const double edge = 2.0 * level + 1 - scale.levels_minus_1;
            double below = 0, total = 0;
            for (int k = 0; k < K && level < last; ++k) {  // at the last level the distribution function is 1
                total += m.weights[k];
                below += m.weights[k] * sigmoid_of((edge - m.drawn.means[k]) * m.inverse[k]);
            }
            m.passed[way] = level >= last || rows_of(row).uniform * total < below ? 1 : 0;
        });
        __syncthreads();
        for_each(rows, 1, [&](int row, int) {
            if (!drawn(row)) return;
            const MixtureDrawMemory m = memory(row);
            int way = 0;
            while (way < WAYS - 1 && m.passed[way] == 0) ++way;
            *m.low += way * step;
        });
        __syncthreads();
    }
    for_each(rows, 1, [&](int row, int) {
        if (drawn(row)) *rows_of(row).level = static_cast<int32_t>(*memory(row).low);
    });
    __syncthreads();
}

// memory: MixtureDrawMemory::doubles(o) of them a row. params: float [3 colours, K]. When it returns all levels may be read, but
// before the memory is written again there must be a barrier.
template <typename Rows>
__device__ inline void draw_logistic_mixture(const MixtureOptions& o, int rows, Rows rows_of, double* memory, int* wrong) {
    const int K = o.components;
    const double temperature = o.draw.temperature == 0 ? COLDEST : o.draw.temperature;
    const auto memory_of = [&](int row) { return MixtureDrawMemory(memory + row * MixtureDrawMemory::doubles(o), K); };
    for_each(rows, K, [&](int index, int k) {
        const DrawRow row = rows_of(index);
        if (!row.asked) return;
        if (!row.known) at_temperature(o, row.params, temperature, k, memory_of(index).drawn);
        if (row.log_prob) at_temperature(o, row.params, 1, k, memory_of(index).plain);
    });
    __syncthreads();
    if (!MixtureDrawMemory::all_levels(o.draw)) {
        invert_mixture(o, rows, rows_of, memory_of);
    } else {
        const auto unknown = [&](int index) {
            DrawRow row = rows_of(index);
            row.asked = row.asked && !row.known;
            return row;
        };
        const auto levels_of = [&](int row) { return LevelMemory(memory_of(row).levels, o.draw); };
        for_each(rows, o.draw.levels, [&](int index, int l) {
            if (!unknown(index).asked) return;
            const MixtureDrawMemory m = memory_of(index);
            levels_of(index).logits[l] = log_sum(K, [&](int k) { return log_bin(o, m.drawn, k, l); });
        });
        __syncthreads();
        DrawOptions options = o.draw;
        options.temperature = o.draw.temperature == 0 ? 0 : 1;
        draw_levels(options, rows, unknown, levels_of, false, wrong);
    }
    for_each(rows, K, [&](int index, int k) {
        const DrawRow row = rows_of(index);
        if (!row.asked) return;
        for (int i = 0; i < 3 * o.colours; ++i) {
            const float v = row.params[i * K + k];
            if (!(v - v == 0)) *wrong = NO_DISTRIBUTION;
        }
        if (*row.level < 0 || *row.level >= o.draw.levels)
            *wrong = NO_LEVEL;
        else if (row.log_prob)
            memory_of(index).bins[k] = log_bin(o, memory_of(index).plain, k, *row.level);
    });
    __syncthreads();
    for_each(rows, 1, [&](int index, int) {
        const DrawRow row = rows_of(index);
        if (!row.asked || !row.log_prob) return;
        const MixtureDrawMemory m = memory_of(index);
        *row.log_prob = log_sum(K, [&](int k) { return m.bins[k]; }) -
                        log_sum(K, [&](int k) { return m.plain.log_weights[k]; });
    });
}

}  // namespace genfast::cuda
