// Reads a specification, dictionaries and arrays from genfast/sampling/cpu.py, into a Program.
#include "engine/specification.h"

#include "engine/arguments.h"

namespace genfast::engine {
namespace {

// ---- dictionaries, checked ----

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

const char* const kHeads[] = {"none", "linear", "lookup", "reduce", "copy", "attend"};
const char* const kSources[] = {"slice", "read", "constant"};

// ---- the parts of a plan ----

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

}  // namespace

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

}  // namespace genfast::engine
