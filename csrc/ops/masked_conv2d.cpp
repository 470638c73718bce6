// genfast::masked_conv2d and its two gradients on the CPU: checks, allocation, and who computes what. The arithmetic is in
// kernels/masked_conv2d/cpu.cpp; the schema, the fakes and autograd are in genfast/ops/masked_conv2d.py.
#include "masked_conv2d/cpu.h"

#include <algorithm>
#include <optional>
#include <tuple>

#include "common/storage.h"
#include "support/isa.h"
#include "support/scratch.h"
#include "support/tensors.h"

namespace genfast {
namespace {

constexpr int64_t kBandBytes = 1 << 20;     // rows that a thread works on at a time: half of a typical L2
constexpr int64_t kGradBytes = 16 << 20;    // images packed at a time for the weight gradient: what stays in L3

Conv make_conv(int64_t H, int64_t W, int64_t K, int64_t N, int64_t kh, int64_t kw, int64_t mask,
               int64_t color_groups, bool transposed) {
  STD_TORCH_CHECK(mask >= 0 && mask < 4, "mask must be 0 to 3 (A, B, VA, VB), not ", mask, ".");
  const bool vertical = mask >= 2, own = mask % 2 == 1;
  STD_TORCH_CHECK(kh % 2 == 1 && kw % 2 == 1, "kernel sizes must be odd, so that the output keeps the size; got ", kh, "x", kw, ".");
  STD_TORCH_CHECK(color_groups >= 1 && (color_groups == 1 || !vertical), "color_groups=", color_groups,
                  " does not fit mask ", mask, ".");
  const int64_t rows_above = kh / 2 * kw, center = rows_above + kw / 2;
  const int64_t taps = vertical ? rows_above + (own ? kw : 0) : center + (own || color_groups > 1 ? 1 : 0);
  return {.H = H, .W = W, .K = K, .N = N, .kh = kh, .kw = kw, .num_taps = taps, .pad_x = kw / 2, .color_groups = color_groups,
          .reads_own_group = own, .transposed = transposed};
}

void check_backend(int64_t backend) {
  STD_TORCH_CHECK(backend == 1, "backend ", backend, " does not run on CPU tensors; 1 is cpu.");
}

void check_inputs(const Tensor& x, const Tensor& weight, int64_t x_channels, const char* x_name, int64_t backend) {
  check_backend(backend);
  STD_TORCH_CHECK(x.dim() == 4, x_name, " must be [B, C, H, W], but has ", x.dim(), " dimensions.");
  STD_TORCH_CHECK(weight.dim() == 4, "weight must be [O, I, kh, kw], but has ", weight.dim(), " dimensions.");
  STD_TORCH_CHECK(x.size(1) == x_channels, x_name, " has ", x.size(1), " channels, but weight needs ", x_channels, ".");
  STD_TORCH_CHECK(x.scalar_type() == weight.scalar_type(), x_name, " and weight must have one dtype.");
}

Tensor empty_as(const Tensor& like, int64_t channels) {
  const auto format = is_channels_last(like) ? torch::headeronly::MemoryFormat::ChannelsLast : torch::headeronly::MemoryFormat::Contiguous;
  const int64_t sizes[] = {like.size(0), channels, like.size(2), like.size(3)};
  return torch::stable::empty(sizes, like.scalar_type(), std::nullopt, like.device(), std::nullopt, format);
}

// Strides as the kernels know them; a single channel is contiguous in both senses.
ImageStrides strides_of(const Tensor& x) {
  const int64_t C = x.size(1), H = x.size(2), W = x.size(3);
  if (C == 1 || is_channels_last(x)) return {1, W * C, C};
  return {H * W, W, 1};
}

int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }
int64_t align(int64_t n) { return ceil_div(n, 64) * 64; }  // elements: keeps the pieces of one scratch block on cache lines

// Runs f(kernels, E{}, T{}) for the dtype.
template <class F>
void for_dtype(const Tensor& x, const F& f) {
  switch (x.scalar_type()) {
    case ScalarType::Float:
      return f(GENFAST_KERNEL(masked_conv2d_float32), float{}, float{});
    case ScalarType::Double:
      return f(GENFAST_KERNEL(masked_conv2d_float64), double{}, double{});
    case ScalarType::BFloat16:
      return f(GENFAST_KERNEL(masked_conv2d_bfloat16), BFloat16{}, float{});
    default:
      STD_TORCH_CHECK(false, "masked_conv2d on a CPU takes float32, float64 or bfloat16.");
  }
}

int64_t panel_width(int64_t element_size) { return GENFAST_KERNEL(panel_bytes) / element_size; }

// y = conv(x): forward, or the input gradient when conv.transposed.
void run(const Conv& conv, const Tensor& x_in, const Tensor& weight_in, const std::optional<Tensor>& bias, const Tensor& y) {
  const Tensor x = contiguous_or_channels_last(x_in), weight = torch::stable::contiguous(weight_in);
  const int64_t B = x.size(0);
  if (B * conv.H * conv.W * conv.N == 0) return;
  for_dtype(x, [&]<class E, class T>(const MaskedConv2dKernels<E, T>& kernels, E, T) {
    const int64_t panel = panel_width(sizeof(T)), panels = ceil_div(conv.N, panel);
    const ImageStrides from = strides_of(x), to = strides_of(y);
    const E* x_data = static_cast<const E*>(x.data_ptr());
    E* y_data = static_cast<E*>(y.data_ptr());
    // Pixel-major images of the type that is computed in need no copy: outputs never, inputs if no column is padded.
    const bool direct_in = from.c == 1 && std::is_same_v<E, T> && conv.pad_x == 0;
    const bool direct = to.c == 1 && std::is_same_v<E, T>;

    // Bands of rows: all of an image if there are images enough for every thread, less if one would not stay in L2.
    const int64_t row_bytes = (conv.padded_row() + (direct ? 0 : conv.W * conv.N)) * sizeof(T);
    const int64_t by_cache = std::max<int64_t>(kBandBytes / std::max<int64_t>(row_bytes, 1), 2 * conv.kh);
    const int64_t by_threads = ceil_div(conv.H * B, 2 * torch::stable::get_num_threads());
    const int64_t band = std::max<int64_t>(1, std::min({conv.H, by_cache, by_threads}));
    const int64_t bands = ceil_div(conv.H, band), items = B * bands;

    const int64_t padded_size = direct_in ? 0 : align((band + conv.kh) * conv.padded_row());
    const int64_t out_size = direct ? 0 : align(band * conv.W * conv.N);
    const int64_t slot_size = padded_size + out_size;
    const int64_t flops = 2 * B * conv.H * conv.W * conv.num_taps * conv.K * conv.N, count = slots(items, flops);
    const int64_t packed_size = align(panels * conv.num_taps * conv.K * panel), bias_size = align(conv.N);
    Scratch memory((packed_size + bias_size + count * slot_size) * sizeof(T) + count * conv.num_taps * sizeof(Tap));
    T* packed = memory.as<T>();
    T* bias_data = packed + packed_size;
    T* slot_data = bias_data + bias_size;
    Tap* taps = reinterpret_cast<Tap*>(slot_data + count * slot_size);

    if (bias) kernels.load(static_cast<const E*>(torch::stable::contiguous(*bias).data_ptr()), bias_data, conv.N);
    parallel_slots(panels, packed_size * sizeof(T), [&](int64_t, int64_t begin, int64_t end) {
      kernels.pack_weight(conv, static_cast<const E*>(weight.data_ptr()), packed, begin, end);
    });
    parallel_slots(items, flops, [&](int64_t slot, int64_t begin, int64_t end) {
      T* padded = slot_data + slot * slot_size;
      for (int64_t item = begin; item < end; item++) {
        const int64_t b = item / bands, y0 = item % bands * band, y1 = std::min(y0 + band, conv.H);
        const int64_t halo = conv.kh / 2;
        const int64_t from_y = conv.transposed ? y0 : std::max<int64_t>(0, y0 - halo);
        const int64_t to_y = conv.transposed ? std::min(conv.H, y1 + halo) : y1;
        E* image = y_data + b * conv.H * conv.W * conv.N;
        T* out = padded + padded_size;
        if constexpr (std::is_same_v<E, T>)
          if (direct) out = image + y0 * to.y;
        const E* read = x_data + b * conv.H * conv.W * conv.K;
        const T* rows = padded;
        if constexpr (std::is_same_v<E, T>)
          if (direct_in) rows = read + from_y * from.y;
        if (!direct_in) kernels.pad_rows(conv, read, from, from_y, to_y, padded);
        kernels.convolve(conv, rows, from_y, packed, bias ? bias_data : nullptr, y0, y1, out, taps + slot * conv.num_taps);
        if (!direct) kernels.store_rows(conv, out, y0, y1, image, to);
      }
    });
  });
}

Tensor masked_conv2d_fwd(const Tensor& x, const Tensor& weight, const std::optional<Tensor>& bias, int64_t mask,
                         int64_t color_groups, int64_t backend) {
  check_inputs(x, weight, weight.size(1), "x", backend);
  const int64_t O = weight.size(0);
  STD_TORCH_CHECK(!bias || (bias->dim() == 1 && bias->size(0) == O && bias->scalar_type() == x.scalar_type()), "bias must be [", O,
                  "], of the dtype of x.");
  const Tensor y = empty_as(x, O);
  run(make_conv(x.size(2), x.size(3), x.size(1), O, weight.size(2), weight.size(3), mask, color_groups, false), x, weight, bias, y);
  return y;
}

Tensor masked_conv2d_bwd_input(const Tensor& grad, const Tensor& weight, int64_t mask, int64_t color_groups,
                               int64_t backend) {
  check_inputs(grad, weight, weight.size(0), "grad", backend);
  const int64_t I = weight.size(1);
  const Tensor dx = empty_as(grad, I);
  run(make_conv(grad.size(2), grad.size(3), weight.size(0), I, weight.size(2), weight.size(3), mask, color_groups, true), grad,
      weight, std::nullopt, dx);
  return dx;
}

std::tuple<Tensor, Tensor> masked_conv2d_bwd_weight(const Tensor& grad_in, const Tensor& x_in, int64_t kh, int64_t kw,
                                                    int64_t mask, int64_t color_groups, int64_t backend) {
  check_backend(backend);
  STD_TORCH_CHECK(grad_in.dim() == 4 && x_in.dim() == 4, "grad and x must be [B, C, H, W].");
  for (int64_t d : {0, 2, 3})
    STD_TORCH_CHECK(grad_in.size(d) == x_in.size(d), "grad and x differ in dimension ", d, ": ", grad_in.size(d), " and ", x_in.size(d), ".");
  STD_TORCH_CHECK(grad_in.scalar_type() == x_in.scalar_type(), "grad and x must have one dtype.");
  const Tensor grad = contiguous_or_channels_last(grad_in), x = contiguous_or_channels_last(x_in);
  const int64_t B = x.size(0), O = grad.size(1), I = x.size(1);
  Conv conv = make_conv(x.size(2), x.size(3), I, O, kh, kw, mask, color_groups, false);
  conv.pad_x = 0;  // every tap sums over just the pixels for which it lies in the image
  const Tensor dweight = torch::stable::empty({O, I, kh, kw}, x.scalar_type(), std::nullopt, x.device(), std::nullopt, std::nullopt);
  const Tensor dbias = torch::stable::empty({O}, x.scalar_type(), std::nullopt, x.device(), std::nullopt, std::nullopt);

  for_dtype(x, [&]<class E, class T>(const MaskedConv2dKernels<E, T>& kernels, E, T) {
    const int64_t panel = panel_width(sizeof(T)), panels = ceil_div(O, panel), pixels = conv.H * conv.W;
    const ImageStrides x_strides = strides_of(x), grad_strides = strides_of(grad);
    const bool direct_x = x_strides.c == 1 && std::is_same_v<E, T>;
    const bool direct_grad = grad_strides.c == 1 && std::is_same_v<E, T> && O % panel == 0;
    const int64_t pixel = direct_grad ? O : panel;  // elements from one pixel's gradients to the next one's
    const int64_t x_size = direct_x ? 0 : align(pixels * I), grad_size = direct_grad ? 0 : align(panels * pixels * panel);
    const int64_t image_size = x_size + grad_size + align(O);
    const int64_t images = std::clamp<int64_t>(kGradBytes / std::max<int64_t>(image_size * sizeof(T), 1), 1, std::max<int64_t>(B, 1));
    // A unit of work is a panel, a tap and a share of the input channels: enough units for every thread, however small the filter.
    const int64_t filters = panels * conv.num_taps, sums_size = align(filters * I * panel);
    const int64_t threads = torch::stable::get_num_threads();
    const int64_t wanted = threads > 1 ? 4 * threads / std::max<int64_t>(filters, 1) : 1;
    const int64_t shares = std::clamp<int64_t>(wanted, 1, std::max<int64_t>(1, I / 8));
    const int64_t units = filters * shares;
    const int64_t image_flops = 2 * pixels * conv.num_taps * I * O;
    Scratch memory((sums_size + align(O) + images * image_size) * sizeof(T) + slots(units, images * image_flops) * conv.H * sizeof(Tap));
    T* sums = memory.as<T>();
    T* bias_sums = sums + sums_size;
    T* image_data = bias_sums + align(O);
    Tap* taps = reinterpret_cast<Tap*>(image_data + images * image_size);
    std::fill(sums, sums + sums_size, T(0));
    std::fill(bias_sums, bias_sums + O, T(0));
    const E* x_data = static_cast<const E*>(x.data_ptr());
    const E* grad_data = static_cast<const E*>(grad.data_ptr());

    // Images in turn, in chunks: first packed, each by one thread; then summed, each (panel, tap) by one thread, so that every sum
    // runs over the images in order and does not depend on how many threads there are.
    for (int64_t b0 = 0; b0 < B; b0 += images) {
      const int64_t count = std::min(images, B - b0);
      const auto x_of = [&](int64_t i) -> const T* {
        if constexpr (std::is_same_v<E, T>)
          if (direct_x) return x_data + (b0 + i) * pixels * I;
        return image_data + i * image_size;
      };
      const auto grad_of = [&](int64_t i) -> const T* {
        if constexpr (std::is_same_v<E, T>)
          if (direct_grad) return grad_data + (b0 + i) * pixels * O;
        return image_data + i * image_size + x_size;
      };
      const auto channel_sums_of = [&](int64_t i) { return image_data + i * image_size + x_size + grad_size; };
      parallel_slots(count, count * pixels * (I + O) * sizeof(T), [&](int64_t, int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; i++) {
          T* image = image_data + i * image_size;
          if (!direct_x) kernels.pad_rows(conv, x_data + (b0 + i) * pixels * I, x_strides, 0, conv.H, image);
          if (!direct_grad) kernels.pack_grad(conv, grad_data + (b0 + i) * pixels * O, grad_strides, image + x_size);
          for (int64_t n = 0; n < O; n += pixel)
            kernels.sum_pixels(conv, grad_of(i) + n * (direct_grad ? 1 : pixels), pixel, std::min(pixel, O - n), channel_sums_of(i) + n);
        }
      });
      for (int64_t i = 0; i < count; i++)
        for (int64_t n = 0; n < O; n++) bias_sums[n] += channel_sums_of(i)[n];
      parallel_slots(units, count * image_flops, [&](int64_t slot, int64_t begin, int64_t end) {
        for (int64_t i = 0; i < count; i++)
          for (int64_t unit = begin; unit < end; unit++) {
            const int64_t filter = unit / shares, share = unit % shares, p = filter / conv.num_taps, tap = filter % conv.num_taps;
            const T* columns = grad_of(i) + p * panel * (direct_grad ? 1 : pixels);
            kernels.accumulate_weight_grad(conv, x_of(i), columns, pixel, p, tap, share * I / shares, (share + 1) * I / shares,
                                           sums + filter * I * panel, taps + slot * conv.H);
          }
      });
    }
    E* dweight_data = static_cast<E*>(dweight.data_ptr());
    parallel_slots(O, O * I * kh * kw * sizeof(T), [&](int64_t, int64_t begin, int64_t end) { kernels.unpack_weight_grad(conv, sums, begin, end, dweight_data); });
    kernels.save(bias_sums, static_cast<E*>(dbias.data_ptr()), O);
  });
  return {dweight, dbias};
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(genfast, CPU, m) {
  m.impl("masked_conv2d", TORCH_BOX(&masked_conv2d_fwd));
  m.impl("masked_conv2d_bwd_input", TORCH_BOX(&masked_conv2d_bwd_input));
  m.impl("masked_conv2d_bwd_weight", TORCH_BOX(&masked_conv2d_bwd_weight));
}

}  // namespace genfast
