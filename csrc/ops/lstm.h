// What row_lstm and diagonal_lstm share: checks, and on the CPU allocation and which thread takes which images.
#pragma once

#include <tuple>

#include "lstm/scan.h"
#include "support/tensors.h"

namespace genfast {

using LstmOutputs = std::tuple<Tensor, Tensor, Tensor>;            // h, gates, c; the last two empty unless kept
using LstmGradients = std::tuple<Tensor, Tensor, Tensor, Tensor>;  // of x, weight, h0, c0

void check_lstm_inputs(const Tensor& map, int64_t channels, const Tensor& weight, const Tensor& h0, const Tensor& c0);
LstmOutputs lstm_fwd(const Scan&, const Tensor& x, const Tensor& weight, const Tensor& h0, const Tensor& c0, bool keep);
LstmGradients lstm_bwd(const Scan&, const Tensor& grad, const Tensor& h, const Tensor& gates, const Tensor& c, const Tensor& weight,
                       const Tensor& h0, const Tensor& c0);

}  // namespace genfast
