// genfast::logistic_mixture on the CPU: checks, allocation, and which thread takes which pixels. The arithmetic is in
// kernels/logistic_mixture; the schema, the fakes and autograd are in genfast/ops/logistic_mixture.py.
#include "logistic_mixture/cpu.h"

#include "support/denormals.h"
#include "support/isa.h"
#include "support/scratch.h"
#include "support/tensors.h"

namespace genfast {
namespace {

constexpr int64_t kRun = 128;        // pixels that go to a thread together, a multiple of the kernels' tile
constexpr int64_t kLogistic = 120;   // roughly the FLOPs of one logistic in one bin

// Checks everything; the pixels of an image are H * W.
LogisticMixture make_mixture(const Tensor& params, const Tensor& images, int64_t components, int64_t levels, double min_log_scale,
                             int64_t backend) {
  STD_TORCH_CHECK(backend == 1, "backend ", backend, " does not run on CPU tensors; 1 is cpu.");
  STD_TORCH_CHECK(params.dim() == 4 && images.dim() == 4, "params and images must be [B, P, H, W] and [B, C, H, W].");
  STD_TORCH_CHECK(images.scalar_type() == ScalarType::Byte, "images must hold levels as uint8.");
  STD_TORCH_CHECK(levels >= 2 && levels <= 256, "levels must be 2 to 256, not ", levels, ".");
  for (int64_t d : {0, 2, 3}) STD_TORCH_CHECK(params.size(d) == images.size(d), "params and images must agree in B, H and W.");
  const int64_t channels = images.size(1);
  STD_TORCH_CHECK(components >= 0 && (components == 0 || channels == 1 || channels == 3), components, " components do not fit ", channels,
                  " channels.");
  const LogisticMixture g = {.channels = channels, .components = components, .levels = levels, .min_log_scale = min_log_scale,
                             .pixels = params.size(2) * params.size(3), .pixel_major = is_channels_last(params)};
  STD_TORCH_CHECK(params.size(1) == g.params(), "params must have ", g.params(), " channels, not ", params.size(1), ".");
  return g;
}

// The images, contiguous, with no level that is not there.
Tensor checked_levels(const Tensor& images_in, int64_t levels) {
  const Tensor images = torch::stable::contiguous(images_in);
  const auto* data = static_cast<const uint8_t*>(images.data_ptr());
  uint8_t highest = 0;
  if (levels < 256)
    for (int64_t i = 0; i < images.numel(); i++) highest = std::max(highest, data[i]);
  STD_TORCH_CHECK(highest < levels, "images must hold levels 0 to ", levels - 1, ", but hold ", int64_t(highest), ".");
  return images;
}

template <class F>
void for_dtype(const Tensor& params, const F& f) {
  switch (params.scalar_type()) {
    case ScalarType::Float:
      return f(GENFAST_KERNEL(logistic_mixture_float32), float{}, float{});
    case ScalarType::Double:
      return f(GENFAST_KERNEL(logistic_mixture_float64), double{}, double{});
    case ScalarType::BFloat16:
      return f(GENFAST_KERNEL(logistic_mixture_bfloat16), BFloat16{}, float{});
    default:
      STD_TORCH_CHECK(false, "logistic_mixture on a CPU takes float32, float64 or bfloat16.");
  }
}

ScalarType wide(const Tensor& params) { return params.scalar_type() == ScalarType::Double ? ScalarType::Double : ScalarType::Float; }

// f(image, begin, end, scratch) over all pixels of all images, in runs.
template <class T, class F>
void over_runs(const LogisticMixture& g, int64_t images, int64_t scratch_size, const F& f) {
  const int64_t per_image = (g.pixels + kRun - 1) / kRun, runs = images * per_image;
  if (runs == 0 || g.params() == 0) return;
  const int64_t logistics = g.channels * std::max<int64_t>(g.components, 1), work = images * g.pixels * logistics * kLogistic;
  Scratch memory(slots(runs, work) * scratch_size * sizeof(T));
  parallel_slots(runs, work, [&](int64_t slot, int64_t begin, int64_t end) {
    const FlushDenormals flush;
    for (int64_t run = begin; run < end; run++) {
      const int64_t from = run % per_image * kRun;
      f(run / per_image, from, std::min(from + kRun, g.pixels), memory.as<T>() + slot * scratch_size);
    }
  });
}

Tensor logistic_mixture_fwd(const Tensor& params_in, const Tensor& images_in, int64_t components, int64_t levels, double min_log_scale,
                            int64_t backend) {
  const Tensor params = contiguous_or_channels_last(params_in);
  const LogisticMixture g = make_mixture(params, images_in, components, levels, min_log_scale, backend);
  const Tensor images = checked_levels(images_in, levels);
  const int64_t B = params.size(0), H = params.size(2), W = params.size(3);
  const auto make = [&](std::initializer_list<int64_t> sizes) {
    return torch::stable::empty(sizes, wide(params), std::nullopt, params.device(), std::nullopt, std::nullopt);
  };
  const Tensor out = components == 0 ? make({B, g.channels, H, W}) : make({B, H, W});
  for_dtype(params, [&]<class E, class T>(const LogisticMixtureKernels<E, T>& kernels, E, T) {
    over_runs<T>(g, B, kernels.scratch(g), [&](int64_t b, int64_t begin, int64_t end, T* scratch) {
      kernels.forward(g, static_cast<const E*>(params.data_ptr()) + b * g.params() * g.pixels,
                      static_cast<const uint8_t*>(images.data_ptr()) + b * g.channels * g.pixels, begin, end,
                      static_cast<T*>(out.data_ptr()) + b * g.results() * g.pixels, scratch);
    });
  });
  return out;
}

Tensor logistic_mixture_bwd(const Tensor& grad_in, const Tensor& params_in, const Tensor& images_in, int64_t components, int64_t levels,
                            double min_log_scale, int64_t backend) {
  const Tensor params = contiguous_or_channels_last(params_in), grad = torch::stable::contiguous(grad_in);
  const LogisticMixture g = make_mixture(params, images_in, components, levels, min_log_scale, backend);
  const Tensor images = checked_levels(images_in, levels);
  const int64_t B = params.size(0);
  STD_TORCH_CHECK(grad.scalar_type() == wide(params) && grad.numel() == B * g.results() * g.pixels,
                  "grad must have the dtype and shape of the log-probabilities.");
  const auto format = g.pixel_major ? torch::headeronly::MemoryFormat::ChannelsLast : torch::headeronly::MemoryFormat::Contiguous;
  const int64_t sizes[] = {B, g.params(), params.size(2), params.size(3)};
  const Tensor dparams = torch::stable::empty(sizes, params.scalar_type(), std::nullopt, params.device(), std::nullopt, format);
  for_dtype(params, [&]<class E, class T>(const LogisticMixtureKernels<E, T>& kernels, E, T) {
    over_runs<T>(g, B, kernels.scratch(g), [&](int64_t b, int64_t begin, int64_t end, T* scratch) {
      kernels.backward(g, static_cast<const T*>(grad.data_ptr()) + b * g.results() * g.pixels,
                       static_cast<const E*>(params.data_ptr()) + b * g.params() * g.pixels,
                       static_cast<const uint8_t*>(images.data_ptr()) + b * g.channels * g.pixels, begin, end,
                       static_cast<E*>(dparams.data_ptr()) + b * g.params() * g.pixels, scratch);
    });
  });
  return dparams;
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(genfast, CPU, m) {
  m.impl("logistic_mixture", TORCH_BOX(&logistic_mixture_fwd));
  m.impl("logistic_mixture_bwd", TORCH_BOX(&logistic_mixture_bwd));
}

}  // namespace genfast
