// genfast::row_lstm_cuda, diagonal_lstm_cuda and what is recurrent in their gradients: the CUDA C++ kernels of
// kernels/lstm/cuda.cu as operators on CUDA tensors. Built where nvcc is found. Autograd, the choice between backends and
// the gradients of weights and initial states, dense products, are in genfast/ops/lstm.py.
#include "lstm/cuda.cuh"

#include <tuple>

#include "diagonal_lstm/scan.h"
#include "ops/lstm.h"
#include "row_lstm/scan.h"
#include "support/cuda.h"

namespace genfast {
namespace {

constexpr char kName[] = "row_lstm or diagonal_lstm";

using Recurrence = std::tuple<Tensor, Tensor>;  // dgates [B, H, W, 4h], dc [B, slots, h]

ScalarType wide(const Tensor& x) { return x.scalar_type() == ScalarType::Double ? ScalarType::Double : ScalarType::Float; }

Tensor empty(std::initializer_list<int64_t> sizes, const Tensor& like, ScalarType type) {
  return torch::stable::empty(sizes, type, std::nullopt, like.device(), std::nullopt, std::nullopt);
}

LstmShape make_shape(const Tensor& map, const Scan& scan) {
  const int64_t side = scan.H > scan.W ? scan.H : scan.W;
  constexpr int64_t most = int64_t(1) << 31;  // numbers of a line, which offsets of 32 bits reach
  STD_TORCH_CHECK(side < most / 8 && scan.hidden < most / 8 && 4 * scan.hidden * (side + scan.num_taps + 3) < most / 2 &&
                      map.size(0) < most / 8,
                  "row_lstm and diagonal_lstm in CUDA cannot take ", map.size(0), " images of ", scan.H, "x", scan.W, " with h = ",
                  scan.hidden, ": a line must have less than 2^30 gates.");
  return {dtype_code(kName, map), map.size(0), scan};
}

LstmOutputs forward(const Scan& scan, const Tensor& x, const Tensor& weight_in, const Tensor& h0_in, const Tensor& c0_in,
                    bool keep) {
  for (const Tensor& other : {weight_in, h0_in, c0_in}) check_alike(x, other, "x, weight, h0 and c0");
  const LstmShape shape = make_shape(x, scan);
  const torch::stable::accelerator::DeviceGuard guard(x.get_device_index());
  const Tensor weight = torch::stable::contiguous(weight_in), h0 = torch::stable::contiguous(h0_in);
  const Tensor c0 = torch::stable::contiguous(c0_in);
  const int64_t B = x.size(0);
  const Tensor h = empty_image(x, scan.hidden);
  const Tensor gates = keep ? empty({B, scan.H, scan.W, 4 * scan.hidden}, x, wide(x)) : empty({0}, x, wide(x));
  const Tensor c = keep ? empty({B, scan.H, scan.W, scan.hidden}, x, wide(x)) : empty({0}, x, wide(x));
  if (h.numel() == 0) return {h, gates, c};
  const Tensor scratch = empty({lstm_scratch_cuda(&shape, false)}, x, ScalarType::Byte);
  check_launch(kName, lstm_fwd_cuda(&shape, x.data_ptr(), strides_of(x), weight.data_ptr(), h0.data_ptr(), c0.data_ptr(),
                                    h.data_ptr(), strides_of(h), keep ? gates.data_ptr() : nullptr,
                                    keep ? c.data_ptr() : nullptr, scratch.data_ptr(), current_stream(x)));
  return {h, gates, c};
}

Recurrence backward(const Scan& scan, const Tensor& grad, const Tensor& gates_in, const Tensor& c_in, const Tensor& weight_in,
                    const Tensor& c0_in) {
  for (const Tensor& other : {weight_in, c0_in}) check_alike(grad, other, "grad, weight and c0");
  const int64_t B = grad.size(0), pixels = B * scan.H * scan.W;
  for (const Tensor& kept : {gates_in, c_in})
    STD_TORCH_CHECK(kept.is_cuda() && kept.get_device_index() == grad.get_device_index() && kept.scalar_type() == wide(grad),
                    "gates and c must be those that forward kept.");
  STD_TORCH_CHECK(gates_in.numel() == pixels * 4 * scan.hidden && c_in.numel() == pixels * scan.hidden,
                  "gates and c must be those that forward kept.");
  const LstmShape shape = make_shape(grad, scan);
  const torch::stable::accelerator::DeviceGuard guard(grad.get_device_index());
  const Tensor weight = torch::stable::contiguous(weight_in), c0 = torch::stable::contiguous(c0_in);
  const Tensor gates = torch::stable::contiguous(gates_in), c = torch::stable::contiguous(c_in);
  const Tensor dgates = empty({B, scan.H, scan.W, 4 * scan.hidden}, grad, wide(grad));
  const Tensor dc = empty({B, pixels == 0 ? 0 : scan.slots(), scan.hidden}, grad, wide(grad));
  if (dgates.numel() == 0) return {dgates, dc};
  const Tensor scratch = empty({lstm_scratch_cuda(&shape, true)}, grad, ScalarType::Byte);
  check_launch(kName, lstm_bwd_cuda(&shape, grad.data_ptr(), strides_of(grad), gates.data_ptr(), c.data_ptr(),
                                    weight.data_ptr(), c0.data_ptr(), dgates.data_ptr(), dc.data_ptr(), scratch.data_ptr(),
                                    current_stream(grad)));
  return {dgates, dc};
}

Scan row(const Tensor& map, const Tensor& weight) {
  STD_TORCH_CHECK(weight.size(2) % 2 == 1, "weight must have an odd number of taps, but has ", weight.size(2), ".");
  return row_scan(map.size(2), map.size(3), weight.size(1), weight.size(2));
}

Scan diagonal(const Tensor& map, const Tensor& weight, bool reverse) {
  STD_TORCH_CHECK(weight.size(2) == 2, "weight must have 2 taps, up and left, but has ", weight.size(2), ".");
  return diagonal_scan(map.size(2), map.size(3), weight.size(1), reverse);
}

LstmOutputs row_lstm_cuda(const Tensor& x, const Tensor& weight, const Tensor& h0, const Tensor& c0, bool keep) {
  check_lstm_inputs(x, weight.size(0), weight, h0, c0);
  return forward(row(x, weight), x, weight, h0, c0, keep);
}

Recurrence row_lstm_bwd_cuda(const Tensor& grad, const Tensor& gates, const Tensor& c, const Tensor& weight, const Tensor& c0) {
  check_lstm_inputs(grad, weight.size(1), weight, c0, c0);
  return backward(row(grad, weight), grad, gates, c, weight, c0);
}

LstmOutputs diagonal_lstm_cuda(const Tensor& x, const Tensor& weight, const Tensor& h0, const Tensor& c0, bool reverse,
                               bool keep) {
  check_lstm_inputs(x, weight.size(0), weight, h0, c0);
  return forward(diagonal(x, weight, reverse), x, weight, h0, c0, keep);
}

Recurrence diagonal_lstm_bwd_cuda(const Tensor& grad, const Tensor& gates, const Tensor& c, const Tensor& weight,
                                  const Tensor& c0, bool reverse) {
  check_lstm_inputs(grad, weight.size(1), weight, c0, c0);
  return backward(diagonal(grad, weight, reverse), grad, gates, c, weight, c0);
}

}  // namespace

STABLE_TORCH_LIBRARY_FRAGMENT(genfast, m) {
  m.def("row_lstm_cuda(Tensor x, Tensor weight, Tensor h0, Tensor c0, bool keep) -> (Tensor, Tensor, Tensor)");
  m.def("row_lstm_bwd_cuda(Tensor grad, Tensor gates, Tensor c, Tensor weight, Tensor c0) -> (Tensor, Tensor)");
  m.def("diagonal_lstm_cuda(Tensor x, Tensor weight, Tensor h0, Tensor c0, bool reverse, bool keep) -> (Tensor, Tensor, Tensor)");
  m.def("diagonal_lstm_bwd_cuda(Tensor grad, Tensor gates, Tensor c, Tensor weight, Tensor c0, bool reverse) -> (Tensor, Tensor)");
}

STABLE_TORCH_LIBRARY_IMPL(genfast, CUDA, m) {
  m.impl("row_lstm_cuda", TORCH_BOX(&row_lstm_cuda));
  m.impl("row_lstm_bwd_cuda", TORCH_BOX(&row_lstm_bwd_cuda));
  m.impl("diagonal_lstm_cuda", TORCH_BOX(&diagonal_lstm_cuda));
  m.impl("diagonal_lstm_bwd_cuda", TORCH_BOX(&diagonal_lstm_bwd_cuda));
}

}  // namespace genfast
