// masked_conv2d on a CPU. Each function does one piece of work on the calling thread and keeps nothing; csrc/ops/masked_conv2d.cpp
// allocates and shares the pieces out. Pointers are raw, outputs alias nothing, E is the storage type (float, double, BFloat16) and
// T = Accumulator<E> what it is computed in.
//
// A `Conv` maps K read channels to N written ones:
//   forward          reads x, K = I, writes y, N = O, taps as they are
//   input gradient   reads grad, K = O, writes dx, N = I, taps mirrored, weights transposed
// Taps are numbered in raster order and only the first num_taps exist (kernels/masked_conv2d/mask.py). With color_groups > 1 the
// last of them is the pixel itself, and there each written channel reads a prefix (forward) or a suffix (gradient) of the channels.
#pragma once

#include "common/storage.h"
#include "tap_gemm/cpu.h"

namespace genfast {

struct Conv {
  int64_t H, W;
  int64_t K, N;
  int64_t kh, kw, num_taps;
  int64_t pad_x;         // columns of zeros left and right of a padded row: kw / 2, or 0 for the weight gradient
  int64_t color_groups;
  bool reads_own_group;  // mask B rather than A: matters at the pixel itself, with color_groups > 1
  bool transposed;       // the input gradient

  int64_t padded_row() const { return (W + 2 * pad_x) * K; }  // elements of a padded row of the read map
  int64_t dy(int64_t tap) const { return transposed ? kh / 2 - tap / kw : tap / kw - kh / 2; }
  int64_t dx(int64_t tap) const { return transposed ? kw / 2 - tap % kw : tap % kw - kw / 2; }
  bool partial(int64_t tap) const { return color_groups > 1 && tap == (kh / 2) * kw + kw / 2; }
};

// One image, as E, with strides in elements: either channels contiguous (c == 1), or planes contiguous (x == 1, y == W).
struct ImageStrides {
  int64_t c, y, x;
};

template <class E, class T>
struct MaskedConv2dKernels {
  // weight [O, I, kh, kw] contiguous -> panels [begin, end) of `packed`: [panel][tap][K][panel width], zero where masked or past N.
  void (*pack_weight)(const Conv&, const E* weight, T* packed, int64_t begin, int64_t end);

  // Rows [y0, y1) of an image -> padded [y1 - y0][W + 2 pad_x][K], zeros left and right. Rows must exist.
  void (*pad_rows)(const Conv&, const E* image, ImageStrides, int64_t y0, int64_t y1, T* padded);

  // Rows [y0, y1) of the output, pixel-major with N channels a pixel and `out_row` elements a pixel. `padded` holds the rows from
  // y0_padded on; `bias` is null or N values of T. `taps` is scratch for num_taps entries.
  void (*convolve)(const Conv&, const T* padded, int64_t y0_padded, const T* packed, const T* bias, int64_t y0, int64_t y1,
                   T* out, Tap* taps);

  // Pixel-major rows [y0, y1), as convolve wrote them, into an image of storage type E.
  void (*store_rows)(const Conv&, const T* rows, int64_t y0, int64_t y1, E* image, ImageStrides);

  // Weight gradient, K = I, N = O, pad_x = 0. The gradient of one image -> [panel][H * W][panel width], zeros past N.
  void (*pack_grad)(const Conv&, const E* grad, ImageStrides, T* panels);
  // sums[n] = sum over H * W pixels, `pixel` elements apart, of grad[n], n < columns: the bias gradient.
  void (*sum_pixels)(const Conv&, const T* grad, int64_t pixel, int64_t columns, T* sums);
  // Adds one image's share of weight gradient (panel, tap), input channels [k0, k1), to sums [K][panel width]. `x` as from pad_rows;
  // `grad` points to the panel's first column at the first pixel, pixels `pixel` elements apart, a whole panel readable at each;
  // `taps` is scratch for H entries.
  void (*accumulate_weight_grad)(const Conv&, const T* x, const T* grad, int64_t pixel, int64_t panel, int64_t tap, int64_t k0,
                                 int64_t k1, T* sums, Tap* taps);
  // Sums [panel][tap][K][panel width] -> dweight [O, I, kh, kw] for output channels [begin, end), zeros where masked.
  void (*unpack_weight_grad)(const Conv&, const T* sums, int64_t begin, int64_t end, E* dweight);

  // Vectors between storage and computation: the bias and its gradient.
  void (*load)(const E* from, T* to, int64_t n);
  void (*save)(const T* from, E* to, int64_t n);
};

#define GENFAST_DECLARE_MASKED_CONV2D(ISA)                                      \
  namespace ISA {                                                               \
  extern const MaskedConv2dKernels<float, float> masked_conv2d_float32;         \
  extern const MaskedConv2dKernels<double, double> masked_conv2d_float64;       \
  extern const MaskedConv2dKernels<BFloat16, float> masked_conv2d_bfloat16;     \
  }
GENFAST_DECLARE_MASKED_CONV2D(generic)
GENFAST_DECLARE_MASKED_CONV2D(avx2)
GENFAST_DECLARE_MASKED_CONV2D(avx512)
#undef GENFAST_DECLARE_MASKED_CONV2D

}  // namespace genfast
