// Forward: for every line the recurrent product, block by block of hidden channels, and the cell right after it.
#pragma once

#include "lstm/cell.h"
#include "lstm/cpu.h"
#include "lstm/layout.h"

namespace genfast::GENFAST_ISA {

// weight [4h, h, taps] -> [panel][tap][h][panel width], columns interleaved, zero where padded.
template <class E, class T>
static void lstm_pack(const Scan& s, const E* weight, T* packed) {
  const int64_t P = kPanel<T>, h = s.hidden, taps = s.num_taps, columns = 4 * padded<T>(s);
  for (int64_t i = 0; i < columns * taps * h; i++) packed[i] = T(0);
  for (int64_t q = 0; q < 4; q++)
    for (int64_t j = 0; j < h; j++) {
      const int64_t n = interleaved<T>(q, j);
      for (int64_t k = 0; k < h; k++)
        for (int64_t t = 0; t < taps; t++)
          packed[(n / P * taps * h + t * h + k) * P + n % P] = widen(weight[((q * h + j) * h + k) * taps + t]);
    }
}

// h of two lines in turn, because the product of a block still reads the line before when the cells of an earlier block are done;
// c of one line; the sums of one block.
template <class T>
GENFAST_INLINE int64_t lstm_forward_size(const Scan& s) {
  return round_up((2 * s.places() + s.slots()) * padded<T>(s) + s.slots() * 4 * kLanes<T>, 64);
}

// The cell, for hidden channels [j, j + L) of one pixel, in two halves: the second waits for nothing but the first, so that all pixels
// of a slot go through one and then through the other, and a processor overlaps them.
//
// sums [4L] of the recurrent product -> c and the gates; o replaces the last sum.
template <class E, class T>
GENFAST_INLINE void lstm_gates(const Scan& s, const LstmForward<E, T>& f, int64_t pixel, int64_t j, T* sums, T* c_line) {
  constexpr int64_t L = kLanes<T>;
  const int64_t h = s.hidden, n = h - j;
  Gates<T> gates = load_gates<T>(f.x + pixel * 4 * h + j, h, n);
  gates.i += load(sums);
  gates.f += load(sums + L);
  gates.g += load(sums + 2 * L);
  gates.o += load(sums + 3 * L);
  gates = activate<T>(gates);
  const auto c = next_c<T>(gates, load(c_line));
  store(c_line, c);
  store(sums + 3 * L, gates.o);
  if (f.gates) {
    store_gates<T>(gates, f.gates + pixel * 4 * h + j, h, n);
    store_first<T>(c, f.c + pixel * h + j, n);
  }
}

// o and c -> h.
template <class E, class T>
GENFAST_INLINE void lstm_out(const Scan& s, const LstmForward<E, T>& f, int64_t pixel, int64_t j, const T* o, const T* c_line, T* h_line) {
  const int64_t h = s.hidden, n = h - j;
  const auto out = load(o) * tanh(load(c_line));
  E* to = f.h + pixel * h + j;
  store_first<T>(out, to, n);
  // The next line reads what was stored: rounded, if E is narrower.
  if constexpr (sizeof(E) == sizeof(T))
    store(h_line, out);
  else
    store(h_line, load_first<T>(to, n));
}

template <class E, class T>
static void lstm_forward(const Scan& s, const LstmForward<E, T>& f) {
  constexpr int64_t L = kLanes<T>;
  const int64_t G = f.images, h = s.hidden, row = padded<T>(s), slots = s.slots(), map = s.H * s.W, taps = s.num_taps;
  const int64_t line_size = s.places() * G * row;
  T* lines[2] = {f.scratch, f.scratch + line_size};
  T* c = lines[1] + line_size;
  T* sums = c + slots * G * row;
  for (int64_t i = 0; i < 2 * line_size + slots * G * row; i++) f.scratch[i] = T(0);
  for (int64_t i = 0; i < slots * G; i++)
    for (int64_t j = 0; j < h; j++) {
      for (T* line : lines) line[(s.reach * G + i) * row + j] = widen(f.h0[j]);
      c[i * row + j] = widen(f.c0[j]);
    }
  Tap tap[kMaxTaps];
  for (int64_t t = 0; t < taps; t++) tap[t] = {t * G * row, t * h, h, row};

  for (int64_t line = 0; line < s.lines(); line++) {
    const int64_t s0 = s.first(line), s1 = s.end(line);
    const T* before = lines[line % 2] + s0 * G * row;
    T* after = lines[(line + 1) % 2] + (s.reach + s0) * G * row;
    for (int64_t j = 0; j < row; j += L) {
      const T* w = f.packed + j * 4 * taps * h;
      tap_gemm({.a = before, .w = w, .taps = tap, .num_taps = taps, .a_k = 1, .w_k = kPanel<T>, .w_panel = taps * h * kPanel<T>,
                .out = sums, .out_row = 4 * L, .rows = (s1 - s0) * G, .columns = 4 * L, .add = Add::kNothing, .bias = nullptr,
                .next = j + L < row ? w + 4 * L * taps * h : f.packed});
      for (int64_t slot = s0; slot < s1; slot++) {
        const int64_t m = (slot - s0) * G, pixel = s.pixel(line, slot), next = s.pixel(line, slot + 1 < s1 ? slot + 1 : slot);
        for (int64_t b = 0; b < G; b++) {
          prefetch_gates(f.x + (b * map + next) * 4 * h + j, h);
          lstm_gates(s, f, b * map + pixel, j, sums + (m + b) * 4 * L, c + (s0 * G + m + b) * row + j);
        }
        for (int64_t b = 0; b < G; b++)
          lstm_out(s, f, b * map + pixel, j, sums + (m + b) * 4 * L + 3 * L, c + (s0 * G + m + b) * row + j, after + (m + b) * row + j);
      }
    }
  }
}

}  // namespace genfast::GENFAST_ISA
