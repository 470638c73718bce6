// genfast::diagonal_lstm on the CPU. The arithmetic is in kernels/lstm; the schema is in genfast/ops/diagonal_lstm.py, the fakes and autograd
// in genfast/ops/lstm.py.
#include "diagonal_lstm/scan.h"

#include "ops/lstm.h"

namespace genfast {
namespace {

void check_taps(const Tensor& weight) {
  STD_TORCH_CHECK(weight.size(2) == 2, "weight must have 2 taps, up and left, but has ", weight.size(2), ".");
}

LstmOutputs diagonal_lstm_cpu(const Tensor& x, const Tensor& weight, const Tensor& h0, const Tensor& c0, bool reverse, bool keep) {
  check_lstm_inputs(x, weight.size(0), weight, h0, c0);
  check_taps(weight);
  return lstm_fwd(diagonal_scan(x.size(2), x.size(3), weight.size(1), reverse), x, weight, h0, c0, keep);
}

LstmGradients diagonal_lstm_bwd_cpu(const Tensor& grad, const Tensor& h, const Tensor& gates, const Tensor& c, const Tensor& weight,
                                    const Tensor& h0, const Tensor& c0, bool reverse) {
  check_lstm_inputs(grad, weight.size(1), weight, h0, c0);
  check_taps(weight);
  return lstm_bwd(diagonal_scan(grad.size(2), grad.size(3), weight.size(1), reverse), grad, h, gates, c, weight, h0, c0);
}

}  // namespace

STABLE_TORCH_LIBRARY_FRAGMENT(genfast, m) {
  m.def("diagonal_lstm_cpu(Tensor x, Tensor weight, Tensor h0, Tensor c0, bool reverse, bool keep) -> (Tensor, Tensor, Tensor)");
  m.def(
      "diagonal_lstm_bwd_cpu(Tensor grad, Tensor h, Tensor gates, Tensor c, Tensor weight, Tensor h0, Tensor c0, bool reverse)"
      " -> (Tensor, Tensor, Tensor, Tensor)");
}
STABLE_TORCH_LIBRARY_IMPL(genfast, CPU, m) {
  m.impl("diagonal_lstm_cpu", TORCH_BOX(&diagonal_lstm_cpu));
  m.impl("diagonal_lstm_bwd_cpu", TORCH_BOX(&diagonal_lstm_bwd_cpu));
}

}  // namespace genfast
