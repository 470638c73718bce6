// logistic_mixture on a GPU: the launchers, as seen from C++ without CUDA or torch headers. The formulas are in
// __init__.py; reference.py defines the result. Memory, streams and errors: common/cuda_types.cuh.
#pragma once

#include "common/cuda_types.cuh"

struct LogisticMixtureShape {
    int dtype;                     // of the parameters, a GenfastDtype; ln P is float64 for float64, else float32
    int64_t batch, height, width;  // B, H, W: each at least 1
    int channels;                  // C: at least 1; 1 or 3 for a mixture
    int components;                // K, or 0 for one logistic a channel
    int levels;                    // L: 2 .. 256; a level that is not there counts as the last
    double min_log_scale;          // lower log-scales are raised to this; -infinity raises none
};

extern "C" {

// Whether one pixel's numbers fit in shared memory (some 1000 components of three colours in float32, half as many in
// float64). Where they do not, the launchers return cudaErrorInvalidValue.
int logistic_mixture_fits_cuda(const LogisticMixtureShape* shape);

// params [B, P, H, W] and images uint8 [B, C, H, W] -> out, ln P: [B, C, H, W] for K = 0, else [B, 1, H, W].
int logistic_mixture_fwd_cuda(const LogisticMixtureShape* shape, const void* params, Strides4 params_strides,
                              const void* images, Strides4 images_strides, void* out, Strides4 out_strides,
                              CUstream_st* stream);

// grad, of the dtype and shape of ln P -> dparams [B, P, H, W]. A pixel's numbers depend on that pixel alone, to the
// bit.
int logistic_mixture_bwd_cuda(const LogisticMixtureShape* shape, const void* grad, Strides4 grad_strides,
                              const void* params, Strides4 params_strides, const void* images,
                              Strides4 images_strides, void* dparams, Strides4 dparams_strides, CUstream_st* stream);

}  // extern "C"
