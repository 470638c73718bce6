// diagonal_lstm: the scan of kernels/lstm over diagonals. Slots are rows y, so the taps (up, left) read y - 1 and y.
#pragma once

#include "lstm/scan.h"

namespace genfast {

inline Scan diagonal_scan(int64_t H, int64_t W, int64_t hidden, bool reverse) {
  return {.H = H, .W = W, .hidden = hidden, .num_taps = 2, .reach = 1, .diagonal = true, .reverse = reverse, .zero_taps = 1};
}

}  // namespace genfast
