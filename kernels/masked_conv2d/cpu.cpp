#include "masked_conv2d/cpu.h"

#include "common/transpose.h"

namespace genfast::GENFAST_ISA {
namespace {

template <class T>
constexpr int64_t kPanel = 2 * GENFAST_VECTOR_BYTES / int64_t(sizeof(T));

struct Range {
  int64_t begin, end;
};

GENFAST_INLINE int64_t group(int64_t channel, int64_t channels, int64_t groups) { return channel * groups / channels; }

// The first channel of group g when channels are split by channel * groups / channels.
GENFAST_INLINE int64_t first_of_group(int64_t g, int64_t channels, int64_t groups) {
  return (g * channels + groups - 1) / groups;
}

// Which of the K read channels written channel n uses at a tap. Colour groups are contiguous, so it is a range.
GENFAST_INLINE Range reads(const Conv& c, int64_t tap, int64_t n) {
  if (!c.partial(tap)) return {0, c.K};
  const int64_t g = group(n, c.N, c.color_groups), own = c.reads_own_group ? 1 : 0;
  if (c.transposed) return {first_of_group(g + 1 - own, c.K, c.color_groups), c.K};
  return {0, first_of_group(g + own, c.K, c.color_groups)};
}

// The union over the written channels of one panel: the ranges are nested, so it is the first's or the last's.
GENFAST_INLINE Range panel_reads(const Conv& c, int64_t tap, int64_t n0, int64_t n1) {
  return reads(c, tap, c.transposed ? n0 : n1 - 1);
}

GENFAST_INLINE int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }

template <class E, class T>
void pack_weight(const Conv& c, const E* weight, T* packed, int64_t begin, int64_t end) {
  const int64_t P = kPanel<T>, filter = c.kh * c.kw;
  const int64_t k_stride = c.transposed ? c.N * filter : filter, n_stride = c.transposed ? filter : c.K * filter;
  for (int64_t panel = begin; panel < end; panel++) {
    const int64_t n0 = panel * P, n1 = smaller(n0 + P, c.N);
    T* to = packed + panel * c.num_taps * c.K * P;
    for (int64_t n = n0; n < n0 + P; n++)
      for (int64_t k = 0; k < c.K; k++) {
        const E* from = weight + k * k_stride + n * n_stride;
        for (int64_t tap = 0; tap < c.num_taps; tap++) {
          const Range range = n < n1 ? reads(c, tap, n) : Range{0, 0};
          to[(tap * c.K + k) * P + n - n0] = k >= range.begin && k < range.end ? T(widen(from[tap])) : T(0);
        }
      }
  }
}

template <class E, class T>
void pad_rows(const Conv& c, const E* image, ImageStrides s, int64_t y0, int64_t y1, T* padded) {
  const int64_t row = c.padded_row(), side = c.pad_x * c.K;
  for (int64_t y = y0; y < y1; y++) {
    T* to = padded + (y - y0) * row;
    for (int64_t i = 0; i < side; i++) to[i] = to[row - side + i] = T(0);
    if (s.c == 1) {
      if (s.x == c.K)
        copy(image + y * s.y, to + side, c.W * c.K);
      else
        for (int64_t x = 0; x < c.W; x++) copy(image + y * s.y + x * s.x, to + side + x * c.K, c.K);
    }
  }
  if (s.c == 1) return;
  const auto pixel = [&](int64_t p) { return padded + p / c.W * row + side + p % c.W * c.K; };
  transpose<T>(image + y0 * c.W, s.c, c.K, (y1 - y0) * c.W, true, pixel);
}

template <class T>
void convolve(const Conv& c, const T* padded, int64_t y0_padded, const T* packed, const T* bias, int64_t y0, int64_t y1, T* out,
              Tap* taps) {
  const int64_t P = kPanel<T>;
  for (int64_t n0 = 0; n0 < c.N; n0 += P) {  // outermost: a panel of weights stays in L2 while the rows go by
    const int64_t n1 = smaller(n0 + P, c.N);
    int64_t used = 0;  // taps, relative to the row of the pixel
    for (int64_t tap = 0; tap < c.num_taps; tap++) {
      const Range k = panel_reads(c, tap, n0, n1);
      if (k.begin < k.end)
        taps[used++] = {c.dy(tap) * c.padded_row() + (c.pad_x + c.dx(tap)) * c.K + k.begin, tap * c.K + k.begin, k.end - k.begin,
                        c.K};
    }
    for (int64_t y = y0; y < y1; y++) {
      // Rows of the filter that lie outside the image come first, whichever way it is mirrored: skip them.
      const int64_t inside = c.transposed ? c.H - 1 - y : y, outside = c.kh / 2 - inside;
      const int64_t skipped = outside > 0 ? smaller(outside * c.kw, used) : 0;
      tap_gemm({.a = padded + (y - y0_padded) * c.padded_row(), .w = packed + n0 * c.num_taps * c.K, .taps = taps + skipped,
                .num_taps = used - skipped, .a_k = 1, .w_k = P, .w_panel = c.num_taps * c.K * P,
                .out = out + (y - y0) * c.W * c.N + n0, .out_row = c.N, .rows = c.W, .columns = n1 - n0,
                .add = bias ? Add::kBias : Add::kNothing, .bias = bias ? bias + n0 : nullptr,
                .next = n1 < c.N ? packed + (n0 + P) * c.num_taps * c.K : nullptr});
    }
  }
}

template <class E, class T>
void store_rows(const Conv& c, const T* rows, int64_t y0, int64_t y1, E* image, ImageStrides s) {
  if (s.c == 1)
    for (int64_t y = y0; y < y1; y++) copy(rows + (y - y0) * c.W * c.N, image + y * s.y, c.W * c.N);
  else
    transpose<T>(rows, c.N, (y1 - y0) * c.W, c.N, false, [&](int64_t n) { return image + n * s.c + y0 * c.W; });
}

template <class E, class T>
void pack_grad(const Conv& c, const E* grad, ImageStrides s, T* panels) {
  const int64_t P = kPanel<T>, pixels = c.H * c.W;
  for (int64_t n0 = 0; n0 < c.N; n0 += P) {
    const int64_t columns = smaller(P, c.N - n0);
    T* to = panels + n0 * pixels;
    if (columns < P)
      for (int64_t i = 0; i < pixels * P; i++) to[i] = T(0);
    if (s.c == 1)
      for (int64_t y = 0; y < c.H; y++)
        for (int64_t x = 0; x < c.W; x++) copy(grad + y * s.y + x * s.x + n0, to + (y * c.W + x) * P, columns);
    else
      transpose<T>(grad + n0 * s.c, s.c, columns, pixels, true, [&](int64_t p) { return to + p * P; });
  }
}

template <class T>
void sum_pixels(const Conv& c, const T* grad, int64_t pixel, int64_t columns, T* sums) {
  const int64_t P = kPanel<T>;
  for (int64_t n0 = 0; n0 < columns; n0 += P) {  // a panel of sums stays in registers
    T total[kPanel<T>] = {};
    const int64_t width = smaller(P, columns - n0);
    for (int64_t p = 0; p < c.H * c.W; p++) {
      if (width == P)
        for (int64_t n = 0; n < P; n++) total[n] += grad[p * pixel + n0 + n];
      else
        for (int64_t n = 0; n < width; n++) total[n] += grad[p * pixel + n0 + n];
    }
    for (int64_t n = 0; n < width; n++) sums[n0 + n] = total[n];
  }
}

// Here a tap's k are the pixels of one row for which the pixel it reads lies in the image: nothing is padded.
template <class T>
void accumulate_weight_grad(const Conv& c, const T* x, const T* grad, int64_t pixel, int64_t panel, int64_t tap, int64_t k0,
                            int64_t k1, T* sums, Tap* taps) {
  const int64_t P = kPanel<T>, n0 = panel * P, dy = c.dy(tap), dx = c.dx(tap);
  Range k = panel_reads(c, tap, n0, smaller(n0 + P, c.N));
  k = {k.begin > k0 ? k.begin : k0, smaller(k.end, k1)};
  const int64_t y0 = dy < 0 ? -dy : 0, y1 = dy > 0 ? c.H - dy : c.H, x0 = dx < 0 ? -dx : 0, x1 = dx > 0 ? c.W - dx : c.W;
  if (k.begin >= k.end || x0 >= x1) return;
  int64_t used = 0;
  for (int64_t y = y0; y < y1; y++)
    taps[used++] = {(y + dy) * c.padded_row() + (x0 + dx) * c.K + k.begin, y * c.W + x0, x1 - x0, 1};
  tap_gemm({.a = x, .w = grad, .taps = taps, .num_taps = used, .a_k = c.K, .w_k = pixel, .w_panel = 0, .out = sums + k.begin * P,
            .out_row = P, .rows = k.end - k.begin, .columns = P, .add = Add::kOutput, .bias = nullptr, .next = nullptr});
}

template <class E, class T>
void unpack_weight_grad(const Conv& c, const T* sums, int64_t begin, int64_t end, E* dweight) {
  const int64_t P = kPanel<T>, filter = c.kh * c.kw;
  for (int64_t n = begin; n < end; n++)
    for (int64_t k = 0; k < c.K; k++)
      for (int64_t tap = 0; tap < filter; tap++) {
        T value = T(0);
        if (tap < c.num_taps) {
          const Range range = reads(c, tap, n);
          if (k >= range.begin && k < range.end) value = sums[((n / P * c.num_taps + tap) * c.K + k) * P + n % P];
        }
        narrow(value, dweight + (n * c.K + k) * filter + tap);
      }
}

template <class From, class To>
void convert(const From* from, To* to, int64_t n) {
  copy(from, to, n);
}

template <class E, class T>
constexpr MaskedConv2dKernels<E, T> kKernels = {
    pack_weight<E, T>, pad_rows<E, T>,            convolve<T>,              store_rows<E, T>, pack_grad<E, T>,
    sum_pixels<T>,     accumulate_weight_grad<T>, unpack_weight_grad<E, T>, convert<E, T>,    convert<T, E>};

}  // namespace

extern const MaskedConv2dKernels<float, float> masked_conv2d_float32 = kKernels<float, float>;
extern const MaskedConv2dKernels<double, double> masked_conv2d_float64 = kKernels<double, double>;
extern const MaskedConv2dKernels<BFloat16, float> masked_conv2d_bfloat16 = kKernels<BFloat16, float>;

}  // namespace genfast::GENFAST_ISA
