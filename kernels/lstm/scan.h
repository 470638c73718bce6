// An image as lines of pixels: every pixel of a line is computed from the line before, and all of a line at once.
//
//              a line is      slot s of it is    the pixel in slot s reads, of the line before, slots
//   row        a row          x                  s - k / 2 .. s + k / 2
//   diagonal   y + x = line   y                  s - 1 (its upper neighbour) and s (its left one)
//
// The cell c comes from slot s of the line before in both. A slot that no line has filled yet stands for the pixel before the
// image and holds h0 and c0; slots below 0 and from slots() on are zero. So neither scan has a special case at any border, and
// a diagonal costs only the pixels that exist: the skewed map is never there.
#pragma once

#include <stdint.h>

#if defined(__CUDACC__)
#define GENFAST_SCAN_INLINE __host__ __device__ __forceinline__
#else
#define GENFAST_SCAN_INLINE __attribute__((always_inline))
#endif

namespace genfast {

struct Scan {
  int64_t H, W;
  int64_t hidden;
  int64_t num_taps;
  int64_t reach;     // tap t reads slot s + t - reach
  bool diagonal;
  bool reverse;      // a diagonal from right to left: the mirror image
  int64_t zero_taps; // how many of the first taps find zeros, not h0, before the image

  GENFAST_SCAN_INLINE int64_t lines() const { return diagonal ? (H > 0 && W > 0 ? H + W - 1 : 0) : H; }
  GENFAST_SCAN_INLINE int64_t slots() const { return diagonal ? H : W; }
  GENFAST_SCAN_INLINE int64_t places() const { return slots() + num_taps - 1; }  // slots and the zeros beside them
  GENFAST_SCAN_INLINE int64_t first(int64_t line) const { return diagonal && line >= W ? line - W + 1 : 0; }
  GENFAST_SCAN_INLINE int64_t end(int64_t line) const { return !diagonal ? W : line < H ? line + 1 : H; }
  // Which pixel of the image, in raster order, slot s of a line is.
  GENFAST_SCAN_INLINE int64_t pixel(int64_t line, int64_t s) const {
    if (!diagonal) return line * W + s;
    const int64_t x = line - s;
    return s * W + (reverse ? W - 1 - x : x);
  }
  GENFAST_SCAN_INLINE bool fills(int64_t line, int64_t s) const { return line >= 0 && s >= first(line) && s < end(line); }
};

}  // namespace genfast
