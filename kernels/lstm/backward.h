// Backward: the lines in reverse. For each, the gradient of its h through the line after it (a product with the transposed weights),
// the cells, and the line's share of the weight gradient while its numbers are in cache.
//
// Gates and c are read as forward stored them. Storing costs 10 ms where recomputing them would cost forward's 60 to 81 ms (h = 128,
// 16 images of 32 x 32, one thread). What a slot holds after the first line is the gradient of the pixel before the image: so dh0 and dc0 need no case either.
#pragma once

#include "lstm/cell.h"
#include "lstm/cpu.h"
#include "lstm/layout.h"

namespace genfast::GENFAST_ISA {

// weight [4h, h, taps] -> [panel of h][tap][4 * padded interleaved][panel width], zero where padded.
template <class E, class T>
static void lstm_pack_transposed(const Scan& s, const E* weight, T* packed) {
  const int64_t P = kPanel<T>, h = s.hidden, taps = s.num_taps, depth = 4 * padded<T>(s);
  for (int64_t i = 0; i < round_up(h, P) * taps * depth; i++) packed[i] = T(0);
  for (int64_t q = 0; q < 4; q++)
    for (int64_t j = 0; j < h; j++)
      for (int64_t n = 0; n < h; n++)
        for (int64_t t = 0; t < taps; t++)
          packed[((n / P * taps + t) * depth + interleaved<T>(q, j)) * P + n % P] = widen(weight[((q * h + j) * h + n) * taps + t]);
}

// Of a line: the gradients of the preactivations and the h of the line before, with the zeros beside them; the gradients of h and c.
template <class T>
GENFAST_INLINE int64_t lstm_backward_size(const Scan& s) {
  return round_up((5 * s.places() + 2 * s.slots()) * padded<T>(s), 64);
}

template <class T>
GENFAST_INLINE int64_t lstm_weight_sums(const Scan& s) {
  return s.num_taps * s.hidden * 4 * padded<T>(s);
}
template <class T>
GENFAST_INLINE int64_t lstm_sums_size(const Scan& s) {
  return round_up(lstm_weight_sums<T>(s) + 2 * padded<T>(s), 64);
}

template <class E, class T>
GENFAST_INLINE void lstm_cell_bwd(const Scan& s, const LstmBackward<E, T>& f, int64_t pixel, int64_t pixel_before, int64_t j,
                                  const T* dh_line, T* dc_line, T* dgates) {
  constexpr int64_t L = kLanes<T>;
  const int64_t h = s.hidden, n = h - j;
  const auto c_prev = pixel_before >= 0 ? load_first<T>(f.c + pixel_before * h + j, n) : load_first<T>(f.c0 + j, n);
  const auto dh = load(dh_line) + load_first<T>(f.grad + pixel * h + j, n);
  auto dc = load(dc_line);
  const Gates<T> d = cell_bwd<T>(load_gates<T>(f.gates + pixel * 4 * h + j, h, n), load_first<T>(f.c + pixel * h + j, n), c_prev, dh, &dc);
  store(dc_line, dc);
  store(dgates, d.i);
  store(dgates + L, d.f);
  store(dgates + 2 * L, d.g);
  store(dgates + 3 * L, d.o);
  store_gates<T>(d, f.dx + pixel * 4 * h + j, h, n);
}

// The h that a line read: slots of the line before, h0 where there is no pixel.
template <class E, class T>
GENFAST_INLINE void load_line_before(const Scan& s, const LstmBackward<E, T>& f, int64_t line, T* before) {
  const int64_t G = f.images, h = s.hidden, row = padded<T>(s), map = s.H * s.W;
  const int64_t from = s.first(line) - s.reach, to = s.end(line) + s.num_taps - 1 - s.reach;
  for (int64_t slot = from < 0 ? 0 : from; slot < (to < s.slots() ? to : s.slots()); slot++) {
    const bool exists = s.fills(line - 1, slot);
    const int64_t pixel = exists ? s.pixel(line - 1, slot) : 0;
    for (int64_t b = 0; b < G; b++) copy(exists ? f.h + (b * map + pixel) * h : f.h0, before + ((s.reach + slot) * G + b) * row, h);
  }
}

template <class E, class T>
static void lstm_backward(const Scan& s, const LstmBackward<E, T>& f) {
  constexpr int64_t L = kLanes<T>, P = kPanel<T>;
  const int64_t G = f.images, h = s.hidden, row = padded<T>(s), slots = s.slots(), map = s.H * s.W, taps = s.num_taps;
  const int64_t places = s.places() * G, after = (taps - 1 - s.reach) * G;  // zeros lie on the other side than in forward
  T* dgates = f.scratch;                // [places, 4 * row], interleaved
  T* before = dgates + places * 4 * row;
  T* dh = before + places * row;        // [slots, row]
  T* dc = dh + slots * G * row;
  for (int64_t i = 0; i < (places * 5 + 2 * slots * G) * row; i++) f.scratch[i] = T(0);
  Tap read[kMaxTaps];  // slot s is read by slots s + reach - t of the line after
  for (int64_t t = 0; t < taps; t++) read[t] = {(taps - 1 - t) * G * 4 * row, t * 4 * row, 4 * row, 4 * row};
  const auto through_line_after = [&](int64_t s0, int64_t s1, int64_t from_tap) {
    tap_gemm({.a = dgates + s0 * G * 4 * row, .w = f.packed, .taps = read + from_tap, .num_taps = taps - from_tap, .a_k = 1, .w_k = P,
              .w_panel = taps * 4 * row * P, .out = dh, .out_row = row, .rows = (s1 - s0) * G, .columns = row, .add = Add::kNothing,
              .bias = nullptr, .next = nullptr});
  };

  for (int64_t line = s.lines() - 1; line >= 0; line--) {
    const int64_t s0 = s.first(line), s1 = s.end(line), rows = (s1 - s0) * G;
    through_line_after(s0, s1, 0);
    for (int64_t slot = s0, m = 0; slot < s1; slot++) {
      const int64_t pixel = s.pixel(line, slot);
      const int64_t pixel_before = s.fills(line - 1, slot) ? s.pixel(line - 1, slot) : -1;
      for (int64_t b = 0; b < G; b++, m++)
        for (int64_t j = 0; j < row; j += L)
          lstm_cell_bwd(s, f, b * map + pixel, pixel_before < 0 ? -1 : b * map + pixel_before, j, dh + m * row + j,
                        dc + (s0 * G + m) * row + j, dgates + (after + s0 * G + m) * 4 * row + 4 * j);
    }
    load_line_before(s, f, line, before);
    for (int64_t t = 0; t < taps; t++) {
      const Tap sum = {0, 0, rows, 1};
      tap_gemm({.a = before + (s0 + t) * G * row, .w = dgates + (after + s0 * G) * 4 * row, .taps = &sum, .num_taps = 1, .a_k = row,
                .w_k = 4 * row, .w_panel = P, .out = f.sums + t * h * 4 * row, .out_row = 4 * row, .rows = h, .columns = 4 * row,
                .add = Add::kOutput, .bias = nullptr, .next = nullptr});
    }
  }
  through_line_after(0, slots, s.zero_taps);
  T* dh0 = f.sums + lstm_weight_sums<T>(s);
  T* dc0 = dh0 + row;
  for (int64_t m = 0; m < slots * G; m++)
    for (int64_t j = 0; j < h; j++) {
      dh0[j] += dh[m * row + j];
      dc0[j] += dc[m * row + j];
    }
}

template <class T>
static void lstm_add_sums(const Scan& s, const T* part, T* total) {
  for (int64_t i = 0; i < lstm_sums_size<T>(s); i++) total[i] += part[i];
}

template <class E, class T>
static void lstm_unpack_sums(const Scan& s, const T* total, E* dweight, E* dh0, E* dc0) {
  const int64_t h = s.hidden, row = padded<T>(s), taps = s.num_taps;
  for (int64_t q = 0; q < 4; q++)
    for (int64_t j = 0; j < h; j++)
      for (int64_t k = 0; k < h; k++)
        for (int64_t t = 0; t < taps; t++)
          narrow(total[(t * h + k) * 4 * row + interleaved<T>(q, j)], dweight + ((q * h + j) * h + k) * taps + t);
  const T* states = total + lstm_weight_sums<T>(s);
  copy(states, dh0, h);
  copy(states + row, dc0, h);
}

}  // namespace genfast::GENFAST_ISA
