#include "lstm/cpu.h"

#include "lstm/backward.h"
#include "lstm/forward.h"

namespace genfast::GENFAST_ISA {
namespace {

template <class T>
LstmSizes lstm_sizes(const Scan& s) {
  const int64_t row = padded<T>(s);
  return {.packed = round_up(s.num_taps * s.hidden * 4 * row, 64),
          .packed_transposed = round_up(round_up(s.hidden, kPanel<T>) * s.num_taps * 4 * row, 64),
          .forward = lstm_forward_size<T>(s),
          .backward = lstm_backward_size<T>(s),
          .sums = lstm_sums_size<T>(s)};
}

template <class E, class T>
constexpr LstmKernels<E, T> kKernels = {lstm_sizes<T>,      lstm_pack<E, T>,  lstm_pack_transposed<E, T>, lstm_forward<E, T>,
                                        lstm_backward<E, T>, lstm_add_sums<T>, lstm_unpack_sums<E, T>};

}  // namespace

extern const LstmKernels<float, float> lstm_float32 = kKernels<float, float>;
extern const LstmKernels<double, double> lstm_float64 = kKernels<double, double>;
extern const LstmKernels<BFloat16, float> lstm_bfloat16 = kKernels<BFloat16, float>;

}  // namespace genfast::GENFAST_ISA
