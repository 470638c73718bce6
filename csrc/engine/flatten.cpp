// Lays a program out for a GPU: see flat.h.
#include "engine/flatten.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <map>

#include "engine/cpu_kernels.h"

namespace genfast::engine {
namespace {

constexpr int64_t kMostFloats = int64_t(1) << 24;  // of a row's scratch memory: offsets in that of 64 rows are of 32 bits

int64_t fours(int64_t n) { return (n + 3) / 4 * 4; }

float widened(uint32_t bits) {
  float number;
  bits <<= 16;
  std::memcpy(&number, &bits, sizeof(number));
  return number;
}

// Row d, column n of a Linear's weights, as build() has packed them.
float weight_of(const Program& p, const Head& head, const Panels& panels, int64_t d, int64_t n) {
  const int64_t begin = panels.begin_at(n), columns = panels.columns_at(n);
  const int64_t panel = head.packed + begin * head.packed_depth + n - begin;
  if (!p.bfloat16) return p.weights.get()[panel + d * columns];
  const uint32_t pair = uint32_t(p.weight_pairs.get()[panel + d / 2 * columns]);
  return widened(d % 2 ? pair >> 16 : pair & 0xffff);
}

class Flattener {
 public:
  explicit Flattener(const Program& program) : p_(program) {}

  Flat flatten() {
    if (p_.function) throw Refusal("A likelihood that is a function cannot be drawn from on a GPU; use engine='cpu' or 'eager'.");
    for (const Value& v : p_.values) {
      offsets_.push_back(h_.cache_floats);
      h_.cache_floats += fours(v.slots * v.channels);
    }
    for (const std::vector<int32_t>& table : p_.tables) tables_of_[table.data()] = add(ints_, table.data(), table.size());
    for (const Kernel& k : p_.kernels) flatten_kernel(k);
    flatten_launches();
    flatten_draws();
    return put_together();
  }

 private:
  template <class T>
  static int64_t add(std::vector<T>& to, const T* from, size_t count) {
    const int64_t at = int64_t(to.size());
    to.insert(to.end(), from, from + count);
    return at;
  }

  // Which of the kernel's tables this is, each there once.
  int32_t place(int64_t table) {
    const auto first = tables_.begin() + out_.first_table, found = std::find(first, tables_.end(), table);
    if (found != tables_.end()) return int32_t(found - first);
    tables_.push_back(table);
    return int32_t(++out_.tables - 1);
  }

  // Of a read whose slots are found by no table of the kernel's.
  flat::Argument value_of(const Read& read) const {
    return {offsets_[read.value], flat::From::kRead, 1, -1, int32_t(p_.values[read.value].channels), read.start, 0};
  }

  flat::Argument read_of(const Kernel& k, int32_t index, bool one = false) {
    const Read& read = k.reads[index];
    flat::Argument a = value_of(read);
    a.step = one ? 0 : 1;
    a.place = place(tables_of_.at(read.slot_table));
    return a;
  }

  flat::Argument constant_of(const Kernel& k, int32_t index, bool one = false) {
    const Constant& c = k.constants[index];
    flat::Argument a = {constants_.at(&c), flat::From::kConstant, one ? 0 : 1, -1, int32_t(c.row), 0, 0};
    if (c.count > 1) a.place = place(which_.at(&c));
    return a;
  }

  void flatten_kernel(const Kernel& k) {
    const Head& head = k.head;
    out_ = {};
    out_.order = tables_of_.at(k.order_table);
    out_.width = head.width;
    out_.first_table = int32_t(tables_.size());
    out_.first_piece = int32_t(pieces_.size());
    for (const Constant& c : k.constants) {
      constants_[&c] = add(floats_, c.rows.data(), c.count * c.row);
      if (c.count > 1) which_[&c] = add(ints_, c.which.data(), c.which.size());
    }
    switch (head.kind) {
      case HeadKind::kNone: out_.head = flat::HeadKind::kNone; break;
      case HeadKind::kLinear: flatten_linear(k); break;
      case HeadKind::kLookup:
        out_.head = flat::HeadKind::kLookup;
        out_.entries = int32_t(head.entries);
        out_.weight = add(floats_, head.weight.data(), head.weight.size());
        add_piece(read_of(k, head.reads[0].index), 0, 1);
        break;
      case HeadKind::kReduce: flatten_reduce(k); break;
      case HeadKind::kCopy:
        out_.head = flat::HeadKind::kCopy;
        for (size_t i = 0; i < head.reads.size(); i++) {
          const Argument& a = head.reads[i];
          const bool fills = a.from == From::kConstant && a.width == 1;  // a constant of one number goes on to the end
          add_piece(a.from == From::kRead ? read_of(k, a.index) : constant_of(k, a.index, fills), head.starts[i],
                    fills ? head.width : head.starts[i] + a.width);
        }
        break;
      case HeadKind::kAttend: flatten_attend(k); break;
    }
    flatten_body(k);
    out_.row = int32_t(fours(row_));
    if (row_ > kMostFloats) throw Refusal(k.name + " is too wide for the cuda engine: use engine='cpu'.");
    row_ = 0;
    h_.most_row = std::max<int64_t>(h_.most_row, out_.row);
    h_.most_tables = std::max<int64_t>(h_.most_tables, out_.tables);
    kernels_.push_back(out_);
  }

  int32_t reserve(int64_t floats) {
    const int64_t at = row_;
    row_ += fours(floats);
    if (row_ > kMostFloats) throw Refusal("A kernel is too wide for the cuda engine: use engine='cpu'.");
    return int32_t(at);
  }

  void add_piece(const flat::Argument& from, int64_t start, int64_t end) {
    pieces_.push_back({from, int32_t(start), int32_t(end)});
    out_.pieces++;
  }

  // The pieces side by side, and the table of where each number comes from.
  void gather(const Kernel& k) {
    std::vector<int32_t> source;
    bool vectors = true;
    for (const Argument& a : k.head.reads) {
      const flat::Argument from = read_of(k, a.index);
      vectors &= from.start % 4 == 0 && from.channels % 4 == 0 && a.width % 4 == 0;
      add_piece(from, int64_t(source.size()), int64_t(source.size()) + a.width);
      source.resize(source.size() + a.width, out_.pieces - 1);
    }
    source.resize(fours(int64_t(source.size())), -1);
    out_.depth = int32_t(source.size());
    out_.vectors = vectors;
    out_.source = add(ints_, source.data(), source.size());
    out_.gathered = reserve(out_.depth);
  }

  void flatten_linear(const Kernel& k) {
    const Head& head = k.head;
    out_.head = flat::HeadKind::kLinear;
    gather(k);
    out_.columns = int32_t(fours(head.width));
    // As many slices as keep all threads busy with one row; of an odd number of fours, so that those which are read together lie
    // in different banks.
    const int64_t groups = out_.columns / 4, most = std::max<int64_t>(1, out_.depth / flat::kLeastDepth);
    const int64_t slices = std::clamp<int64_t>(flat::kThreads / groups, 1, most);
    int64_t length = (out_.depth / 4 + slices - 1) / slices;
    if (slices > 1 && length % 2 == 0) length++;
    out_.slice = int32_t(4 * std::max<int64_t>(length, 1));
    out_.slices = (out_.depth + out_.slice - 1) / out_.slice;
    out_.partial = reserve(int64_t(out_.slices) * out_.columns);
    out_.weight = int64_t(weights_.size());
    weights_.resize(weights_.size() + size_t(out_.depth) * size_t(out_.columns));
    const Panels panels(head.width, cpu_kernels().panel);
    for (int64_t d = 0; d < head.depth && head.packed >= 0; d++)
      for (int64_t n = 0; n < head.width; n++)
        weights_[out_.weight + d * out_.columns + n] = weight_of(p_, head, panels, d, n);
  }

  void flatten_reduce(const Kernel& k) {
    out_.head = flat::HeadKind::kReduce;
    out_.reduce = int32_t(k.head.reduce);
    out_.eps = k.head.eps;
    gather(k);
    out_.reduced = pieces_.back().end;
    out_.partial = reserve(2 * out_.depth);  // more than there are groups
  }

  void flatten_attend(const Kernel& k) {
    const Attention& a = k.head.attention;
    flat::Attention to = {};
    to.query = read_of(k, k.head.reads[0].index);
    to.key = value_of(a.key), to.value = value_of(a.value);
    to.key_slots = tables_of_.at(a.key.slot_table), to.value_slots = tables_of_.at(a.value.slot_table);
    if (a.first.back() > std::numeric_limits<int32_t>::max())
      throw Refusal(k.name + " attends to more than the cuda engine can count: use engine='cpu'.");
    const std::vector<int32_t> first(a.first.begin(), a.first.end());
    const int64_t entries = add(ints_, first.data(), first.size());
    to.begin = place(entries), to.end = place(entries + 1);  // where the next query's begin
    to.bias = a.bias.empty() ? -1 : add(floats_, a.bias.data(), a.bias.size());
    to.heads = int32_t(a.heads), to.scale = a.scale;
    to.depth = int32_t(a.key.width / a.heads), to.width = int32_t(a.value.width / a.heads);
    to.vectors = to.depth % 4 == 0 && to.width % 4 == 0;
    for (const flat::Argument& from : {to.query, to.key, to.value}) to.vectors &= from.start % 4 == 0 && from.channels % 4 == 0;
    int64_t most = 1;
    for (int32_t q : k.order) most = std::max(most, a.entries(q));
    to.keys = int32_t(std::clamp<int64_t>(flat::kScores / a.heads, 1, most));
    // As many slices as keep all threads busy with one row.
    const int64_t groups = a.heads * fours(to.width) / 4;
    to.slices = int32_t(std::clamp<int64_t>(flat::kThreads / groups, 1, std::min<int64_t>(flat::kMostSlices, to.keys)));
    to.scores = reserve(a.heads * to.keys);
    to.states = reserve(2 * to.slices * a.heads * 2);
    to.sums = reserve(to.slices * groups * 4);
    out_.head = flat::HeadKind::kAttend;
    out_.attention = int32_t(attentions_.size());
    attentions_.push_back(to);
  }

  struct Register {
    int32_t at;
    int64_t phase, width;
  };

  // Steps in phases: a step that takes other lanes of a register than its own waits for all that make it.
  void flatten_body(const Kernel& k) {
    std::vector<std::pair<int64_t, flat::Step>> steps;
    std::vector<Register> registers;
    const auto make = [&](int64_t phase, flat::Step step) {
      step.to = reserve(step.width);
      steps.emplace_back(phase, step);
      registers.push_back({step.to, phase, step.width});
      for (const Store& s : k.stores)
        if (s.reg + 1 == int64_t(registers.size())) steps.emplace_back(phase, store(s, registers.back()));
    };
    if (k.head.kind != HeadKind::kNone) {
      flat::Step head = {flat::kTheHead, k.head.width, 0, 0, {}};
      if (k.head.kind == HeadKind::kLinear) head.args[0] = constant_of(k, k.head.bias);
      make(0, head);
      out_.result = registers[0].at;
    }
    for (const Instruction& i : k.body) {
      flat::Step step = {int32_t(i.op), i.width, 0, 0, {}};
      int64_t phase = 0;
      for (size_t a = 0; a < i.args.size(); a++) {
        const Argument& from = i.args[a];
        const bool one = from.width == 1 && i.width > 1;
        if (from.from == From::kRead) step.args[a] = read_of(k, from.index, one);
        if (from.from == From::kConstant) step.args[a] = constant_of(k, from.index, one);
        if (from.from != From::kSlice) continue;
        const Register& made = registers[from.index];
        const bool own_lanes = from.start == 0 && !one;
        step.args[a] = {made.at + from.start, flat::From::kSlice, one ? 0 : 1, -1, 0, 0, 0};
        phase = std::max(phase, made.phase + (own_lanes ? 0 : 1));
      }
      make(phase, step);
    }
    std::stable_sort(steps.begin(), steps.end(), [](const auto& a, const auto& b) { return a.first < b.first; });
    out_.first_phase = int32_t(phases_.size());
    for (size_t i = 0; i < steps.size(); i++) {
      const auto& [phase, step] = steps[i];
      if (phase == out_.phases) {
        phases_.push_back({int32_t(steps_.size()), 0, 0, 0});
        out_.phases++;
      }
      steps_.push_back(step);
      phases_.back().end = int32_t(steps_.size());
      phases_.back().lanes = std::max(phases_.back().lanes, step.width);
    }
  }

  flat::Step store(const Store& s, const Register& made) {
    const Value& value = p_.values[s.value];
    flat::Step step = {flat::kStore, int32_t(made.width), 0, 0, {}};
    step.args[0] = {made.at, flat::From::kSlice, 1, -1, 0, 0, 0};
    step.args[1] = {offsets_[s.value], flat::From::kRead, 1, place(tables_of_.at(value.slot_table)), int32_t(value.channels),
                    s.start, 0};
    return step;
  }

  void flatten_launches() {
    first_launch_.assign(p_.ticks + 2, 0);
    for (int64_t tick = -1; tick < p_.ticks; tick++) {
      for (int64_t i = p_.first_launch[tick + 1]; i < p_.first_launch[tick + 2]; i++) {
        const Launch& launch = p_.launches[i];
        if (launch.begin < launch.end && kernels_[launch.kernel].phases > 0)
          launches_.push_back({launch.kernel, launch.begin, launch.end, 0});
      }
      first_launch_[tick + 2] = int32_t(launches_.size());
    }
  }

  void flatten_draws() {
    for (int64_t c = 0; c < p_.C; c++) {
      const Read& read = p_.draws[c];
      const int32_t input = p_.inputs[c];
      draws_.push_back({value_of(read), tables_of_.at(read.slot_table), offsets_[input],
                        tables_of_.at(p_.values[input].slot_table)});
    }
    for (const SubPixel& s : p_.draw_order) draw_order_.push_back({s.channel, s.pixel});
    for (int64_t first : p_.first_draw) first_draw_.push_back(int32_t(first));
  }

  template <class T>
  int64_t section(std::vector<unsigned char>& to, const std::vector<T>& from) {
    const size_t at = (to.size() + 15) / 16 * 16;
    to.resize(at + from.size() * sizeof(T));
    if (!from.empty()) std::memcpy(to.data() + at, from.data(), from.size() * sizeof(T));
    return int64_t(at);
  }

  Flat put_together() {
    h_.channels = p_.C, h_.pixels = p_.H * p_.W, h_.levels = p_.levels, h_.ticks = p_.ticks;
    h_.components = p_.components, h_.min_log_scale = p_.min_log_scale, h_.params = p_.params(), h_.bfloat16 = p_.bfloat16;
    h_.likelihood = p_.components  ? flat::Likelihood::kLogisticMixture
                    : p_.bernoulli ? flat::Likelihood::kBernoulli
                                   : flat::Likelihood::kCategorical;
    Flat flat;
    auto& to = flat.bytes;
    h_.kernels = section(to, kernels_), h_.launches = section(to, launches_), h_.steps = section(to, steps_);
    h_.phases = section(to, phases_), h_.pieces = section(to, pieces_), h_.attentions = section(to, attentions_);
    h_.tables = section(to, tables_);
    h_.draws = section(to, draws_), h_.draw_order = section(to, draw_order_);
    h_.first_launch = section(to, first_launch_), h_.first_draw = section(to, first_draw_);
    h_.ints = section(to, ints_), h_.floats = section(to, floats_), h_.weights = section(to, weights_);
    h_.weight_floats = int64_t(weights_.size());
    to.resize((to.size() + 15) / 16 * 16);
    h_.bytes = int64_t(to.size());
    flat.header = h_;
    flat.offsets = offsets_;
    return flat;
  }

  const Program& p_;
  flat::Header h_ = {};
  flat::Kernel out_ = {};  // the kernel at work
  int64_t row_ = 0;        // floats of its scratch memory so far
  std::vector<int64_t> offsets_, tables_;
  std::map<const int32_t*, int64_t> tables_of_;  // where the program's tables lie in the ints
  std::map<const Constant*, int64_t> constants_, which_;
  std::vector<flat::Kernel> kernels_;
  std::vector<flat::Launch> launches_;
  std::vector<flat::Step> steps_;
  std::vector<flat::Phase> phases_;
  std::vector<flat::Piece> pieces_;
  std::vector<flat::Attention> attentions_;
  std::vector<flat::Draw> draws_;
  std::vector<flat::SubPixel> draw_order_;
  std::vector<int32_t> first_launch_, first_draw_, ints_;
  std::vector<float> floats_, weights_;
};

}  // namespace

Flat flatten(const Program& program) { return Flattener(program).flatten(); }

}  // namespace genfast::engine
