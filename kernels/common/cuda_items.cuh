// Work shared out among the threads of a block.
#pragma once

#include <cuda_runtime.h>

namespace genfast::cuda {

// f(row, n) for all rows and n, each by one thread: neighbouring n by neighbouring threads.
template <typename F>
__device__ inline void for_each(int rows, int width, F f) {
    const int items = rows * width;
    for (int item = static_cast<int>(threadIdx.x); item < items; item += static_cast<int>(blockDim.x))
        f(item / width, item % width);
}

// How many numbers of a row of n a thread adds up by itself: about as many as there are such groups then.
__host__ __device__ inline int group_of(int n) {
    int group = 4;
    while (group * group < n) group += 4;
    return group;
}
__host__ __device__ inline int groups_of(int n) { return (n + group_of(n) - 1) / group_of(n); }

}  // namespace genfast::cuda
