// Where things lie in packed weights and in lines: shared by forward and backward.
#pragma once

#include "common/simd.h"
#include "lstm/scan.h"
#include "tap_gemm/cpu.h"

namespace genfast::GENFAST_ISA {

template <class T>
constexpr int64_t kPanel = 2 * GENFAST_VECTOR_BYTES / int64_t(sizeof(T));
constexpr int64_t kMaxTaps = 64;  // of one scan: their descriptions lie on the stack

GENFAST_INLINE int64_t round_up(int64_t n, int64_t unit) { return (n + unit - 1) / unit * unit; }

// Hidden channels with the padding.
template <class T>
GENFAST_INLINE int64_t padded(const Scan& s) {
  return round_up(s.hidden, kLanes<T>);
}

// Gate q (i, f, g, o) of hidden channel j among the 4 * padded interleaved columns.
template <class T>
GENFAST_INLINE int64_t interleaved(int64_t q, int64_t j) {
  return (j / kLanes<T> * 4 + q) * kLanes<T> + j % kLanes<T>;
}

}  // namespace genfast::GENFAST_ISA
