// _C.Engine and _C.Run: numpy arrays in, numpy arrays written. genfast/sampling/cpu.py makes the specification from a Plan.
#include "engine/binding.h"

#include <pybind11/numpy.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <cstring>
#include <limits>

#include "engine/cpu_kernels.h"
#include "engine/flatten.h"
#include "engine/run.h"

namespace py = pybind11;

namespace genfast::engine {
namespace {

// ---- arrays and dictionaries, checked ----

template <class T>
py::array_t<T> array(py::handle object, const char* name, std::vector<int64_t> shape) {
  const auto refuse = [&](const std::string& why) { throw Refusal(std::string(name) + " " + why + "."); };
  if (!py::isinstance<py::array>(object)) refuse("must be a numpy array");
  const auto a = py::reinterpret_borrow<py::array>(object);
  if (!a.dtype().is(py::dtype::of<T>()) && !a.dtype().equal(py::dtype::of<T>()))
    refuse("must be of dtype " + std::string(py::str(py::dtype::of<T>())) + ", not " + std::string(py::str(a.dtype())));
  if (!(a.flags() & py::array::c_style)) refuse("must be contiguous");
  if (a.ndim() != int64_t(shape.size()))
    refuse("must have " + std::to_string(shape.size()) + " dimensions, not " + std::to_string(a.ndim()));
  for (size_t i = 0; i < shape.size(); i++)
    if (shape[i] >= 0 && a.shape(i) != shape[i])
      refuse("must have " + std::to_string(shape[i]) + " in dimension " + std::to_string(i) + ", not " +
             std::to_string(a.shape(i)));
  return py::reinterpret_borrow<py::array_t<T>>(object);
}

template <class T>
std::vector<T> numbers(py::handle object, const char* name) {
  const auto a = array<T>(object, name, {-1});
  return {a.data(), a.data() + a.size()};
}

template <class T>
std::vector<T> matrix(py::handle object, const char* name, int64_t* rows, int64_t* columns) {
  const auto a = array<T>(object, name, {-1, -1});
  *rows = a.shape(0);
  *columns = a.shape(1);
  return {a.data(), a.data() + a.size()};
}

py::object get(py::handle object, const char* key) {
  if (!py::isinstance<py::dict>(object)) throw Refusal(std::string("Where \"") + key + "\" was expected is no dict.");
  const auto dict = py::reinterpret_borrow<py::dict>(object);
  if (!dict.contains(key)) throw Refusal(std::string("The specification has no \"") + key + "\".");
  return dict[key];
}

template <class T>
T get_as(py::handle object, const char* key) {
  try {
    return get(object, key).cast<T>();
  } catch (const py::cast_error&) {
    throw Refusal(std::string("\"") + key + "\" is of the wrong type.");
  }
}

py::list get_list(py::handle object, const char* key) {
  const py::object list = get(object, key);
  if (!py::isinstance<py::list>(list)) throw Refusal(std::string("\"") + key + "\" is no list.");
  return list;
}

template <class Enum, size_t N>
Enum named(const std::string& name, const char* const (&names)[N], const char* what) {
  for (size_t i = 0; i < N; i++)
    if (name == names[i]) return Enum(i);
  throw Refusal(std::string("There is no ") + what + " \"" + name + "\".");
}

#define GENFAST_STRING_OF_OP(NAME, ARGS) #NAME,
const char* const kOps[] = {GENFAST_POINTWISE_OPS(GENFAST_STRING_OF_OP)};
#undef GENFAST_STRING_OF_OP
#define GENFAST_STRING_OF_KIND(NAME) #NAME,
const char* const kReductions[] = {GENFAST_REDUCE_KINDS(GENFAST_STRING_OF_KIND)};
#undef GENFAST_STRING_OF_KIND
const char* const kHeads[] = {"none", "linear", "lookup", "reduce", "copy", "attend"};
const char* const kSources[] = {"slice", "read", "constant"};

// ---- the specification ----

Read parse_read(py::handle spec) {
  return {get_as<int32_t>(spec, "value"),
          get_as<int32_t>(spec, "start"),
          get_as<int32_t>(spec, "width"),
          numbers<int32_t>(get(spec, "at"), "The table of a read"),
          {}};
}

Argument parse_argument(py::handle spec) {
  return {named<From>(get_as<std::string>(spec, "from"), kSources, "source"), get_as<int32_t>(spec, "index"),
          get_as<int32_t>(spec, "start"), get_as<int32_t>(spec, "width")};
}

Attention parse_attention(py::handle spec) {
  Attention a;
  a.key = parse_read(get(spec, "key"));
  a.value = parse_read(get(spec, "value"));
  a.first = numbers<int64_t>(get(spec, "first"), "The lists of an attention");
  a.bias = numbers<float>(get(spec, "bias"), "The biases of an attention");
  a.heads = get_as<int64_t>(spec, "heads");
  a.scale = get_as<float>(spec, "scale");
  return a;
}

Head parse_head(py::handle spec) {
  Head head;
  head.kind = named<HeadKind>(get_as<std::string>(spec, "kind"), kHeads, "head");
  if (head.kind == HeadKind::kNone) return head;
  head.width = get_as<int32_t>(spec, "width");
  for (py::handle a : get_list(spec, "reads")) head.reads.push_back(parse_argument(a));
  int64_t columns = 0;
  if (head.kind == HeadKind::kLinear || head.kind == HeadKind::kLookup) {
    head.weight = matrix<float>(get(spec, "weight"), "The weights", &head.entries, &columns);
    if (columns != head.width)
      throw Refusal("The weights have " + std::to_string(columns) + " columns instead of " + std::to_string(head.width) + ".");
  }
  if (head.kind == HeadKind::kLinear) head.bias = get_as<int32_t>(spec, "bias");
  if (head.kind == HeadKind::kReduce) {
    head.reduce = named<ReduceKind>(get_as<std::string>(spec, "reduce"), kReductions, "reduction");
    head.eps = get_as<float>(spec, "eps");
  }
  if (head.kind == HeadKind::kCopy) head.starts = numbers<int32_t>(get(spec, "starts"), "The starts of a copy");
  if (head.kind == HeadKind::kAttend) head.attention = parse_attention(spec);
  return head;
}

Kernel parse_kernel(py::handle spec) {
  Kernel k;
  k.name = get_as<std::string>(spec, "name");
  k.positions = get_as<int64_t>(spec, "positions");
  k.order = numbers<int32_t>(get(spec, "order"), "The order of a kernel");
  k.part = numbers<int32_t>(get(spec, "part"), "The parts of a kernel");
  k.early = get_as<bool>(spec, "early");
  for (py::handle r : get_list(spec, "reads")) k.reads.push_back(parse_read(r));
  for (py::handle c : get_list(spec, "constants")) {
    Constant constant;
    constant.rows = matrix<float>(get(c, "rows"), "A constant", &constant.count, &constant.width);
    constant.which = numbers<int32_t>(get(c, "which"), "The table of a constant");
    k.constants.push_back(std::move(constant));
  }
  k.head = parse_head(get(spec, "head"));
  for (py::handle i : get_list(spec, "body")) {
    Instruction instruction;
    instruction.op = named<PointwiseOp>(get_as<std::string>(i, "op"), kOps, "operation");
    instruction.width = get_as<int32_t>(i, "width");
    for (py::handle a : get_list(i, "args")) instruction.args.push_back(parse_argument(a));
    k.body.push_back(std::move(instruction));
  }
  int64_t rows = 0, columns = 0;
  const auto stores = matrix<int32_t>(get(spec, "stores"), "The stores of a kernel", &rows, &columns);
  if (columns != 3) throw Refusal("The stores of a kernel must be [stores, 3].");
  for (int64_t s = 0; s < rows; s++) k.stores.push_back({stores[3 * s], stores[3 * s + 1], stores[3 * s + 2]});
  return k;
}

// Returns the function that draws, if the likelihood is somebody's function, or else None.
py::object parse_likelihood(py::handle spec, Program& p) {
  const auto name = get_as<std::string>(spec, "name");
  if (name != "bernoulli" && name != "categorical" && name != "logistic_mixture" && name != "function")
    throw Refusal("The engine cannot draw from \"" + name + "\".");
  p.bernoulli = name == "bernoulli";
  p.function = name == "function";
  p.uniforms = p.C;
  if (name == "logistic_mixture") {
    p.components = get_as<int64_t>(spec, "components");
    p.min_log_scale = get_as<double>(spec, "min_log_scale");
    if (p.components < 1) throw Refusal("A logistic mixture needs at least one component.");
  }
  if (!p.function) return py::none();
  p.whole = get_as<bool>(spec, "whole_pixels");
  p.uniforms = get_as<int64_t>(spec, "uniforms");
  const py::object sample = get(spec, "sample");
  if (!PyCallable_Check(sample.ptr())) throw Refusal("The likelihood is a function, but what should draw is none.");
  return sample;
}

struct Engine {
  std::shared_ptr<const Program> program;
  py::object sample;  // the function that draws, or None
};

Engine parse(py::handle spec) {
  auto p = std::make_shared<Program>();
  const auto shape = numbers<int32_t>(get(spec, "image_shape"), "The image shape");
  if (shape.size() != 3) throw Refusal("The image shape must be C, H, W.");
  p->C = shape[0], p->H = shape[1], p->W = shape[2];
  p->levels = get_as<int64_t>(spec, "levels");
  p->ticks = get_as<int64_t>(spec, "ticks");
  const py::object sample = parse_likelihood(get(spec, "likelihood"), *p);
  p->bfloat16 = get_as<bool>(spec, "bfloat16");
  for (py::handle v : get_list(spec, "values")) {
    Value value;
    value.channels = get_as<int64_t>(v, "channels");
    value.slots = get_as<int64_t>(v, "slots");
    value.slot = numbers<int32_t>(get(v, "slot"), "The slots of a value");
    value.positions = int64_t(value.slot.size());
    p->values.push_back(std::move(value));
  }
  p->inputs = numbers<int32_t>(get(spec, "inputs"), "The inputs");
  p->conditions = numbers<int32_t>(get(spec, "conditions"), "The conditions");
  for (py::handle k : get_list(spec, "kernels")) p->kernels.push_back(parse_kernel(k));
  int64_t rows = 0, columns = 0;
  const auto launches = matrix<int32_t>(get(spec, "launches"), "The launches", &rows, &columns);
  if (columns != 4) throw Refusal("The launches must be [launches, 4].");
  for (int64_t i = 0; i < rows; i++)
    p->launches.push_back({launches[4 * i], launches[4 * i + 1], launches[4 * i + 2], launches[4 * i + 3]});
  for (py::handle r : get_list(spec, "draws")) p->draws.push_back(parse_read(r));
  p->draw_tick = matrix<int32_t>(get(spec, "draw_tick"), "The ticks of the draws", &rows, &columns);
  build(*p);
  return {std::move(p), sample};
}

// ---- runs ----

class PyRun {
 public:
  PyRun(std::shared_ptr<const Program> program, const Request& request, const Options& options, py::list kept)
      : program_(program), kept_(std::move(kept)), run_(program, request, options) {}

  void until_row(int64_t row) {
    bool finished;
    {
      py::gil_scoped_release release;
      finished = run_.until_row(row, [] {
        py::gil_scoped_acquire acquire;
        return PyErr_CheckSignals() != 0;
      });
    }
    if (!finished) throw py::error_already_set();
  }

  py::dict profile() const {
    const Profile profile = run_.profile();
    py::list kernels;
    for (size_t k = 0; k < profile.kernels.size(); k++) {
      const auto& part = profile.kernels[k];
      py::dict row;
      row["name"] = program_->kernels[k].name;
      row["gather"] = part.gather;
      row["gemm"] = part.gemm;
      row["body"] = part.body;
      row["store"] = part.store;
      kernels.append(row);
    }
    py::dict all;
    all["kernels"] = kernels;
    all["draws"] = profile.draws;
    return all;
  }

 private:
  std::shared_ptr<const Program> program_;
  py::list kept_;  // the arrays that the run reads and writes
  Run run_;
};

// A Python function (params float32 [M, width], uniforms float64 [M, many]) -> levels int32 [M, colours], callable from any thread.
// The run keeps the function itself; here is only a reference, which no thread without the GIL may copy or drop.
std::function<void(const float*, const double*, int64_t, int32_t*)> sampling_function(py::handle function, int64_t width,
                                                                                     int64_t many, int64_t colours) {
  return [function, width, many, colours](const float* params, const double* uniforms, int64_t images, int32_t* levels) {
    py::gil_scoped_acquire acquire;
    py::array_t<float> p({images, width});
    py::array_t<double> u({images, many});
    std::copy_n(params, images * width, p.mutable_data());
    std::copy_n(uniforms, images * many, u.mutable_data());
    const auto result = array<int32_t>(function(p, u), "What the likelihood's function gives", {images, colours});
    std::copy_n(result.data(), images * colours, levels);
  };
}

std::unique_ptr<PyRun> start(const Engine& engine, py::object images, py::object known, py::object uniforms,
                             py::list conditions, double temperature, int64_t top_k, double top_p, py::object log_probs,
                             py::object params, int threads, bool profile, bool poison) {
  const std::shared_ptr<const Program>& p = engine.program;
  Request r;
  auto pixels_in = array<int32_t>(images, "The images", {-1, p->C, p->H, p->W});
  r.n = pixels_in.shape(0);
  const int64_t pixels = p->H * p->W;
  const auto writable = [](py::array& a, const char* name) {
    if (!a.writeable()) throw Refusal(std::string(name) + " cannot be written to.");
  };
  writable(pixels_in, "The images");
  r.images = pixels_in.mutable_data();
  r.known = array<uint8_t>(known, "The mask of known pixels", {r.n, pixels}).data();
  r.uniforms = array<double>(uniforms, "The uniforms", {r.n, p->uniforms, pixels}).data();
  if (conditions.size() != p->conditions.size())
    throw Refusal("The network takes " + std::to_string(p->conditions.size()) + " conditions, not " +
                  std::to_string(conditions.size()) + ".");
  for (size_t i = 0; i < p->conditions.size(); i++) {
    const Value& v = p->values[p->conditions[i]];
    r.conditions.push_back(array<float>(conditions[i], "A condition", {r.n, v.positions, v.channels}).data());
  }
  r.temperature = temperature;
  r.top_k = top_k;
  r.top_p = top_p;
  if (!log_probs.is_none()) {
    auto a = array<double>(log_probs, "The log-probabilities", {r.n, p->C, pixels});
    writable(a, "The log-probabilities");
    r.log_probs = a.mutable_data();
  }
  if (!params.is_none()) {
    auto a = array<float>(params, "The parameters", {r.n, p->C, pixels, p->params()});
    writable(a, "The parameters");
    r.params = a.mutable_data();
  }
  if (p->function)
    r.sample = sampling_function(engine.sample, p->params(), p->whole ? p->uniforms : 1, p->whole ? p->C : 1);
  py::list kept;
  for (const py::object& o : {images, known, uniforms, log_probs, params, engine.sample}) kept.append(o);
  return std::make_unique<PyRun>(p, r, Options{threads, profile, poison}, std::move(kept));
}

int64_t cache_bytes(const Engine& engine, int64_t n, int threads) {
  if (n < 0 || n > 1 << 24 || threads < 1) throw Refusal("A batch needs a number of images and of threads.");
  const Split split(n, threads);
  int64_t total = 0;
  for (int t = 0; t < split.teams; t++) total += 4 * engine.program->cache_floats(split.first(t + 1) - split.first(t));
  return total;
}

// The program for a GPU: what genfast_cuda_run (engine/cuda/engine.cuh) takes, as arrays of bytes.
py::dict flat_program(const Engine& engine) {
  const Flat flat = flatten(*engine.program);
  const auto bytes = [](const void* from, size_t count) {
    py::array_t<uint8_t> to(count);
    std::memcpy(to.mutable_data(), from, count);
    return to;
  };
  py::dict all;
  all["header"] = bytes(&flat.header, sizeof(flat.header));
  all["program"] = bytes(flat.bytes.data(), flat.bytes.size());
  all["offsets"] = flat.offsets;
  all["cache_floats"] = flat.header.cache_floats;
  return all;
}

// ---- kernels by themselves, for tests ----

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

void bind(py::module_& m) {
  py::class_<PyRun>(m, "Run", "A batch on its way; made by Engine.start.")
      .def("until_row", &PyRun::until_row, py::arg("row"), "Draws every sub-pixel of rows 0 .. row, without the GIL.")
      .def("profile", &PyRun::profile, "Seconds by kernel and part, added up over the threads, if started with profile=True.");
  py::class_<Engine>(m, "Engine", "A plan, checked and packed for this machine.")
      .def(py::init([](py::dict spec) { return parse(spec); }), py::arg("spec"))
      .def("start", &start, py::arg("images"), py::arg("known"), py::arg("uniforms"), py::arg("conditions"),
           py::arg("temperature") = 1.0, py::arg("top_k") = 0, py::arg("top_p") = 1.0, py::arg("log_probs") = py::none(),
           py::arg("params") = py::none(), py::arg("threads") = 1, py::arg("profile") = false, py::arg("poison") = false)
      .def("cache_bytes", &cache_bytes, py::arg("n"), py::arg("threads"), "Bytes that the caches of n images take.")
      .def("flat", &flat_program,
           "The plan for the cuda engine: header and program as bytes, and the floats of an image before each value's cache.");
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
