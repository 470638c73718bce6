// Tests only: stands in for kernels/common/cuda_cluster.cuh.
#pragma once

#include "cuda_emulation.h"

namespace genfast::cuda {

inline void cluster_barrier(const char* file = __builtin_FILE(), int line = __builtin_LINE()) {
    emulation::barrier(file, line, emulation::AT_CLUSTER_BARRIER);
}

template <typename T>
inline T* of_rank(T* shared, int rank) {
    emulation::Block* of = emulation::block;
    const auto offset = reinterpret_cast<unsigned char*>(shared) - of->shared.data();
    return reinterpret_cast<T*>(of[rank - static_cast<int>(of->rank)].shared.data() + offset);
}

}  // namespace genfast::cuda
