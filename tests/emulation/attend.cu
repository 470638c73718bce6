// Tests only: kernels/attend/cuda_attend.cuh by itself, in one block, as the cuda engine calls it.
#include "attend/cuda_attend.cuh"

#include "common/cuda_launch.cuh"

namespace {

using namespace genfast::cuda;

// Queries of several positions, each of all images. What those of position p see: entries [begin[p], begin[p + 1]) of the lists.
struct Asked {
    const float *query, *keys, *values;  // [positions, images, ...], and [slots, images, ...]
    const float* bias;                   // null, or for each position [heads, keys]
    const uint8_t* there;                // [positions]: 0 where a query is zeros
    const int32_t *key_at, *value_at, *begin;
    int32_t positions, images, heads, depth, width, most, keys_at_a_time, slices, vectors;
    float scale;
    float *scores, *states, *sums, *out;  // of each query

    __device__ AttendShape shape() const {
        return {heads, depth, width, keys_at_a_time, slices, scale, vectors != 0};
    }
    __device__ AttendQuery query_of(int row) const {
        const int position = row / images, image = row % images, first = begin[position];
        return {there[position] ? query + row * heads * depth : nullptr,
                keys + image * heads * depth,
                values + image * heads * width,
                images * heads * depth,
                images * heads * width,
                key_at + first,
                value_at + first,
                bias ? bias + first * heads : nullptr,
                begin[position + 1] - first,
                scores + row * heads * keys_at_a_time,
                states + row * 2 * shape().states(),
                sums + row * slices * shape().groups() * 4};
    }
};

__global__ void attend_alone(const Asked a) {
    const auto query_of = [&](int row) { return a.query_of(row); };
    const int rows = a.positions * a.images;
    attend(a.shape(), rows, a.most, query_of);
    for_each(rows, a.heads * a.width, [&](int row, int n) {
        a.out[row * a.heads * a.width + n] = attended(a.shape(), query_of(row), n);
    });
}

}  // namespace

extern "C" int genfast_attend(const void* asked, int threads) {
    return launch_in_clusters(attend_alone, dim3(1), 1, threads, 0, nullptr, *static_cast<const Asked*>(asked));
}
