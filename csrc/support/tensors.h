// What every operator asks of its tensors. Errors are sentences; Python shows them as RuntimeError.
#pragma once

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/core/ScalarType.h>

#include <algorithm>
#include <cstdint>

namespace genfast {

using torch::stable::Tensor;
using torch::headeronly::ScalarType;

// Whether a [B, C, H, W] tensor is dense with channels innermost, and not also dense in the usual order: then outputs are too.
inline bool is_channels_last(const Tensor& x) {
  if (x.is_contiguous()) return false;
  const int64_t order[] = {1, 3, 2, 0};
  int64_t expected = 1;
  for (int64_t d : order) {
    if (x.size(d) != 1 && x.stride(d) != expected) return false;
    expected *= x.size(d);
  }
  return true;
}

inline Tensor contiguous_or_channels_last(const Tensor& x) {
  return x.is_contiguous() || is_channels_last(x) ? x : torch::stable::contiguous(x);
}

// Splits [0, n) over the threads of the pool: f(slot, begin, end) with slot < slots(n, work). A slot is one thread's share, so
// scratch for each can be allocated before, where running out of memory is an exception and not the end of the process. `work` is
// what all n cost together, in FLOPs or bytes: waking a thread for less than kWorth takes longer than doing it here.
inline int64_t slots(int64_t n, int64_t work) {
  constexpr int64_t kWorth = 500000;
  const int64_t threads = torch::stable::get_num_threads();
  return std::max<int64_t>(1, std::min({n, threads, work / kWorth}));
}
template <class F>
void parallel_slots(int64_t n, int64_t work, const F& f) {
  const int64_t count = slots(n, work);
  if (count == 1) return f(0, 0, n);
  torch::stable::parallel_for(0, count, 1, [&](int64_t first, int64_t last) {
    for (int64_t slot = first; slot < last; slot++) f(slot, slot * n / count, (slot + 1) * n / count);
  });
}

}  // namespace genfast
