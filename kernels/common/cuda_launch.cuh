// Starting kernels: what the launchers of every operator share.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include "common/cuda_types.cuh"

namespace genfast::cuda {

// `shared` is the bytes of dynamic shared memory (cuda_shared.cuh) of a block: at most 48 KB.
template <typename... Parameters, typename... Arguments>
void launch(void (*kernel)(Parameters...), dim3 grid, int threads, int64_t shared, CUstream_st* stream,
            Arguments... arguments) {
    cudaLaunchConfig_t config = {};
    config.gridDim = grid;
    config.blockDim = dim3(threads);
    config.dynamicSmemBytes = static_cast<size_t>(shared);
    config.stream = stream;
    cudaLaunchKernelEx(&config, kernel, arguments...);
}

// As `launch`, with `cluster` neighbouring blocks in a cluster (cuda_cluster.cuh), and as much shared memory as the
// device grants a block that asks for it.
template <typename... Parameters, typename... Arguments>
cudaError_t launch_in_clusters(void (*kernel)(Parameters...), dim3 grid, int cluster, int threads, int64_t shared,
                               CUstream_st* stream, Arguments... arguments) {
    if (shared > 48 * 1024) {
        const cudaError_t error =
            cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(shared));
        if (error != cudaSuccess) return error;
    }
    cudaLaunchAttribute attribute = {};
    attribute.id = cudaLaunchAttributeClusterDimension;
    attribute.val.clusterDim.x = static_cast<unsigned>(cluster);
    attribute.val.clusterDim.y = attribute.val.clusterDim.z = 1;
    cudaLaunchConfig_t config = {};
    config.gridDim = grid;
    config.blockDim = dim3(threads);
    config.dynamicSmemBytes = static_cast<size_t>(shared);
    config.stream = stream;
    config.attrs = &attribute;
    config.numAttrs = cluster > 1 ? 1 : 0;  // GPUs without clusters know no such attribute
    return cudaLaunchKernelEx(&config, kernel, arguments...);
}

// What the current device says of itself; 0 where it does not answer.
inline int device_attribute(cudaDeviceAttr which) {
    int device = 0, value = 0;
    if (cudaGetDevice(&device) != cudaSuccess || cudaDeviceGetAttribute(&value, which, device) != cudaSuccess) return 0;
    return value;
}

// Whether a kernel may be launched in clusters on the current device: the device has them, and so has the code that it
// runs, which on a GPU newer than this build is PTX for an older one.
template <typename... Parameters>
bool can_cluster(void (*kernel)(Parameters...)) {
    cudaFuncAttributes code = {};
    return device_attribute(cudaDevAttrClusterLaunch) != 0 && cudaFuncGetAttributes(&code, kernel) == cudaSuccess &&
           code.ptxVersion >= 90;
}

inline unsigned blocks(int64_t elements, int64_t per_block) {
    return static_cast<unsigned>((elements + per_block - 1) / per_block);
}

// Calls f with a null pointer of the dtype's C++ type.
template <typename F>
int with_dtype(int dtype, F f) {
    switch (dtype) {
        case GENFAST_FLOAT32: return f(static_cast<float*>(nullptr));
        case GENFAST_FLOAT64: return f(static_cast<double*>(nullptr));
        case GENFAST_BFLOAT16: return f(static_cast<__nv_bfloat16*>(nullptr));
        case GENFAST_FLOAT16: return f(static_cast<__half*>(nullptr));
        default: return static_cast<int>(cudaErrorInvalidValue);
    }
}

}  // namespace genfast::cuda
