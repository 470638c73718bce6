// masked_conv2d on a GPU: the launchers, as seen from C++ without CUDA or torch headers.
//
// A mask keeps the first num_taps taps of the filter in raster order (mask.py), and with color_groups > 1 only some
// channel pairs at the centre tap. The centre of the filter lies over the output pixel; outside the image x is zero.
//
// Memory, streams and errors: common/cuda_types.cuh.
#pragma once

#include "common/cuda_types.cuh"

struct MaskedConv2dShape {
    int dtype;                          // a GenfastDtype; sums are float64 for float64, float32 for the others
    int64_t batch, height, width;       // B, H, W: each at least 1
    int in_channels, out_channels;      // I, O: each at least 1
    int kernel_height, kernel_width;    // kh, kw: odd
    int num_taps;                       // 0 .. kh * kw
    int color_groups;                   // G: at least 1; channel c of C belongs to group c * G / C
    int strict;                         // for G > 1, at the centre tap: 1 reads groups < its own (A), 0 groups <= (B)
};

extern "C" {

// Elements of `packed`, the scratch memory (of the dtype) that the next two launchers need.
int64_t masked_conv2d_packed_elements(const MaskedConv2dShape* shape);

// y [B, O, H, W] = bias + masked convolution of x [B, I, H, W] with weight [O, I, kh, kw]. bias [O], contiguous, may be
// null. A masked weight is never read.
int masked_conv2d_fwd_cuda(const MaskedConv2dShape* shape, const void* x, Strides4 x_strides, const void* weight,
                           Strides4 weight_strides, const void* bias, void* y, Strides4 y_strides, void* packed,
                           CUstream_st* stream);

// dx [B, I, H, W] from the output's gradient grad [B, O, H, W].
int masked_conv2d_bwd_input_cuda(const MaskedConv2dShape* shape, const void* grad, Strides4 grad_strides,
                                 const void* weight, Strides4 weight_strides, void* dx, Strides4 dx_strides,
                                 void* packed, CUstream_st* stream);

// Elements of `partials`, the scratch memory (float64 for float64, otherwise float32) that the next launcher needs.
int64_t masked_conv2d_partial_elements(const MaskedConv2dShape* shape);

// dweight [O, I, kh, kw] and dbias [O], both contiguous; dweight is zero where the mask is. Equal inputs give equal
// bits: partial sums over runs of pixels are added in a fixed order that does not depend on the device.
int masked_conv2d_bwd_weight_cuda(const MaskedConv2dShape* shape, const void* grad, Strides4 grad_strides,
                                  const void* x, Strides4 x_strides, void* dweight, void* dbias, void* partials,
                                  CUstream_st* stream);

}  // extern "C"
