#include "ops/lstm.h"

#include "lstm/cpu.h"
#include "support/denormals.h"
#include "support/isa.h"
#include "support/large_pages.h"
#include "support/scratch.h"

namespace genfast {
namespace {

constexpr int64_t kLineBytes = 512 << 10;  // the lines of the images that go together: a typical L2
constexpr int64_t kMaxImages = 16;
// Backward, where the groups may not depend on the threads: a quarter of the batch, but no more than four images. Four images
// instead of two took a diagonal of h = 128 from 145 to 127 ms; fewer groups would leave threads without work.
constexpr int64_t kGroups = 4, kMaxImagesBackward = 4;

const auto kChannelsLast = torch::headeronly::MemoryFormat::ChannelsLast;

Tensor pixel_major(const Tensor& map) {
  if (is_channels_last(map) || (map.is_contiguous() && (map.size(1) == 1 || map.size(2) * map.size(3) == 1))) return map;
  return torch::stable::contiguous(map, kChannelsLast);
}

Tensor empty(std::initializer_list<int64_t> sizes, const Tensor& like, ScalarType type, bool channels_last = false) {
  return empty_in_large_pages(sizes, type, channels_last ? kChannelsLast : torch::headeronly::MemoryFormat::Contiguous, like.device());
}

template <class F>
void for_dtype(const Tensor& x, const F& f) {
  switch (x.scalar_type()) {
    case ScalarType::Float:
      return f(GENFAST_KERNEL(lstm_float32), float{}, float{});
    case ScalarType::Double:
      return f(GENFAST_KERNEL(lstm_float64), double{}, double{});
    case ScalarType::BFloat16:
      return f(GENFAST_KERNEL(lstm_bfloat16), BFloat16{}, float{});
    default:
      STD_TORCH_CHECK(false, "row_lstm and diagonal_lstm on a CPU take float32, float64 or bfloat16.");
  }
}

template <class E>
const E* in(const Tensor& t) {
  return static_cast<const E*>(t.data_ptr());
}
template <class E>
E* out(const Tensor& t) {
  return static_cast<E*>(t.data_ptr());
}

int64_t flops(const Scan& s, int64_t images) { return 8 * images * s.H * s.W * s.num_taps * s.hidden * (s.hidden + 8); }

}  // namespace

void check_lstm_inputs(const Tensor& map, int64_t channels, const Tensor& weight, const Tensor& h0, const Tensor& c0) {
  STD_TORCH_CHECK(map.dim() == 4, "The map must be [B, C, H, W], but has ", map.dim(), " dimensions.");
  STD_TORCH_CHECK(weight.dim() == 3 && weight.size(1) > 0 && weight.size(0) == 4 * weight.size(1),
                  "weight must be [4h, h, taps] with h at least 1.");
  STD_TORCH_CHECK(weight.size(2) > 0 && weight.size(2) < 64, "weight may have 1 to 63 taps, not ", weight.size(2), ".");
  STD_TORCH_CHECK(map.size(1) == channels, "The map has ", map.size(1), " channels, but weight needs ", channels, ".");
  for (const Tensor& state : {h0, c0})
    STD_TORCH_CHECK(state.dim() == 1 && state.size(0) == weight.size(1), "h0 and c0 must be [", weight.size(1), "].");
  for (const Tensor& other : {weight, h0, c0})
    STD_TORCH_CHECK(other.scalar_type() == map.scalar_type(), "x, weight, h0 and c0 must have one dtype.");
}

LstmOutputs lstm_fwd(const Scan& scan, const Tensor& x_in, const Tensor& weight_in, const Tensor& h0_in, const Tensor& c0_in,
                     bool keep) {
  const Tensor x = pixel_major(x_in), weight = torch::stable::contiguous(weight_in);
  const Tensor h0 = torch::stable::contiguous(h0_in), c0 = torch::stable::contiguous(c0_in);
  const int64_t B = x.size(0), h = scan.hidden, map = scan.H * scan.W;
  const Tensor y = empty({B, h, scan.H, scan.W}, x, x.scalar_type(), true);
  Tensor gates, c;
  for_dtype(x, [&]<class E, class T>(const LstmKernels<E, T>& kernels, E, T) {
    const ScalarType wide = sizeof(T) == 8 ? ScalarType::Double : ScalarType::Float;
    gates = keep ? empty({B, scan.H, scan.W, 4 * h}, x, wide) : empty({0}, x, wide);
    c = keep ? empty({B, scan.H, scan.W, h}, x, wide) : empty({0}, x, wide);
    if (B * map == 0) return;
    const LstmSizes sizes = kernels.sizes(scan);
    // As many images together as the cache holds, as long as every thread has some.
    const int64_t threads = slots(B, flops(scan, B)), share = (B + threads - 1) / threads;
    const int64_t fit = std::clamp<int64_t>(kLineBytes / (sizes.forward * sizeof(T)), 1, kMaxImages);
    const int64_t groups = threads * ((share + fit - 1) / fit), most = (B + groups - 1) / groups;
    Scratch memory((sizes.packed + threads * most * sizes.forward) * sizeof(T));
    T* packed = memory.as<T>();
    kernels.pack(scan, in<E>(weight), packed);
    parallel_slots(groups, flops(scan, B), [&](int64_t slot, int64_t begin, int64_t end) {
      const FlushDenormals flush;
      for (int64_t group = begin; group < end; group++) {
        const int64_t b = group * B / groups, images = (group + 1) * B / groups - b;
        if (images > 0)
          kernels.forward(scan, {.x = in<E>(x) + b * map * 4 * h, .h = out<E>(y) + b * map * h,
                                 .gates = keep ? out<T>(gates) + b * map * 4 * h : nullptr, .c = keep ? out<T>(c) + b * map * h : nullptr,
                                 .packed = packed, .h0 = in<E>(h0), .c0 = in<E>(c0), .images = images,
                                 .scratch = packed + sizes.packed + slot * most * sizes.forward});
      }
    });
  });
  return {is_channels_last(x_in) ? y : torch::stable::contiguous(y), gates, c};
}

LstmGradients lstm_bwd(const Scan& scan, const Tensor& grad_in, const Tensor& y_in, const Tensor& gates, const Tensor& c,
                       const Tensor& weight_in, const Tensor& h0_in, const Tensor& c0_in) {
  const Tensor grad = pixel_major(grad_in), y = pixel_major(y_in), weight = torch::stable::contiguous(weight_in);
  const Tensor h0 = torch::stable::contiguous(h0_in), c0 = torch::stable::contiguous(c0_in);
  const int64_t B = grad.size(0), h = scan.hidden, map = scan.H * scan.W;
  STD_TORCH_CHECK(gates.numel() == B * map * 4 * h && c.numel() == B * map * h, "gates and c must be those that forward kept.");
  const Tensor dx = empty({B, 4 * h, scan.H, scan.W}, grad, grad.scalar_type(), true);
  const Tensor dweight = empty({4 * h, h, scan.num_taps}, grad, grad.scalar_type());
  const Tensor dh0 = empty({h}, grad, grad.scalar_type()), dc0 = empty({h}, grad, grad.scalar_type());
  for_dtype(grad, [&]<class E, class T>(const LstmKernels<E, T>& kernels, E, T) {
    const LstmSizes sizes = kernels.sizes(scan);
    // A group's share of the weight gradient is a sum of its own, and the shares are added in order: so the groups follow from the
    // sizes alone, and the result does not depend on the threads.
    const int64_t fit = std::clamp<int64_t>(kLineBytes / (sizes.backward * sizeof(T)), 1, kMaxImagesBackward);
    const int64_t most = std::clamp<int64_t>(B / kGroups, 1, fit), groups = B * map == 0 ? 0 : (B + most - 1) / most;
    const int64_t threads = slots(groups, 3 * flops(scan, B));
    Scratch memory((sizes.packed_transposed + (groups + 1) * sizes.sums + threads * most * sizes.backward) * sizeof(T));
    T* packed = memory.as<T>();
    T* sums = packed + sizes.packed_transposed;  // the total, then the groups'
    T* scratch = sums + (groups + 1) * sizes.sums;
    kernels.pack_transposed(scan, in<E>(weight), packed);
    std::fill(sums, scratch, T(0));
    parallel_slots(groups, 3 * flops(scan, B), [&](int64_t slot, int64_t begin, int64_t end) {
      const FlushDenormals flush;
      for (int64_t group = begin; group < end; group++) {
        const int64_t b = group * most, images = std::min(most, B - b);
        kernels.backward(scan, {.grad = in<E>(grad) + b * map * h, .h = in<E>(y) + b * map * h, .gates = in<T>(gates) + b * map * 4 * h,
                                .c = in<T>(c) + b * map * h, .packed = packed, .h0 = in<E>(h0), .c0 = in<E>(c0),
                                .dx = out<E>(dx) + b * map * 4 * h, .sums = sums + (group + 1) * sizes.sums, .images = images,
                                .scratch = scratch + slot * most * sizes.backward});
      }
    });
    for (int64_t group = 0; group < groups; group++) kernels.add_sums(scan, sums + (group + 1) * sizes.sums, sums);
    kernels.unpack_sums(scan, sums, out<E>(dweight), out<E>(dh0), out<E>(dc0));
  });
  return {dx, dweight, dh0, dc0};
}

}  // namespace genfast
