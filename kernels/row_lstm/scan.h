// row_lstm: the scan of kernels/lstm over rows.
#pragma once

#include "lstm/scan.h"

namespace genfast {

inline Scan row_scan(int64_t H, int64_t W, int64_t hidden, int64_t k) {
  return {.H = H, .W = W, .hidden = hidden, .num_taps = k, .reach = k / 2, .diagonal = false, .reverse = false, .zero_taps = 0};
}

}  // namespace genfast
