// genfast::gated_activation on the CPU: checks, allocation, and which thread takes which results. The arithmetic is in
// kernels/gated_activation; the schema, the fakes and autograd are in genfast/ops/gated_activation.py.
#include "gated_activation/cpu.h"

#include "support/isa.h"
#include "support/tensors.h"

namespace genfast {
namespace {

constexpr int64_t kGate = 60;  // roughly the FLOPs of one result

torch::headeronly::MemoryFormat format_of(const Tensor& x) {
  return is_channels_last(x) ? torch::headeronly::MemoryFormat::ChannelsLast : torch::headeronly::MemoryFormat::Contiguous;
}

Tensor empty_as(const Tensor& x, int64_t channels) {
  const int64_t sizes[] = {x.size(0), channels, x.size(2), x.size(3)};
  return torch::stable::empty(sizes, x.scalar_type(), std::nullopt, x.device(), std::nullopt, format_of(x));
}

// How many numbers of f follow one another in x, which is dense.
int64_t run_of(const Tensor& x, int64_t color_groups, int64_t backend) {
  STD_TORCH_CHECK(backend == 1, "backend ", backend, " does not run on CPU tensors; 1 is cpu.");
  STD_TORCH_CHECK(x.dim() == 4, "x must be [B, 2h, H, W], but has ", x.dim(), " dimensions.");
  STD_TORCH_CHECK(color_groups >= 1 && x.size(1) % (2 * color_groups) == 0, "x has ", x.size(1),
                  " channels, which are no two halves for each of ", color_groups, " colour groups.");
  return x.size(1) / (2 * color_groups) * (is_channels_last(x) ? 1 : x.size(2) * x.size(3));
}

template <class E>
E* numbers(const Tensor& x) {
  return static_cast<E*>(x.data_ptr());
}

template <class F>
void for_dtype(const Tensor& x, const F& f) {
  switch (x.scalar_type()) {
    case ScalarType::Float:
      return f(GENFAST_KERNEL(gated_activation_float32), float{});
    case ScalarType::Double:
      return f(GENFAST_KERNEL(gated_activation_float64), double{});
    case ScalarType::BFloat16:
      return f(GENFAST_KERNEL(gated_activation_bfloat16), BFloat16{});
    default:
      STD_TORCH_CHECK(false, "gated_activation on a CPU takes float32, float64 or bfloat16.");
  }
}

Tensor gated_activation_fwd(const Tensor& x_in, int64_t color_groups, int64_t backend) {
  const Tensor x = contiguous_or_channels_last(x_in);
  const int64_t length = run_of(x, color_groups, backend), results = x.numel() / 2;
  const Tensor out = empty_as(x, x.size(1) / 2);
  for_dtype(x, [&]<class E>(const GatedActivationKernels<E>& kernels, E) {
    parallel_slots(results, results * kGate, [&](int64_t, int64_t begin, int64_t end) {
      if (begin < end) kernels.forward(numbers<E>(x), numbers<E>(out), length, begin, end);
    });
  });
  return out;
}

Tensor gated_activation_bwd(const Tensor& grad_in, const Tensor& x_in, int64_t color_groups, int64_t backend) {
  const Tensor x = contiguous_or_channels_last(x_in), grad = torch::stable::contiguous(grad_in, format_of(x));
  const int64_t length = run_of(x, color_groups, backend), results = x.numel() / 2;
  STD_TORCH_CHECK(grad.scalar_type() == x.scalar_type() && grad.size(1) * 2 == x.size(1) && grad.numel() == results,
                  "grad must have the dtype of x and half of its channels.");
  const Tensor dx = empty_as(x, x.size(1));
  for_dtype(x, [&]<class E>(const GatedActivationKernels<E>& kernels, E) {
    parallel_slots(results, results * kGate, [&](int64_t, int64_t begin, int64_t end) {
      if (begin < end) kernels.backward(numbers<E>(grad), numbers<E>(x), numbers<E>(dx), length, begin, end);
    });
  });
  return dx;
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(genfast, CPU, m) {
  m.impl("gated_activation", TORCH_BOX(&gated_activation_fwd));
  m.impl("gated_activation_bwd", TORCH_BOX(&gated_activation_bwd));
}

}  // namespace genfast
