#include "gated_activation/cpu.h"

#include "common/convert.h"
#include "common/math.h"

namespace genfast::GENFAST_ISA {
namespace {

template <class E>
using Computed = typename Accumulator<E>::type;
template <class E>
using Of = typename Vector<Computed<E>>::type;
template <class E>
constexpr int64_t kWidth = kLanes<Computed<E>>;

// The first n numbers of a vector, and zeros.
template <class E>
GENFAST_INLINE Of<E> load_first(const E* from, int64_t n) {
  if (n == kWidth<E>) return load_wide(from);
  Computed<E> part[kWidth<E>] = {};
  for (int64_t i = 0; i < n; i++) part[i] = widen(from[i]);
  return load(part);
}

template <class E>
GENFAST_INLINE void store_first(Of<E> v, E* to, int64_t n) {
  if (n == kWidth<E>) return store_narrow(v, to);
  for (int64_t i = 0; i < n; i++) narrow(v[i], to + i);
}

// f(place in x of a vector of f, place in the results, how many numbers of it) for all vectors of the range: one place in the
// code for whole vectors and for the ends of runs, so that both are computed alike, to the bit.
template <class E, class F>
GENFAST_INLINE void over_vectors(int64_t length, int64_t begin, int64_t end, F f) {
  for (int64_t run = begin / length; run * length < end; run++) {
    const int64_t from = run * length > begin ? run * length : begin;
    const int64_t to = (run + 1) * length < end ? (run + 1) * length : end;
    for (int64_t e = from; e < to; e += kWidth<E>) f(run * length + e, e, to - e < kWidth<E> ? to - e : kWidth<E>);
  }
}

template <class E>
void forward(const E* x, E* out, int64_t length, int64_t begin, int64_t end) {
  over_vectors<E>(length, begin, end, [=](int64_t at, int64_t e, int64_t n) {
    store_first<E>(tanh(load_first(x + at, n)) * sigmoid(load_first(x + at + length, n)), out + e, n);
  });
}

template <class E>
void backward(const E* grad, const E* x, E* dx, int64_t length, int64_t begin, int64_t end) {
  over_vectors<E>(length, begin, end, [=](int64_t at, int64_t e, int64_t n) {
    const Of<E> t = tanh(load_first(x + at, n)), s = sigmoid(load_first(x + at + length, n)), d = s * load_first(grad + e, n);
    store_first<E>(d * (Computed<E>(1) - t * t), dx + at, n);
    store_first<E>(d * t * (Computed<E>(1) - s), dx + at + length, n);
  });
}

template <class E>
constexpr GatedActivationKernels<E> kKernels = {forward<E>, backward<E>};

}  // namespace

extern const GatedActivationKernels<float> gated_activation_float32 = kKernels<float>;
extern const GatedActivationKernels<double> gated_activation_float64 = kKernels<double>;
extern const GatedActivationKernels<BFloat16> gated_activation_bfloat16 = kKernels<BFloat16>;

}  // namespace genfast::GENFAST_ISA
