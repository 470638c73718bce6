// The scan of row_lstm and diagonal_lstm on a GPU: the launchers, as seen from C++ without CUDA or torch headers. scan.h
// says which pixels make a line and what they read. Gates (after their nonlinearity), c and their gradients are float64
// for float64, float32 for the other dtypes. Memory, streams and errors: common/cuda_types.cuh; the launchers ask the
// current device how much shared memory its blocks have, and lstm_scratch_cuda must be asked on the same device.
#pragma once

#include "common/cuda_types.cuh"
#include "lstm/scan.h"

struct LstmShape {
    int dtype;           // a GenfastDtype
    int64_t batch;       // B, at least 1
    genfast::Scan scan;  // H, W, h, taps at least 1; 4h * (the longer side of the image + taps + 3) below 2^31
};

extern "C" {

// Bytes of `scratch` that the next two launchers need, aligned to 256.
int64_t lstm_scratch_cuda(const LstmShape* shape, int backward);

// x [B, 4h, H, W], weight [4h, h, taps], h0, c0 [h], the last three contiguous -> h [B, h, H, W] and, for backward,
// gates [B, H, W, 4h] and c [B, H, W, h], contiguous; both null where backward is not wanted. An image's numbers depend
// on that image alone, to the bit, and not on the GPU's size.
int lstm_fwd_cuda(const LstmShape* shape, const void* x, Strides4 x_strides, const void* weight, const void* h0,
                  const void* c0, void* h, Strides4 h_strides, void* gates, void* c, void* scratch,
                  CUstream_st* stream);

// grad, of h, and what forward kept -> dgates [B, H, W, 4h], the gradients of the pre-activations, which are those of x;
// dc [B, slots, h], of the cell before each slot's first pixel, whose sum is the gradient of c0. The gradients of weight
// and h0 are dense products of dgates: scan.py.
int lstm_bwd_cuda(const LstmShape* shape, const void* grad, Strides4 grad_strides, const void* gates, const void* c,
                  const void* weight, const void* c0, void* dgates, void* dc, void* scratch, CUstream_st* stream);

}  // extern "C"
