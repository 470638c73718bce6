// genfast::logistic_mixture_cuda and its gradient: the CUDA C++ kernel of kernels/logistic_mixture/cuda.cu as operators
// on CUDA tensors. Built where nvcc is found. Autograd, the checks of levels and the choice between backends are in
// genfast/ops/logistic_mixture.py.
#include "logistic_mixture/cuda.cuh"

#include "support/cuda.h"

namespace genfast {
namespace {

constexpr char kName[] = "logistic_mixture";

ScalarType wide(const Tensor& params) { return params.scalar_type() == ScalarType::Double ? ScalarType::Double : ScalarType::Float; }

LogisticMixtureShape make_shape(const Tensor& params, const Tensor& images, int64_t components, int64_t levels, double min_log_scale) {
  STD_TORCH_CHECK(params.dim() == 4 && images.dim() == 4, "params and images must be [B, P, H, W] and [B, C, H, W].");
  STD_TORCH_CHECK(params.is_cuda() && images.is_cuda() && params.get_device_index() == images.get_device_index(),
                  "params and images must be on one CUDA device.");
  STD_TORCH_CHECK(images.scalar_type() == ScalarType::Byte, "images must hold levels as uint8.");
  STD_TORCH_CHECK(levels >= 2 && levels <= 256, "levels must be 2 to 256, not ", levels, ".");
  for (int64_t d : {0, 2, 3}) STD_TORCH_CHECK(params.size(d) == images.size(d), "params and images must agree in B, H and W.");
  const int64_t channels = images.size(1), most = 1 << 24;
  STD_TORCH_CHECK(components >= 0 && (components == 0 || channels == 1 || channels == 3), components, " components do not fit ", channels,
                  " channels.");
  const int64_t wanted = components == 0 ? 2 * channels : components * (channels == 3 ? 10 : 3);
  STD_TORCH_CHECK(params.size(1) == wanted, "params must have ", wanted, " channels, not ", params.size(1), ".");
  STD_TORCH_CHECK(wanted < most && params.size(2) < most && params.size(3) < most, "params must have less than ", most,
                  " channels, rows and columns.");
  LogisticMixtureShape shape = {};
  shape.dtype = dtype_code(kName, params);
  shape.batch = params.size(0);
  shape.height = params.size(2);
  shape.width = params.size(3);
  shape.channels = static_cast<int>(channels);
  shape.components = static_cast<int>(components);
  shape.levels = static_cast<int>(levels);
  shape.min_log_scale = min_log_scale;
  STD_TORCH_CHECK(logistic_mixture_fits_cuda(&shape), "the numbers of one pixel (", wanted,
                  " parameters) do not fit in the shared memory of logistic_mixture in CUDA: use backend=\"triton\".");
  return shape;
}

Tensor logistic_mixture_cuda(const Tensor& params, const Tensor& images, int64_t components, int64_t levels, double min_log_scale) {
  const auto shape = make_shape(params, images, components, levels, min_log_scale);
  const torch::stable::accelerator::DeviceGuard guard(params.get_device_index());
  const int64_t B = params.size(0), H = params.size(2), W = params.size(3), results = components == 0 ? images.size(1) : 1;
  const auto make = [&](std::initializer_list<int64_t> sizes) {
    return torch::stable::empty(sizes, wide(params), std::nullopt, params.device(), std::nullopt, std::nullopt);
  };
  const Tensor out = components == 0 ? make({B, results, H, W}) : make({B, H, W});
  if (out.numel() == 0) return out;
  const Strides4 strides = {{results * H * W, H * W, W, 1}};
  check_launch(kName, ::logistic_mixture_fwd_cuda(&shape, params.data_ptr(), strides_of(params), images.data_ptr(), strides_of(images),
                                                  out.data_ptr(), strides, current_stream(params)));
  return out;
}

Tensor logistic_mixture_bwd_cuda(const Tensor& grad, const Tensor& params, const Tensor& images, int64_t components, int64_t levels,
                                 double min_log_scale) {
  const auto shape = make_shape(params, images, components, levels, min_log_scale);
  const int64_t pixels = params.size(0) * params.size(2) * params.size(3);
  STD_TORCH_CHECK(grad.is_cuda() && grad.get_device_index() == params.get_device_index() && grad.scalar_type() == wide(params) &&
                      grad.dim() == (components == 0 ? 4 : 3) && grad.numel() == pixels * (components == 0 ? images.size(1) : 1),
                  "grad must have the device, dtype and shape of the log-probabilities.");
  const torch::stable::accelerator::DeviceGuard guard(params.get_device_index());
  const Tensor dparams = empty_image(params, params.size(1));
  if (dparams.numel() == 0) return dparams;
  const Strides4 strides = components == 0 ? strides_of(grad) : Strides4{{grad.stride(0), 0, grad.stride(1), grad.stride(2)}};
  check_launch(kName, ::logistic_mixture_bwd_cuda(&shape, grad.data_ptr(), strides, params.data_ptr(), strides_of(params),
                                                  images.data_ptr(), strides_of(images), dparams.data_ptr(), strides_of(dparams),
                                                  current_stream(params)));
  return dparams;
}

}  // namespace

STABLE_TORCH_LIBRARY_FRAGMENT(genfast, m) {
  m.def("logistic_mixture_cuda(Tensor params, Tensor images, int components, int levels, float min_log_scale) -> Tensor");
  m.def(
      "logistic_mixture_bwd_cuda(Tensor grad, Tensor params, Tensor images, int components, int levels, float min_log_scale)"
      " -> Tensor");
}

STABLE_TORCH_LIBRARY_IMPL(genfast, CUDA, m) {
  m.impl("logistic_mixture_cuda", TORCH_BOX(&logistic_mixture_cuda));
  m.impl("logistic_mixture_bwd_cuda", TORCH_BOX(&logistic_mixture_bwd_cuda));
}

}  // namespace genfast
