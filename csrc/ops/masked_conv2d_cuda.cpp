// genfast::masked_conv2d_cuda and its two gradients: the CUDA C++ kernels of kernels/masked_conv2d/cuda.cu as operators
// on CUDA tensors. Built where nvcc is found. The mask comes as numbers (kernels/masked_conv2d/mask.py: num_taps; strict
// is mask A); autograd and the choice between backends are in genfast/ops/masked_conv2d.py.
#include "masked_conv2d/cuda.cuh"

#include <optional>
#include <tuple>

#include "support/cuda.h"

namespace genfast {
namespace {

constexpr char kName[] = "masked_conv2d";

void check_image(const Tensor& x, const char* name) {
  STD_TORCH_CHECK(x.dim() == 4, name, " must be [B, C, H, W], but has ", x.dim(), " dimensions.");
  constexpr int64_t most = 1 << 24;  // keeps every sum of a coordinate and an offset within 32 bits
  STD_TORCH_CHECK(x.size(1) <= most && x.size(2) <= most && x.size(3) <= most, name, " has more than ", most,
                  " channels, rows or columns.");
}

MaskedConv2dShape make_shape(const Tensor& image, int64_t O, int64_t I, int64_t kh, int64_t kw, int64_t num_taps,
                             int64_t color_groups, bool strict) {
  STD_TORCH_CHECK(kh % 2 == 1 && kw % 2 == 1 && kh < 1 << 12 && kw < 1 << 12,
                  "kernel sizes must be odd, so that the output keeps the size; got ", kh, "x", kw, ".");
  STD_TORCH_CHECK(0 <= num_taps && num_taps <= kh * kw, "num_taps must lie in 0 .. ", kh * kw, ", not ", num_taps, ".");
  STD_TORCH_CHECK(1 <= color_groups && color_groups < 1 << 24, "color_groups must be at least 1, not ", color_groups,
                  ".");
  STD_TORCH_CHECK(kh * kw * (O > I ? O : I) < int64_t(1) << 30, "the filter has too many weights per channel: ",
                  kh * kw * (O > I ? O : I), ".");
  MaskedConv2dShape shape = {};
  shape.dtype = dtype_code(kName, image);
  shape.batch = image.size(0);
  shape.height = image.size(2);
  shape.width = image.size(3);
  shape.in_channels = static_cast<int>(I);
  shape.out_channels = static_cast<int>(O);
  shape.kernel_height = static_cast<int>(kh);
  shape.kernel_width = static_cast<int>(kw);
  shape.num_taps = static_cast<int>(num_taps);
  shape.color_groups = static_cast<int>(color_groups);
  shape.strict = strict;
  return shape;
}

Tensor empty_flat(const Tensor& like, int64_t elements, ScalarType dtype) {
  const int64_t sizes[] = {elements};
  return torch::stable::empty(sizes, dtype, std::nullopt, like.device(), std::nullopt, std::nullopt);
}

Tensor masked_conv2d_cuda(const Tensor& x, const Tensor& weight, const std::optional<Tensor>& bias, int64_t num_taps,
                          int64_t color_groups, bool strict) {
  check_image(x, "x");
  STD_TORCH_CHECK(weight.dim() == 4, "weight must be [O, I, kh, kw], but has ", weight.dim(), " dimensions.");
  STD_TORCH_CHECK(x.size(1) == weight.size(1), "x has ", x.size(1), " channels, but weight needs ", weight.size(1),
                  ".");
  check_alike(x, weight, "x and weight");
  const int64_t O = weight.size(0), I = weight.size(1);
  std::optional<Tensor> dense_bias;
  if (bias) {
    check_alike(x, *bias, "x and bias");
    STD_TORCH_CHECK(bias->dim() == 1 && bias->size(0) == O, "bias must be [", O, "].");
    dense_bias = torch::stable::contiguous(*bias);
  }
  const auto shape = make_shape(x, O, I, weight.size(2), weight.size(3), num_taps, color_groups, strict);
  const torch::stable::accelerator::DeviceGuard guard(x.get_device_index());
  const Tensor y = empty_image(x, O);
  if (y.numel() == 0) return y;
  const Tensor packed = empty_flat(x, masked_conv2d_packed_elements(&shape), x.scalar_type());
  check_launch(kName, ::masked_conv2d_fwd_cuda(&shape, x.data_ptr(), strides_of(x), weight.data_ptr(), strides_of(weight),
                                      dense_bias ? dense_bias->data_ptr() : nullptr, y.data_ptr(), strides_of(y),
                                      packed.data_ptr(), current_stream(x)));
  return y;
}

Tensor masked_conv2d_bwd_input_cuda(const Tensor& grad, const Tensor& weight, int64_t num_taps, int64_t color_groups,
                                    bool strict) {
  check_image(grad, "grad");
  STD_TORCH_CHECK(weight.dim() == 4, "weight must be [O, I, kh, kw], but has ", weight.dim(), " dimensions.");
  STD_TORCH_CHECK(grad.size(1) == weight.size(0), "grad has ", grad.size(1), " channels, but weight makes ",
                  weight.size(0), ".");
  check_alike(grad, weight, "grad and weight");
  const int64_t O = weight.size(0), I = weight.size(1);
  const auto shape = make_shape(grad, O, I, weight.size(2), weight.size(3), num_taps, color_groups, strict);
  const torch::stable::accelerator::DeviceGuard guard(grad.get_device_index());
  const Tensor dx = empty_image(grad, I);
  if (dx.numel() == 0) return dx;
  const Tensor packed = empty_flat(grad, masked_conv2d_packed_elements(&shape), grad.scalar_type());
  check_launch(kName, ::masked_conv2d_bwd_input_cuda(&shape, grad.data_ptr(), strides_of(grad), weight.data_ptr(),
                                            strides_of(weight), dx.data_ptr(), strides_of(dx), packed.data_ptr(),
                                            current_stream(grad)));
  return dx;
}

std::tuple<Tensor, Tensor> masked_conv2d_bwd_weight_cuda(const Tensor& grad, const Tensor& x, int64_t kh, int64_t kw,
                                                         int64_t num_taps, int64_t color_groups, bool strict) {
  check_image(grad, "grad");
  check_image(x, "x");
  check_alike(grad, x, "grad and x");
  for (int64_t d : {0, 2, 3})
    STD_TORCH_CHECK(grad.size(d) == x.size(d), "grad and x differ in dimension ", d, ": ", grad.size(d), " and ",
                    x.size(d), ".");
  const int64_t O = grad.size(1), I = x.size(1);
  const auto shape = make_shape(x, O, I, kh, kw, num_taps, color_groups, strict);
  const torch::stable::accelerator::DeviceGuard guard(x.get_device_index());
  const int64_t sizes[] = {O, I, kh, kw};
  const Tensor dweight =
      torch::stable::empty(sizes, x.scalar_type(), std::nullopt, x.device(), std::nullopt, std::nullopt);
  const Tensor dbias = empty_flat(x, O, x.scalar_type());
  if (grad.numel() == 0 || x.numel() == 0) {
    torch::stable::fill_(dweight, 0);
    torch::stable::fill_(dbias, 0);
    return {dweight, dbias};
  }
  const ScalarType sum_dtype = x.scalar_type() == ScalarType::Double ? ScalarType::Double : ScalarType::Float;
  const Tensor partials = empty_flat(x, masked_conv2d_partial_elements(&shape), sum_dtype);
  check_launch(kName, ::masked_conv2d_bwd_weight_cuda(&shape, grad.data_ptr(), strides_of(grad), x.data_ptr(), strides_of(x),
                                               dweight.data_ptr(), dbias.data_ptr(), partials.data_ptr(),
                                               current_stream(x)));
  return {dweight, dbias};
}

}  // namespace

STABLE_TORCH_LIBRARY_FRAGMENT(genfast, m) {
  m.def(
      "masked_conv2d_cuda(Tensor x, Tensor weight, Tensor? bias, int num_taps, int color_groups, bool strict)"
      " -> Tensor");
  m.def(
      "masked_conv2d_bwd_input_cuda(Tensor grad, Tensor weight, int num_taps, int color_groups, bool strict)"
      " -> Tensor");
  m.def(
      "masked_conv2d_bwd_weight_cuda(Tensor grad, Tensor x, int kh, int kw, int num_taps, int color_groups,"
      " bool strict) -> (Tensor, Tensor)");
}

STABLE_TORCH_LIBRARY_IMPL(genfast, CUDA, m) {
  m.impl("masked_conv2d_cuda", TORCH_BOX(&masked_conv2d_cuda));
  m.impl("masked_conv2d_bwd_input_cuda", TORCH_BOX(&masked_conv2d_bwd_input_cuda));
  m.impl("masked_conv2d_bwd_weight_cuda", TORCH_BOX(&masked_conv2d_bwd_weight_cuda));
}

}  // namespace genfast
