// Tests only: stands in for kernels/common/cuda_shared.cuh.
#pragma once

#include "cuda_emulation.h"

namespace genfast::cuda {

template <typename T>
inline T* dynamic_shared() {
    return reinterpret_cast<T*>(emulation::block->shared.data());
}

}  // namespace genfast::cuda
