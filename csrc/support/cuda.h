// What every operator on CUDA tensors asks of them, and of PyTorch. Included only where nvcc is found.
#pragma once

#include <torch/csrc/stable/accelerator.h>

#include "common/cuda_types.cuh"
#include "support/tensors.h"

// Only CUDA builds of torch have this symbol. Weak, so that one extension loads in CPU builds too; nobody calls it there.
extern "C" AOTITorchError aoti_torch_get_current_cuda_stream(int32_t device_index, void** stream) __attribute__((weak));
extern "C" const char* genfast_cuda_error(int error);  // kernels/common/cuda.cu

namespace genfast {

inline CUstream_st* current_stream(const Tensor& x) {
  STD_TORCH_CHECK(aoti_torch_get_current_cuda_stream != nullptr, "this torch was built without CUDA.");
  void* stream = nullptr;
  STABLE_TORCH_ERROR_CODE_CHECK(aoti_torch_get_current_cuda_stream(x.get_device_index(), &stream));
  return static_cast<CUstream_st*>(stream);
}

inline void check_launch(const char* op, int error) {
  STD_TORCH_CHECK(error == 0, op, " could not start its CUDA kernels: ", genfast_cuda_error(error), ".");
}

inline int dtype_code(const char* op, const Tensor& x) {
  switch (x.scalar_type()) {
    case ScalarType::Float:
      return GENFAST_FLOAT32;
    case ScalarType::Double:
      return GENFAST_FLOAT64;
    case ScalarType::BFloat16:
      return GENFAST_BFLOAT16;
    case ScalarType::Half:
      return GENFAST_FLOAT16;
    default:
      STD_TORCH_CHECK(false, op, " in CUDA takes float32, float64, bfloat16 or float16.");
      return -1;
  }
}

inline Strides4 strides_of(const Tensor& x) { return {{x.stride(0), x.stride(1), x.stride(2), x.stride(3)}}; }

inline void check_alike(const Tensor& a, const Tensor& b, const char* names) {
  STD_TORCH_CHECK(a.is_cuda() && b.is_cuda() && a.get_device_index() == b.get_device_index(), names,
                  " must be on one CUDA device.");
  STD_TORCH_CHECK(a.scalar_type() == b.scalar_type(), names, " must have one dtype.");
}

inline Tensor empty_image(const Tensor& like, int64_t channels) {
  using torch::headeronly::MemoryFormat;
  const auto format = is_channels_last(like) ? MemoryFormat::ChannelsLast : MemoryFormat::Contiguous;
  const int64_t sizes[] = {like.size(0), channels, like.size(2), like.size(3)};
  return torch::stable::empty(sizes, like.scalar_type(), std::nullopt, like.device(), std::nullopt, format);
}

}  // namespace genfast
