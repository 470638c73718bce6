// The scan of row_lstm and diagonal_lstm on a CPU, forward and backward: each call takes a few images through all of their lines
// on the calling thread. csrc/ops/lstm.cpp allocates, and shares the images out.
//
// Maps are dense and pixel-major: x and dx [images, H, W, 4h] in blocks i, f, g, o; h [images, H, W, h]. E is the storage type
// and T what is computed in; gates (after their nonlinearity) and c are T. Within a line the images lie side by side, so that
// a line is one product of (its pixels * images) rows. Hidden channels are padded to whole vectors of L, and gates interleaved in
// blocks [i L][f L][g L][o L], two panels of tap_gemm: the cell follows while the four sums are in the L1 cache.
#pragma once

#include "common/storage.h"
#include "lstm/scan.h"

namespace genfast {

template <class E, class T>
struct LstmForward {
  const E* x;
  E* h;
  T *gates, *c;         // null, or kept for backward
  const T* packed;
  const E *h0, *c0;
  int64_t images;
  T* scratch;           // LstmSizes::forward elements for each image
};

template <class E, class T>
struct LstmBackward {
  const E *grad, *h;
  const T *gates, *c;
  const T* packed;      // transposed
  const E *h0, *c0;
  E* dx;
  T* sums;              // LstmSizes::sums elements, zero before: gradients of the weight, then of h0, then of c0
  int64_t images;
  T* scratch;           // LstmSizes::backward elements for each image
};

// In elements of T; one image's share of a scratch block keeps whole cache lines.
struct LstmSizes {
  int64_t packed, packed_transposed, forward, backward, sums;
};

template <class E, class T>
struct LstmKernels {
  LstmSizes (*sizes)(const Scan&);
  void (*pack)(const Scan&, const E* weight, T* packed);  // weight [4h, h, taps]
  void (*pack_transposed)(const Scan&, const E* weight, T* packed);
  void (*forward)(const Scan&, const LstmForward<E, T>&);
  void (*backward)(const Scan&, const LstmBackward<E, T>&);
  // total += part, then what belongs to it: the three gradients in the layout of the inputs.
  void (*add_sums)(const Scan&, const T* part, T* total);
  void (*unpack_sums)(const Scan&, const T* total, E* dweight, E* dh0, E* dc0);
};

#define GENFAST_DECLARE_LSTM(ISA)                              \
  namespace ISA {                                              \
  extern const LstmKernels<float, float> lstm_float32;         \
  extern const LstmKernels<double, double> lstm_float64;       \
  extern const LstmKernels<BFloat16, float> lstm_bfloat16;     \
  }
GENFAST_DECLARE_LSTM(generic)
GENFAST_DECLARE_LSTM(avx2)
GENFAST_DECLARE_LSTM(avx512)
#undef GENFAST_DECLARE_LSTM

}  // namespace genfast
