// The dynamic shared memory of a block: as many bytes as its launch asked for. tests/emulation has its own version.
#pragma once

#include <cuda_runtime.h>

namespace genfast::cuda {

template <typename T>
__device__ inline T* dynamic_shared() {
    extern __shared__ __align__(32) unsigned char genfast_shared[];
    return reinterpret_cast<T*>(genfast_shared);
}

}  // namespace genfast::cuda
