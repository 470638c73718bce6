// Checks a program and prepares it: values and kernels here, with their slot tables; layout.cpp says where numbers lie, ticks.cpp
// what happens when.
#include <algorithm>
#include <cmath>

#include "engine/build.h"
#include "engine/cpu_kernels.h"

namespace genfast::engine {
namespace {

constexpr int64_t kMost = int64_t(1) << 31;  // of positions, channels, slots, ...: products of two fit 64 bits
constexpr int64_t kWeightBytes = 128 << 10;  // of attention: as many images at a time as fit there
constexpr int64_t kNarrowTap = 16;  // numbers: below, copying taps together is cheaper than a loop for each

class Builder {
 public:
  explicit Builder(Program& program) : p_(program) {}

  void build() {
    check_image();
    check_values();
    for (Kernel& k : p_.kernels) build_kernel(k);
    p_.zeros = Memory<float>(widest_read_ + kRowPadding);
    std::fill_n(p_.zeros.get(), widest_read_ + kRowPadding, 0.0f);
    build_launches(p_);
    pack_weights(p_);
    build_draws();
  }

 private:
  void check_image() const {
    for (int64_t n : {p_.C, p_.H, p_.W})
      require(n >= 1 && n < 1 << 20, "An image of ", p_.C, "x", p_.H, "x", p_.W, " cannot be drawn.");
    require(p_.H * p_.W < kMost / p_.C, "An image of ", p_.C, "x", p_.H, "x", p_.W, " is too large.");
    require(p_.levels >= 1 && p_.levels <= kMaxLevels, "The number of levels must be 1 to ", kMaxLevels, ", not ", p_.levels, ".");
    require(p_.uniforms >= 1 && p_.uniforms < 1 << 20 && (p_.function || p_.uniforms == p_.C),
            "A pixel cannot take ", p_.uniforms, " uniforms.");
    require(!p_.whole || p_.function, "Only a function draws whole pixels.");
    require(!p_.bernoulli || p_.levels == 2, "The bernoulli likelihood has 2 levels, not ", p_.levels, ".");
    require(p_.components >= 0 && p_.components <= kMaxComponents, "A mixture may have at most ", kMaxComponents,
            " components, not ", p_.components, ".");
    require(p_.levels >= 2 || !p_.components, "A logistic mixture has at least 2 levels.");
    require(p_.components == 0 || p_.min_log_scale < HUGE_VAL, "The least log-scale of a logistic mixture is no number.");
    require(p_.ticks >= 0 && p_.ticks < kMost, "A plan cannot have ", p_.ticks, " ticks.");
  }

  void check_value(int64_t v, const char* what) const {
    require(v >= 0 && v < int64_t(p_.values.size()), what, " names value ", v, ", but there are ", p_.values.size(), ".");
  }

  void check_values() {
    double bytes = 0;
    for (size_t v = 0; v < p_.values.size(); v++) {
      const Value& value = p_.values[v];
      require(value.channels >= 1 && value.channels < kMost && value.positions >= 0 && value.positions < kMost &&
                  value.slots >= 0 && value.slots < kMost && int64_t(value.slot.size()) == value.positions,
              "Value ", v, " has impossible sizes.");
      for (int32_t slot : value.slot)
        require(slot >= -1 && slot < value.slots, "Value ", v, " has a position in slot ", slot, " of ", value.slots, ".");
      bytes += 4.0 * double(value.slots) * double(value.channels);
      p_.values[v].slot_table = keep(value.slot);
    }
    require(bytes < 1e13, "The caches of one image would take ", int64_t(bytes / 1e9), " GB.");
    require(int64_t(p_.inputs.size()) == p_.C, "There are ", p_.inputs.size(), " inputs for ", p_.C, " channels.");
    for (int32_t v : p_.inputs) {
      check_value(v, "An input");
      require(p_.values[v].channels == 1 && p_.values[v].positions == p_.H * p_.W, "Input value ", v,
              " is no channel of the image.");
    }
    for (int32_t v : p_.conditions) check_value(v, "A condition");
  }

  const int32_t* keep(std::vector<int32_t> table) { return p_.tables.insert(std::move(table)).first->data(); }

  // positions: which of the reader's are ever used; only these must have a slot.
  void build_read(Read& read, int64_t positions, const std::vector<int32_t>& used, const std::string& reader) {
    check_value(read.value, "A read");
    const Value& value = p_.values[read.value];
    require(read.start >= 0 && read.width >= 1 && read.start <= value.channels - read.width, reader, " reads channels ",
            read.start, " to ", int64_t(read.start) + read.width - 1, " of value ", read.value, ", which has ", value.channels,
            ".");
    require(int64_t(read.at.size()) == positions, reader, " has a read of ", read.at.size(), " positions instead of ", positions,
            ".");
    widest_read_ = std::max<int64_t>(widest_read_, read.width);
    std::vector<int32_t> slot(read.at.size());
    for (size_t q = 0; q < read.at.size(); q++) {
      const int32_t at = read.at[q];
      require(at >= -1 && at < value.positions, reader, " reads position ", at, " of value ", read.value, ", which has ",
              value.positions, ".");
      slot[q] = at < 0 ? -1 : value.slot[at];
    }
    for (int32_t q : used)
      require(read.at[q] < 0 || slot[q] >= 0, reader, " reads position ", read.at[q], " of value ", read.value,
              ", which has no slot.");
    read.at = {};
    read.slot_table = keep(std::move(slot));
  }

  // A read of several positions by each query of an Attend: entry i of its table is one of query which[i].
  void build_list(Read& read, const std::vector<int32_t>& which, const std::vector<char>& used, bool may_lack, const std::string& name) {
    check_value(read.value, "A read");
    const Value& value = p_.values[read.value];
    require(read.start >= 0 && read.width >= 1 && read.start <= value.channels - read.width, name, " attends to channels ",
            read.start, " to ", int64_t(read.start) + read.width - 1, " of value ", read.value, ", which has ", value.channels, ".");
    require(read.at.size() == which.size(), name, " has lists of keys and values that differ in length.");
    std::vector<int32_t> slot(read.at.size());
    for (size_t i = 0; i < slot.size(); i++) {
      const int32_t at = read.at[i];
      require(at >= (may_lack ? -1 : 0) && at < value.positions, name, " attends to position ", at, " of value ", read.value,
              ", which has ", value.positions, ".");
      slot[i] = at < 0 ? -1 : value.slot[at];
      require(at < 0 || slot[i] >= 0 || !used[which[i]], name, " attends to position ", at, " of value ", read.value,
              ", which has no slot.");
    }
    read.at = {};
    read.slot_table = keep(std::move(slot));
  }

  void build_attend(Kernel& k) {
    check_all_reads(k);
    Head& h = k.head;
    Attention& a = h.attention;
    require(h.reads.size() == 1 && a.heads >= 1 && a.heads <= h.width && h.reads[0].width == a.key.width &&
                a.key.width % a.heads == 0 && a.value.width == h.width && h.width % a.heads == 0,
            k.name, " attends with ", a.heads, " heads, ", a.key.width, " numbers in a key and ", a.value.width, " in a value.");
    require(int64_t(a.first.size()) == k.positions + 1 && a.first[0] == 0, k.name, " has no list for each query.");
    std::vector<char> used(k.positions);
    for (int32_t q : k.order) used[q] = 1;
    std::vector<int32_t> which;
    int64_t most = 0;
    for (int64_t q = 0; q < k.positions; q++) {
      require(a.entries(q) >= 0 && a.first[q + 1] <= int64_t(a.key.at.size()), k.name, " has a list of impossible length.");
      which.insert(which.end(), a.entries(q), int32_t(q));
      most = std::max(most, a.entries(q));
    }
    build_list(a.key, which, used, false, k.name);
    build_list(a.value, which, used, true, k.name);
    p_.values[a.key.value].attended = p_.values[a.value.value].attended = true;
    require(a.bias.empty() || a.bias.size() == which.size() * a.heads, k.name, " has ", a.bias.size(), " biases for ",
            which.size(), " pairs.");
    p_.attend = std::max({p_.attend, kWeightBytes / 4, a.heads * attend_row(most)});
  }

  void build_constant(Constant& c, int64_t positions, const std::string& name) const {
    require(c.count >= 0 && c.width >= 1 && c.width < kMost && c.count < kMost && int64_t(c.rows.size()) == c.count * c.width,
            name, " has a constant of impossible size.");
    require(int64_t(c.which.size()) == positions, name, " has a constant for ", c.which.size(), " positions instead of ",
            positions, ".");
    for (int32_t row : c.which)
      require(row >= 0 && row < c.count, name, " uses row ", row, " of a constant that has ", c.count, ".");
    c.row = padded(c.width);
    std::vector<float> rows(c.count * c.row + kRowPadding);
    for (int64_t u = 0; u < c.count; u++) std::copy_n(c.rows.data() + u * c.width, c.width, rows.data() + u * c.row);
    c.rows = std::move(rows);
  }

  void build_kernel(Kernel& k) {
    require(k.positions >= 0 && k.positions < kMost, k.name, " has ", k.positions, " positions.");
    for (int32_t q : k.order) require(q >= 0 && q < k.positions, k.name, " computes position ", q, " of ", k.positions, ".");
    k.order_table = keep(k.order);
    require(k.part.size() == k.order.size(), k.name, " has ", k.order.size(), " positions to compute and parts for ",
            k.part.size(), ".");
    for (Read& read : k.reads) build_read(read, k.positions, k.order, k.name);
    for (Constant& c : k.constants) build_constant(c, k.positions, k.name);
    for (Argument& a : k.head.reads) check_source(k, a);
    if (k.head.kind != HeadKind::kNone) {
      require(k.head.width >= 1, k.name, " has a head that computes nothing.");
      k.widths.push_back(k.head.width);
    }
    if (k.head.kind == HeadKind::kLinear) build_linear(k);
    if (k.head.kind == HeadKind::kLookup) check_lookup(k);
    if (k.head.kind == HeadKind::kReduce) check_reduce(k);
    if (k.head.kind == HeadKind::kCopy) check_copy(k);
    if (k.head.kind == HeadKind::kAttend) build_attend(k);
    for (Instruction& instruction : k.body) check_instruction(k, instruction);
    for (const Store& s : k.stores) {
      check_value(s.value, "A store");
      require(s.reg >= 0 && s.reg < int64_t(k.widths.size()), k.name, " stores register ", s.reg, ", but has ", k.widths.size(),
              ".");
      const Value& value = p_.values[s.value];
      require(s.start >= 0 && k.widths[s.reg] <= value.channels - s.start && k.positions == value.positions, k.name, " stores ",
              k.widths[s.reg], " channels from ", s.start, " on at ", k.positions, " positions into value ", s.value,
              ", which has ", value.channels, " at ", value.positions, ".");
    }
    lay_out(p_, k);
  }

  // A read or a constant: gives the argument its width.
  void check_source(const Kernel& k, Argument& a) const {
    require(a.from != From::kSlice, k.name, " has a head that takes a register.");
    const int64_t count = a.from == From::kRead ? k.reads.size() : k.constants.size();
    require(a.index >= 0 && a.index < count, k.name, " takes an argument that is not there.");
    a.width = int32_t(a.from == From::kRead ? k.reads[a.index].width : k.constants[a.index].width);
  }

  void check_all_reads(const Kernel& k) const {
    for (const Argument& a : k.head.reads)
      require(a.from == From::kRead, k.name, " has a head that takes a constant where it must read.");
  }

  void build_linear(Kernel& k) {
    check_all_reads(k);
    Head& h = k.head;
    for (const Argument& a : h.reads) {
      h.taps.push_back({0, h.depth, a.width, 0});
      h.depth += a.width;
      h.gathers |= a.width < kNarrowTap;
    }
    require(h.depth < kMost && int64_t(h.weight.size()) == h.depth * h.width, k.name, " has ", h.weight.size(),
            " weights instead of ", h.depth, " x ", h.width, ".");
    require(h.bias >= 0 && h.bias < int64_t(k.constants.size()) && k.constants[h.bias].width == h.width, k.name,
            " has no bias of ", h.width, " numbers.");
    // Minus zero would show whether a tap that is not there was skipped or multiplied by zeros: sum + bias where both are zeros.
    for (float& b : k.constants[h.bias].rows) b += 0.0f;
    h.finite = std::all_of(h.weight.begin(), h.weight.end(), [](float w) { return std::isfinite(w); });
    h.gathers |= p_.bfloat16;
    h.packed_depth = p_.bfloat16 ? (h.depth + 1) / 2 : h.depth;
    h.gather_row = padded(h.packed_depth) + kRowPadding;  // never a power of two: rows would share cache sets
    if (h.gathers) h.taps = {{0, 0, h.packed_depth, h.gather_row}};
  }

  void check_lookup(const Kernel& k) const {
    check_all_reads(k);
    const Head& h = k.head;
    require(h.reads.size() == 1 && h.reads[0].width == 1, k.name, " must look up one number.");
    require(h.entries >= 1 && h.entries < 1 << 24 && int64_t(h.weight.size()) == h.entries * h.width, k.name,
            " has a table of impossible size.");
  }

  void check_reduce(const Kernel& k) const {
    check_all_reads(k);
    const Head& h = k.head;
    int64_t width = 0;
    for (const Argument& a : h.reads) width += a.width;
    const bool one = h.reduce == ReduceKind::sum || h.reduce == ReduceKind::max || h.reduce == ReduceKind::min;
    require(width >= 1 && h.width == (one ? 1 : width), k.name, " reduces ", width, " numbers to ", h.width, ".");
  }

  void check_copy(const Kernel& k) const {
    const Head& h = k.head;
    require(h.starts.size() == h.reads.size(), k.name, " has ", h.reads.size(), " pieces and ", h.starts.size(),
            " places for them.");
    for (size_t i = 0; i < h.reads.size(); i++)
      require(h.starts[i] >= 0 && h.starts[i] <= int64_t(h.width) - h.reads[i].width, k.name,
              " puts a piece outside of its result.");
  }

  void check_instruction(Kernel& k, Instruction& instruction) const {
    static constexpr int kArity[] = {
#define GENFAST_ARITY_OF_OP(NAME, ARGS) ARGS,
        GENFAST_POINTWISE_OPS(GENFAST_ARITY_OF_OP)
#undef GENFAST_ARITY_OF_OP
    };
    require(instruction.width >= 1 && instruction.width < 1 << 24, k.name, " has an instruction of width ", instruction.width,
            ".");
    require(int64_t(instruction.args.size()) == kArity[int(instruction.op)], k.name, " has an operation with ",
            instruction.args.size(), " arguments instead of ", kArity[int(instruction.op)], ".");
    for (Argument& a : instruction.args) {
      if (a.from == From::kSlice) {
        require(a.index >= 0 && a.index < int64_t(k.widths.size()), k.name, " uses register ", a.index, " before it is made.");
        require(a.start >= 0 && a.width >= 1 && a.start <= k.widths[a.index] - a.width, k.name,
                " takes a slice outside of register ", a.index, ".");
      } else {
        check_source(k, a);
      }
      require(a.width == 1 || a.width == instruction.width, k.name, " has an argument of width ", a.width,
              " for an instruction of width ", instruction.width, ".");
      if (a.from == From::kRead) k.body_reads.push_back(a.index);
      if (a.from == From::kConstant && k.constants[a.index].count > 1) k.body_constants.push_back(a.index);
    }
    k.widths.push_back(instruction.width);
  }

  void build_draws() {
    const int64_t pixels = p_.H * p_.W;
    require(int64_t(p_.draws.size()) == p_.C && int64_t(p_.draw_tick.size()) == p_.C * pixels, "The draws do not fit the image.");
    std::vector<int32_t> all(pixels);
    for (int64_t i = 0; i < pixels; i++) all[i] = int32_t(i);
    for (Read& read : p_.draws) {
      require(read.width == p_.params(), "A draw needs ", p_.params(), " parameters, not ", read.width, ".");
      build_read(read, pixels, all, "A draw");
      for (int32_t q : all) require(read.slot_table[q] >= 0, "A draw has no parameters.");
    }
    build_draw_order(p_);
  }

  Program& p_;
  int64_t widest_read_ = 0;
};

}  // namespace

void build(Program& program) { Builder(program).build(); }

}  // namespace genfast::engine
