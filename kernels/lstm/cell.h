// One LSTM cell for a vector of hidden channels, forward and backward (formulas in kernels/lstm/__init__.py). Its error is that of
// sigmoid and tanh in common/math.h; finite for finite arguments.
#pragma once

#include "common/convert.h"
#include "common/math.h"

namespace genfast::GENFAST_ISA {

template <class T>
struct Gates {
  typename Vector<T>::type i, f, g, o;
};

// Preactivations -> gates after their nonlinearity.
template <class T>
GENFAST_INLINE Gates<T> activate(const Gates<T>& a) {
  return {sigmoid(a.i), sigmoid(a.f), tanh(a.g), sigmoid(a.o)};
}

template <class T, class V = typename Vector<T>::type>
GENFAST_INLINE V next_c(const Gates<T>& a, V c_prev) {
  return a.f * c_prev + a.i * a.g;
}

// dh and dc (what reaches c through later cells alone) -> the gradients of the preactivations and, in dc, of c_prev.
template <class T, class V = typename Vector<T>::type>
GENFAST_INLINE Gates<T> cell_bwd(const Gates<T>& a, V c, V c_prev, V dh, V* dc) {
  const V tanh_c = tanh(c);
  const V d = *dc + dh * a.o * (T(1) - tanh_c * tanh_c);
  *dc = d * a.f;
  return {d * a.g * (a.i * (T(1) - a.i)), d * c_prev * (a.f * (T(1) - a.f)), d * a.i * (T(1) - a.g * a.g),
          dh * tanh_c * (a.o * (T(1) - a.o))};
}

// The n <= L first of a vector's numbers, zeros after them: maps are dense, so the last vector of a pixel may be cut short.
template <class T, class E>
GENFAST_INLINE typename Vector<T>::type load_first(const E* from, int64_t n) {
  if (n >= kLanes<T>) return load_wide(from);
  alignas(64) T values[kLanes<T>] = {};
  for (int64_t j = 0; j < n; j++) values[j] = widen(from[j]);
  return load(values);
}
template <class T, class E>
GENFAST_INLINE void store_first(typename Vector<T>::type v, E* to, int64_t n) {
  if (n >= kLanes<T>) return store_narrow(v, to);
  alignas(64) T values[kLanes<T>];
  store(values, v);
  for (int64_t j = 0; j < n; j++) narrow(values[j], to + j);
}

// Gates lie `hidden` apart in a pixel of a map: blocks i, f, g, o.
template <class T, class E>
GENFAST_INLINE Gates<T> load_gates(const E* from, int64_t hidden, int64_t n) {
  return {load_first<T>(from, n), load_first<T>(from + hidden, n), load_first<T>(from + 2 * hidden, n),
          load_first<T>(from + 3 * hidden, n)};
}
template <class T, class E>
GENFAST_INLINE void store_gates(const Gates<T>& a, E* to, int64_t hidden, int64_t n) {
  store_first<T>(a.i, to, n);
  store_first<T>(a.f, to + hidden, n);
  store_first<T>(a.g, to + 2 * hidden, n);
  store_first<T>(a.o, to + 3 * hidden, n);
}
// Asks for what load_gates will read. Lines of several images lie too far apart for a processor to see them coming.
template <class E>
GENFAST_INLINE void prefetch_gates(const E* from, int64_t hidden) {
  for (int64_t q = 0; q < 4; q++) __builtin_prefetch(from + q * hidden);
}

}  // namespace genfast::GENFAST_ISA
