// A device beside the CPU, for tests of what must work where the model is somewhere else: its memory is the CPU's, its
// operators are the CPU's on copies, and an operator refuses tensors of both kinds, as those of a GPU do. PyTorch knows it as
// PrivateUse1; tests rename it.
#include <ATen/ATen.h>
#include <ATen/EmptyTensor.h>
#include <ATen/native/CPUFallback.h>
#include <ATen/native/Resize.h>
#include <ATen/ops/as_strided_native.h>
#include <ATen/ops/set_native.h>
#include <ATen/ops/view_native.h>
#include <c10/core/impl/DeviceGuardImplInterface.h>
#include <c10/core/impl/alloc_cpu.h>
#include <torch/library.h>

namespace {

constexpr auto kOther = c10::DeviceType::PrivateUse1;

struct Memory final : at::Allocator {
  at::DataPtr allocate(size_t bytes) override {
    void* p = c10::alloc_cpu(bytes);
    return {p, p, &c10::free_cpu, at::Device(kOther, 0)};
  }
  at::DeleterFnPtr raw_deleter() const override { return &c10::free_cpu; }
  void copy_data(void* to, const void* from, size_t bytes) const override { default_copy_data(to, from, bytes); }
};
Memory memory;
REGISTER_ALLOCATOR(kOther, &memory)
C10_REGISTER_GUARD_IMPL(PrivateUse1, c10::impl::NoOpDeviceGuardImpl<kOther>)

// The same memory as a CPU tensor.
at::Tensor on_cpu(const at::Tensor& t) {
  if (!t.is_privateuseone()) return t;
  return at::from_blob(t.data_ptr(), t.sizes(), t.strides(), t.options().device(at::kCPU));
}

using Dtype = std::optional<at::ScalarType>;
constexpr c10::DispatchKeySet kKeys(c10::DispatchKey::PrivateUse1);

at::Tensor empty(at::IntArrayRef size, Dtype dtype, std::optional<at::Layout>, std::optional<at::Device>, std::optional<bool>,
                 std::optional<at::MemoryFormat> format) {
  return at::detail::empty_generic(size, &memory, kKeys, c10::dtype_or_default(dtype), format);
}

at::Tensor empty_strided(at::IntArrayRef size, at::IntArrayRef stride, Dtype dtype, std::optional<at::Layout>,
                         std::optional<at::Device>, std::optional<bool>) {
  return at::detail::empty_strided_generic(size, stride, &memory, kKeys, c10::dtype_or_default(dtype));
}

at::Tensor copy_from(const at::Tensor& from, const at::Tensor& to, bool) {
  on_cpu(to).copy_(on_cpu(from));
  return to;
}

at::Tensor copy_from_and_resize(const at::Tensor& from, const at::Tensor& to) {
  at::native::resize_(to, from.sizes(), std::nullopt);
  return copy_from(from, to, false);
}

at::Scalar first_number(const at::Tensor& t) { return on_cpu(t).item(); }

at::Tensor as_strided(const at::Tensor& t, at::IntArrayRef size, at::IntArrayRef stride, std::optional<int64_t> offset) {
  return at::native::as_strided_tensorimpl(t, size, stride, offset);
}

at::Tensor reshape_alias(const at::Tensor& t, at::IntArrayRef size, at::IntArrayRef stride) {
  return at::native::as_strided_tensorimpl(t, size, stride);
}

at::Tensor& set_storage(at::Tensor& t, at::Storage storage, int64_t offset, at::IntArrayRef size, at::IntArrayRef stride) {
  return at::native::set_storage_cpu_(t, storage, offset, size, stride);
}

at::Tensor convolve(const at::Tensor& x, const at::Tensor& weight, const std::optional<at::Tensor>& bias, at::IntArrayRef stride,
                    at::IntArrayRef padding, at::IntArrayRef dilation, bool transposed, at::IntArrayRef output_padding,
                    int64_t groups) {
  for (const at::Tensor& t : {x, weight, bias.value_or(x)})
    TORCH_CHECK(t.is_privateuseone(), "convolution: expected all tensors to be on the same device.");
  const std::optional<at::Tensor> own = bias ? std::make_optional(on_cpu(*bias)) : std::nullopt;
  const at::Tensor out =
      at::convolution(on_cpu(x), on_cpu(weight), own, stride, padding, dilation, transposed, output_padding, groups);
  return out.to(x.device());
}

// Where a tensor is indexed, x[i] or x[i] = y, the indices may lie on the CPU, as on a GPU; so may single numbers anywhere.
bool may_mix(const std::string& name) {
  return name == "aten::index" || name == "aten::index_put_" || name == "aten::_index_put_impl_";
}

void refuse_mixtures(const c10::OperatorHandle& op, torch::jit::Stack* stack) {
  const auto& schema = op.schema();
  for (const auto& value : torch::jit::last(*stack, schema.arguments().size())) {
    const auto refuse = [&](const at::Tensor& t) {
      TORCH_CHECK(!t.defined() || !t.is_cpu() || t.dim() == 0 || may_mix(schema.name()), schema.name(),
                  ": expected all tensors to be on the same device, but found one on the CPU.");
    };
    if (value.isTensor()) refuse(value.toTensor());
    if (value.isTensorList())
      for (const at::Tensor& t : value.toTensorVector()) refuse(t);
  }
}

void by_the_cpu(const c10::OperatorHandle& op, torch::jit::Stack* stack) {
  refuse_mixtures(op, stack);
  at::native::cpu_fallback(op, stack, /*error_on_views=*/true);
}

}  // namespace

TORCH_LIBRARY_IMPL(aten, PrivateUse1, m) {
  m.impl("empty.memory_format", empty);
  m.impl("empty_strided", empty_strided);
  m.impl("_copy_from", copy_from);
  m.impl("_copy_from_and_resize", copy_from_and_resize);
  m.impl("_local_scalar_dense", first_number);
  m.impl("as_strided", as_strided);
  m.impl("_reshape_alias", reshape_alias);
  m.impl("view", at::native::view);
  m.impl("convolution_overrideable", convolve);
  m.impl("set_.source_Storage_storage_offset", set_storage);
}

TORCH_LIBRARY_IMPL(_, PrivateUse1, m) { m.fallback(torch::CppFunction::makeFromBoxedFunction<&by_the_cpu>()); }
