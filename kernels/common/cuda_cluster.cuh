// Clusters: blocks on neighbouring multiprocessors that wait for each other and write into each other's shared memory.
// Code for compute capability 9.0 and later; with other code no launch may ask for a cluster (can_cluster in
// cuda_launch.cuh), and nothing may come here.
// tests/emulation has its own version.
#pragma once

#include <cuda_runtime.h>

namespace genfast::cuda {

// All threads of the cluster's blocks arrive; what each wrote before, in shared or global memory, the others then see.
__device__ inline void cluster_barrier() {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
    __cluster_barrier_arrive();
    __cluster_barrier_wait();
#else
    __trap();
#endif
}

// The same place in the shared memory of the cluster's block of that rank.
template <typename T>
__device__ inline T* of_rank(T* shared, [[maybe_unused]] int rank) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
    return static_cast<T*>(__cluster_map_shared_rank(shared, static_cast<unsigned>(rank)));
#else
    __trap();
    return shared;
#endif
}

}  // namespace genfast::cuda
