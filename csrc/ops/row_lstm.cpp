// genfast::row_lstm on the CPU. The arithmetic is in kernels/lstm; the schema is in genfast/ops/row_lstm.py, the fakes and autograd
// in genfast/ops/lstm.py.
#include "row_lstm/scan.h"

#include "ops/lstm.h"

namespace genfast {
namespace {

LstmOutputs row_lstm_cpu(const Tensor& x, const Tensor& weight, const Tensor& h0, const Tensor& c0, bool keep) {
  check_lstm_inputs(x, weight.size(0), weight, h0, c0);
  STD_TORCH_CHECK(weight.size(2) % 2 == 1, "weight must have an odd number of taps, but has ", weight.size(2), ".");
  return lstm_fwd(row_scan(x.size(2), x.size(3), weight.size(1), weight.size(2)), x, weight, h0, c0, keep);
}

LstmGradients row_lstm_bwd_cpu(const Tensor& grad, const Tensor& h, const Tensor& gates, const Tensor& c, const Tensor& weight,
                               const Tensor& h0, const Tensor& c0) {
  check_lstm_inputs(grad, weight.size(1), weight, h0, c0);
  return lstm_bwd(row_scan(grad.size(2), grad.size(3), weight.size(1), weight.size(2)), grad, h, gates, c, weight, h0, c0);
}

}  // namespace

STABLE_TORCH_LIBRARY_FRAGMENT(genfast, m) {
  m.def("row_lstm_cpu(Tensor x, Tensor weight, Tensor h0, Tensor c0, bool keep) -> (Tensor, Tensor, Tensor)");
  m.def(
      "row_lstm_bwd_cpu(Tensor grad, Tensor h, Tensor gates, Tensor c, Tensor weight, Tensor h0, Tensor c0)"
      " -> (Tensor, Tensor, Tensor, Tensor)");
}
STABLE_TORCH_LIBRARY_IMPL(genfast, CPU, m) {
  m.impl("row_lstm_cpu", TORCH_BOX(&row_lstm_cpu));
  m.impl("row_lstm_bwd_cpu", TORCH_BOX(&row_lstm_bwd_cpu));
}

}  // namespace genfast
