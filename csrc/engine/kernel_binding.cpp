// Kernels by themselves, for tests: numpy arrays in, numpy arrays out, in the instruction set in use.
#include <algorithm>
#include <cstring>
#include <limits>

#include "engine/arguments.h"
#include "engine/binding.h"
#include "engine/cpu_kernels.h"

namespace genfast::engine {
namespace {

// Rows padded as the kernels want them.
std::vector<float> padded_rows(const py::array_t<float>& a, int64_t* row) {
  *row = (a.shape(1) + kRowPadding - 1) / kRowPadding * kRowPadding;
  std::vector<float> rows(a.shape(0) * *row + kRowPadding);
  for (int64_t m = 0; m < a.shape(0); m++)
    std::memcpy(rows.data() + m * *row, a.data() + m * a.shape(1), a.shape(1) * sizeof(float));
  return rows;
}

py::array_t<float> unpadded(const std::vector<float>& rows, int64_t row, int64_t count, int64_t width) {
  py::array_t<float> out({count, width});
  for (int64_t m = 0; m < count; m++) std::memcpy(out.mutable_data() + m * width, rows.data() + m * row, width * sizeof(float));
  return out;
}

py::array_t<float> pointwise(const std::string& name, py::list arrays) {
  const auto op = named<PointwiseOp>(name, kOps, "operation");
  static constexpr int kArity[] = {
#define GENFAST_ARITY_OF_OP(NAME, ARGS) ARGS,
      GENFAST_POINTWISE_OPS(GENFAST_ARITY_OF_OP)
#undef GENFAST_ARITY_OF_OP
  };
  if (int(arrays.size()) != kArity[int(op)]) throw Refusal(name + " takes " + std::to_string(kArity[int(op)]) + " arguments.");
  std::vector<py::array_t<float>> given;
  int64_t rows = 1, width = 1;
  for (py::handle a : arrays) {
    given.push_back(array<float>(a, "An argument", {-1, -1}));
    rows = std::max<int64_t>(rows, given.back().shape(0));
    width = std::max<int64_t>(width, given.back().shape(1));
  }
  std::vector<std::vector<float>> memory;
  PointwiseArg args[3];
  for (size_t i = 0; i < given.size(); i++) {
    if ((given[i].shape(0) != 1 && given[i].shape(0) != rows) || (given[i].shape(1) != 1 && given[i].shape(1) != width))
      throw Refusal("The arguments of " + name + " do not broadcast.");
    int64_t row;
    memory.push_back(padded_rows(given[i], &row));
    args[i] = {memory.back().data(), given[i].shape(0) == 1 ? 0 : row, given[i].shape(1) == 1 && width > 1 ? 0 : 1};
  }
  const int64_t out_row = (width + kRowPadding - 1) / kRowPadding * kRowPadding;
  std::vector<float> out(rows * out_row + kRowPadding);
  cpu_kernels().pointwise(op, args, {out.data(), out_row}, rows, 0, width);
  return unpadded(out, out_row, rows, width);
}

py::array_t<float> reduce(const std::string& kind, py::object x, float eps) {
  const auto a = array<float>(x, "x", {-1, -1});
  if (a.shape(1) < 1) throw Refusal("There is nothing to reduce.");
  const auto k = named<ReduceKind>(kind, kReductions, "reduction");
  int64_t row;
  const auto rows = padded_rows(a, &row);
  std::vector<float> out(a.shape(0) * row + kRowPadding);
  cpu_kernels().reduce(k, rows.data(), row, out.data(), row, a.shape(0), a.shape(1), eps);
  const bool one = k == ReduceKind::sum || k == ReduceKind::max || k == ReduceKind::min;
  return unpadded(out, row, a.shape(0), one ? 1 : a.shape(1));
}

// query [M, heads * depth], key [slots, M, heads * depth], value [slots, M, heads * width], both seen at slots [N]; bias [heads, N]
// or None. images_at_a_time: as many as the scratch memory has room for.
py::array_t<float> attend(py::object query, py::object key, py::object value, py::object key_at, py::object value_at,
                          py::object bias, int64_t heads, float scale, int64_t images_at_a_time) {
  const auto q = array<float>(query, "query", {-1, -1});
  const int64_t images = q.shape(0), wide = q.shape(1);
  const auto k = array<float>(key, "key", {-1, images, wide}), v = array<float>(value, "value", {-1, images, -1});
  const auto seen = numbers<int32_t>(key_at, "key_at"), terms = numbers<int32_t>(value_at, "value_at");
  const int64_t width = v.shape(2), count = int64_t(seen.size());
  if (heads < 1 || wide % heads || width % heads || terms.size() != seen.size() || images_at_a_time < 1)
    throw Refusal("The arguments of attend do not fit.");
  for (size_t i = 0; i < seen.size(); i++)
    if (seen[i] < 0 || seen[i] >= k.shape(0) || terms[i] < -1 || terms[i] >= v.shape(0)) throw Refusal("There is no such slot.");
  std::vector<float> biases;
  if (!bias.is_none()) {
    const auto b = array<float>(bias, "bias", {heads, count});
    biases.assign(b.data(), b.data() + b.size());
  }
  const auto padded = [](const py::array_t<float>& a) {
    std::vector<float> copy(a.size() + kAttendPadding, std::numeric_limits<float>::quiet_NaN());
    std::copy_n(a.data(), a.size(), copy.data());
    return copy;
  };
  const auto queries = padded(q), keys = padded(k), values = padded(v);
  const int64_t out_row = attend_row(width);
  std::vector<float> out(images * out_row), scratch(images_at_a_time * heads * attend_row(count));
  cpu_kernels().attend({.query = queries.data(),
                        .query_row = wide,
                        .keys = {keys.data(), images * wide, wide, seen.data()},
                        .values = {values.data(), images * width, width, terms.data()},
                        .bias = biases.empty() ? nullptr : biases.data(),
                        .count = count,
                        .images = images,
                        .heads = heads,
                        .depth = wide / heads,
                        .width = width / heads,
                        .scale = scale,
                        .scratch = scratch.data(),
                        .scratch_floats = int64_t(scratch.size()),
                        .out = out.data(),
                        .out_row = out_row});
  return unpadded(out, out_row, images, width);
}

// levels: written where known is 0. Returns the log-probabilities, or None if some row is no distribution.
py::object categorical(py::object logits, py::object levels, py::object known, py::object uniforms, bool bernoulli,
                       double temperature, int64_t top_k, double top_p) {
  const auto l = array<float>(logits, "logits", {-1, -1});
  const int64_t rows = l.shape(0), count = bernoulli ? 2 : l.shape(1);
  if (count < 1 || count > kMaxLevels || (bernoulli && l.shape(1) != 1)) throw Refusal("logits do not fit.");
  auto level = array<int32_t>(levels, "levels", {rows});
  const auto is_known = array<uint8_t>(known, "known", {rows});
  for (int64_t m = 0; m < rows; m++)
    if (is_known.at(m) && (level.at(m) < 0 || level.at(m) >= count)) throw Refusal("A known level is too large.");
  const auto u = array<double>(uniforms, "uniforms", {rows});
  py::array_t<double> log_prob(rows);
  const bool drawn =
      cpu_kernels().categorical({l.data(), l.shape(1), rows, count, bernoulli, level.mutable_data(), 1, is_known.data(), 1,
                                 u.data(), 1, log_prob.mutable_data(), 1, temperature, top_k, top_p});
  return drawn ? py::object(log_prob) : py::none();
}

// As categorical, of params [M, 3 colours, K].
py::object draw_logistic_mixture(py::object params, py::object levels, py::object known, py::object uniforms, int64_t count,
                                 double min_log_scale, double temperature, int64_t top_k, double top_p) {
  const auto p = array<float>(params, "params", {-1, -1, -1});
  const int64_t rows = p.shape(0), colours = p.shape(1) / 3, components = p.shape(2);
  if (count < 2 || count > kMaxLevels || colours < 1 || p.shape(1) % 3 || components < 1 || components > kMaxComponents)
    throw Refusal("params do not fit.");
  auto level = array<int32_t>(levels, "levels", {rows});
  const auto is_known = array<uint8_t>(known, "known", {rows});
  for (int64_t m = 0; m < rows; m++)
    if (is_known.at(m) && (level.at(m) < 0 || level.at(m) >= count)) throw Refusal("A known level is too large.");
  const auto u = array<double>(uniforms, "uniforms", {rows});
  py::array_t<double> log_prob(rows);
  const Categorical asked = {p.data(), 3 * colours * components, rows, count, false, level.mutable_data(), 1, is_known.data(), 1,
                             u.data(), 1, log_prob.mutable_data(), 1, temperature, top_k, top_p};
  const bool drawn = cpu_kernels().draw_logistic_mixture({asked, components, colours, min_log_scale});
  return drawn ? py::object(log_prob) : py::none();
}

// x [M, K] times w [K, N], both rounded to bfloat16.
py::array_t<float> bfloat16_product(py::object x, py::object w) {
  const auto a = array<float>(x, "x", {-1, -1});
  const auto b = array<float>(w, "w", {a.shape(1), -1});
  const int64_t M = a.shape(0), K = a.shape(1), N = b.shape(1), pairs = (K + 1) / 2, panel = cpu_kernels().panel;
  std::vector<BFloat16> rows(M * pairs * 2), weights((N + panel - 1) / panel * panel * pairs * 2);
  for (int64_t m = 0; m < M; m++) cpu_kernels().narrow(a.data() + m * K, rows.data() + m * pairs * 2, K);
  for (int64_t k = 0; k < K; k++)
    for (int64_t n = 0; n < N; n++)
      cpu_kernels().narrow(b.data() + k * N + n,
                           weights.data() + 2 * (n / panel * panel * pairs + k / 2 * panel + n % panel) + k % 2, 1);
  const Tap tap = {0, 0, pairs, pairs};
  py::array_t<float> out({M, N});
  cpu_kernels().tap_gemm_of_pairs({.a = reinterpret_cast<const BFloat16Pair*>(rows.data()),
                                   .w = reinterpret_cast<const BFloat16Pair*>(weights.data()),
                                   .taps = &tap, .num_taps = 1, .a_k = 1, .w_k = panel, .w_panel = panel * pairs,
                                   .out = out.mutable_data(), .out_row = N, .rows = M, .columns = N,
                                   .add = Add::kNothing, .bias = nullptr, .next = nullptr});
  return out;
}

py::array_t<double> exp_doubles(py::object x) {
  const auto a = array<double>(x, "x", {-1});
  py::array_t<double> out(a.size());
  cpu_kernels().exp_doubles(a.data(), out.mutable_data(), a.size());
  return out;
}

}  // namespace

void bind_kernels(py::module_& m) {
  m.def("pointwise", &pointwise, "kernels/pointwise on float32 arrays [M, N], [M, 1] or [1, N].");
  m.def("reduce", &reduce, py::arg("kind"), py::arg("x"), py::arg("eps") = 0.0f, "kernels/reduce on a float32 array [M, N].");
  m.def("attend", &attend, py::arg("query"), py::arg("key"), py::arg("value"), py::arg("key_at"), py::arg("value_at"),
        py::arg("bias") = py::none(), py::arg("heads") = 1, py::arg("scale") = 1.0f, py::arg("images_at_a_time") = 1,
        "kernels/attend on float32 arrays [M, K], [slots, M, K], [slots, M, N].");
  m.def("categorical", &categorical, py::arg("logits"), py::arg("levels"), py::arg("known"), py::arg("uniforms"),
        py::arg("bernoulli") = false, py::arg("temperature") = 1.0, py::arg("top_k") = 0, py::arg("top_p") = 1.0,
        "kernels/categorical on arrays.");
  m.def("draw_logistic_mixture", &draw_logistic_mixture, py::arg("params"), py::arg("levels"), py::arg("known"),
        py::arg("uniforms"), py::arg("count") = 256, py::arg("min_log_scale") = -7.0, py::arg("temperature") = 1.0,
        py::arg("top_k") = 0, py::arg("top_p") = 1.0, "kernels/logistic_mixture/draw.h on arrays.");
  m.def("bfloat16_product", &bfloat16_product, py::arg("x"), py::arg("w"),
        "kernels/tap_gemm on float32 arrays [M, K] and [K, N], both rounded to bfloat16.");
  m.def("exp_doubles", &exp_doubles, "exp as kernels/categorical computes it.");
}

}  // namespace genfast::engine
