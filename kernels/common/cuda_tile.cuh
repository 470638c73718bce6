// A matrix product as one block of threads computes it without tensor cores: tiles lie in shared memory, and each
// thread owns a small rectangle of sums in registers.
#pragma once

#include <cuda_runtime.h>

namespace genfast::cuda {

template <typename T, int N>
struct alignas(sizeof(T) * N) Vector {  // one load or store of N elements
    T v[N];
};

// sums[m][n] += a[k][row + m] * b[k][column + n] over one tile. a and b are rows of shared memory, 16-byte aligned.
template <typename S, int DEPTH, int M, int N, int A_ROW, int B_ROW>
__device__ inline void multiply_tile(const S (&a)[DEPTH][A_ROW], const S (&b)[DEPTH][B_ROW], int row, int column,
                                     S (&sums)[M][N]) {
    constexpr int V = 16 / sizeof(S);
#pragma unroll
    for (int k = 0; k < DEPTH; ++k) {
        Vector<S, V> left[M / V], right[N / V];
#pragma unroll
        for (int m = 0; m < M / V; ++m) left[m] = *reinterpret_cast<const Vector<S, V>*>(&a[k][row + m * V]);
#pragma unroll
        for (int n = 0; n < N / V; ++n) right[n] = *reinterpret_cast<const Vector<S, V>*>(&b[k][column + n * V]);
#pragma unroll
        for (int m = 0; m < M; ++m)
#pragma unroll
            for (int n = 0; n < N; ++n) sums[m][n] += left[m / V].v[m % V] * right[n / V].v[n % V];
    }
}

}  // namespace genfast::cuda
