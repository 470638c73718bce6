// The parts of a kernel, over a block of rows: the head, the body, the stores.
#include <algorithm>
#include <cstring>
#include <limits>
#include <type_traits>

#include "engine/member.h"

namespace genfast::engine {
namespace {

// Calls f(q, image, count, row) for the runs of rows [begin, end) that belong to one position q: `count` images from `image` on.
template <class F>
void for_each_run(const Block& block, int64_t begin, int64_t end, const F& f) {
  int64_t i = begin / block.images, within = begin % block.images;
  for (int64_t row = begin; row < end; i++, within = 0) {
    const int64_t count = std::min(block.images - within, end - row);
    f(block.positions[i], block.image + within, count, row);
    row += count;
  }
}

// How far ahead of their use weights are fetched: past the products that are too small to fetch what a larger one after them needs.
constexpr int64_t kAheadBytes = 96 << 10;

void copy_floats(const float* from, float* to, int64_t n) { std::memcpy(to, from, size_t(n) * sizeof(float)); }

template <class E>
const E* weights_of(const Program& p) {
  if constexpr (std::is_same_v<E, BFloat16Pair>)
    return p.weight_pairs.get();
  else
    return p.weights.get();
}

// Where in the program's weights those of column n begin: a panel, or a vector further on in it.
int64_t weights_at(const Head& head, const Panels& panels, int64_t n) {
  const int64_t begin = panels.begin_at(n);
  return head.packed + begin * head.packed_depth + n - begin;
}

}  // namespace

float* Member::at(const Place& place, const Block& block) const {
  return team_.scratch.get() + (cuts_ ? index_ * team_.scratch_of_one : 0) + place.offset * block.rows();
}

template <class E>
void Member::copy_read(const Read& read, const Block& block, Part part, E* to, int64_t row_stride, bool zeros) const {
  const int64_t channels = p_.values[read.value].channels, width = read.width;
  for_each_run(block, part.begin, part.end, [&](int32_t q, int64_t image, int64_t count, int64_t) {
    const int32_t slot = read.slot_table[q];
    if (slot >= 0) {
      const float* from = team_.cache(read.value, slot, image) + read.start;
      for (int64_t m = 0; m < count; m++) copy_numbers(from + m * channels, to + m * row_stride, width);
    } else if (zeros) {
      for (int64_t m = 0; m < count; m++) std::fill_n(to + m * row_stride, width, E{});
    }
    to += count * row_stride;
  });
}

void Member::find_rows(int32_t value, const int32_t* slot, int64_t start, const Block& block, float* missing,
                       int64_t missing_row, float** table) const {
  const int64_t channels = p_.values[value].channels, slot_size = team_.slot_floats[value];
  float* const first = team_.cache(value, 0, block.image) + start;
  for (int64_t i = 0; i < block.count; i++) {
    const int64_t s = slot[block.positions[i]], step = s < 0 ? missing_row : channels;
    float* at = s < 0 ? missing + i * block.images * missing_row : first + s * slot_size;
    for (int64_t m = 0; m < block.images; m++, at += step) *table++ = at;
  }
}

// ---- Linear: products of taps with packed weights ----

void Member::linear(const Kernel& kernel, const Block& block, Part columns, bool last) {
  const Head& head = kernel.head;
  if (head.gathers)
    gather_taps(head, kernel, block);
  else
    find_taps(kernel, block);
  count(&Profile::OfKernel::gather, kernel);
  if (p_.bfloat16)
    multiply<BFloat16Pair>(head, kernel, block, columns, last);
  else
    multiply<float>(head, kernel, block, columns, last);
  count(&Profile::OfKernel::gemm, kernel);
}

void Member::find_taps(const Kernel& kernel, const Block& block) {
  int32_t t = 0;
  for (const Argument& a : kernel.head.reads) {
    const Read& read = kernel.reads[a.index];
    find_rows(read.value, read.slot_table, read.start, block, p_.zeros.get(), 0, table(t++, block));
  }
}

// Copies the taps of each row side by side. Every member has a copy of its own: waiting for another's would take longer.
void Member::gather_taps(const Head& head, const Kernel& kernel, const Block& block) {
  const auto gather = [&](auto* to, int64_t row_stride) {
    for (const Argument& a : head.reads) {
      copy_read(kernel.reads[a.index], block, {0, block.rows()}, to, row_stride, true);
      to += a.width;
    }
  };
  if (!p_.bfloat16) return gather(gather_.get(), head.gather_row);
  BFloat16* const numbers = reinterpret_cast<BFloat16*>(gather_pairs_.get());
  gather(numbers, 2 * head.gather_row);
  if (head.depth % 2)  // the last number's partner
    for (int64_t m = 0; m < block.rows(); m++) numbers[m * 2 * head.gather_row + head.depth] = {};
}

// E: what is multiplied, float or BFloat16Pair.
template <class E>
void Member::multiply(const Head& head, const Kernel& kernel, const Block& block, Part columns, bool last) {
  if (columns.empty()) return;
  const Panels panels(head.width, cpu_.panel);
  const E* const weights = weights_of<E>(p_);
  const Constant& bias = kernel.constants[head.bias];
  const auto bias_at = [&](int64_t i) {  // the same for all positions, as nearly always, it needs no look at a table
    return bias.rows.data() + (bias.count == 1 ? 0 : bias.which[block.positions[i]] * bias.row);
  };
  const bool same_bias = block.count == 1 || bias.count == 1;
  const Place& place = kernel.registers[0];
  const int32_t scattered = kernel.register_table[0];
  float* const* to = scattered < 0 ? nullptr : table(scattered, block);
  float* out = at(place, block);
  const auto product = [&](int64_t n0, int64_t n1) {
    const int64_t at = weights_at(head, panels, n0), next = last && p_.streams ? weights_ahead<E>(columns, n0) : -1;
    TapGemm<E, float> gemm = {.a = nullptr,
                              .w = weights + at,
                              .taps = head.taps.data(),
                              .num_taps = int64_t(head.taps.size()),
                              .a_k = 1,
                              .w_k = panels.columns_at(n0),
                              .w_panel = panels.columns_at(n0) * head.packed_depth,
                              .out = out + n0,
                              .out_row = place.row,
                              .rows = block.rows(),
                              .columns = n1 - n0,
                              .add = same_bias ? Add::kBias : Add::kNothing,
                              .bias = bias_at(0) + n0,
                              .next = next < 0 ? nullptr : weights + next,
                              .to = to,
                              .to_column = n0,
                              .fetch_rows = n0 == columns.first,
                              .wide = panels.columns_at(n0) > panels.panel};
    if constexpr (std::is_same_v<E, BFloat16Pair>) {
      gemm.a = gather_pairs_.get();
      return cpu_.tap_gemm_of_pairs(gemm);
    } else {
      gemm.a = gather_.get();
      if (!head.gathers) gemm.at = rows_.data();
      if (head.finite) gemm.nothing = p_.zeros.get();
      return cpu_.tap_gemm(gemm);
    }
  };
  // Whole panels of one width in one go; a member's columns may begin or end within a panel.
  for (int64_t n = columns.first, end; n < columns.last; n = end) {
    const int64_t begin = panels.begin_at(n);
    end = std::min(columns.last, n > begin ? begin + panels.columns_at(n) : n < panels.wide ? panels.wide : panels.end);
    product(n, end);
  }
  if (same_bias) return;
  for (int64_t row = 0; row < block.rows(); row++) {
    const float* b = bias_at(row / block.images);
    float* sum = to ? to[row] : out + row * place.row;
    for (int64_t n = columns.first; n < columns.last; n++) sum[n] += b[n];
  }
}

// Where in the weights is what this member will read kAheadBytes after column n of its columns in the launch at work, or -1.
template <class E>
int64_t Member::weights_ahead(Part columns, int64_t n) const {
  const Head* head = &p_.kernels[p_.launches[launch_].kernel].head;
  int64_t ahead = kAheadBytes / int64_t(sizeof(E)) + (n - columns.first) * head->packed_depth;
  for (int64_t i = launch_;;) {
    const int64_t size = columns.columns(head->width) * head->packed_depth;
    if (ahead < size) return weights_at(*head, Panels(head->width, cpu_.panel), columns.first) + ahead;
    ahead -= size;
    i = p_.next_product[i + 1];
    if (i >= int64_t(p_.launches.size())) return -1;
    head = &p_.kernels[p_.launches[i].kernel].head;
    columns = columns_of(*head, 0);
  }
}

// ---- the other heads ----

void Member::lookup(const Kernel& kernel, const Block& block, Part part) {
  const Head& head = kernel.head;
  const Read& read = kernel.reads[head.reads[0].index];
  const Place& place = kernel.registers[0];
  float* out = at(place, block);
  const int64_t channels = p_.values[read.value].channels;
  for_each_run(block, part.begin, part.end, [&](int32_t q, int64_t image, int64_t count, int64_t row) {
    for (int64_t m = 0; m < count; m++) {
      const float number = read.slot_table[q] < 0 ? 0.0f : team_.cache(read.value, read.slot_table[q], image)[read.start + m * channels];
      const int64_t entry = number >= float(head.entries - 1) ? head.entries - 1 : number > 0 ? int64_t(number) : 0;
      copy_floats(head.weight.data() + entry * head.width, out + (row + m) * place.row, head.width);
    }
  });
  count(&Profile::OfKernel::gather, kernel);
}

void Member::reduce(const Kernel& kernel, const Block& block, Part part) {
  if (part.empty()) return;
  const Place &place = kernel.registers[0], &from = kernel.reduced;
  float* x = at(from, block) + part.begin * from.row;
  int64_t width = 0;
  for (const Argument& a : kernel.head.reads) {
    copy_read(kernel.reads[a.index], block, part, x + width, from.row, true);
    width += a.width;
  }
  count(&Profile::OfKernel::gather, kernel);
  cpu_.reduce(kernel.head.reduce, x, from.row, at(place, block) + part.begin * place.row, place.row, part.rows(), width,
              kernel.head.eps);
  count(&Profile::OfKernel::body, kernel);
}

// Pieces in their order, a later one over an earlier; a constant of one number goes on to the end. What no piece covers is NaN.
void Member::copy(const Kernel& kernel, const Block& block, Part part) {
  const Head& head = kernel.head;
  const Place& place = kernel.registers[0];
  float* out = at(place, block) + part.begin * place.row;
  std::fill_n(out, part.rows() * place.row, std::numeric_limits<float>::quiet_NaN());
  for (size_t i = 0; i < head.reads.size(); i++) {
    const Argument& a = head.reads[i];
    const int32_t start = head.starts[i];
    if (a.from == From::kRead) {
      copy_read(kernel.reads[a.index], block, part, out + start, place.row, false);
      continue;
    }
    const Constant& c = kernel.constants[a.index];
    for (int64_t row = part.begin; row < part.end; row++) {
      const float* from = c.rows.data() + c.which[block.positions[row / block.images]] * c.row;
      float* to = out + (row - part.begin) * place.row + start;
      if (c.width == 1)
        std::fill_n(to, head.width - start, *from);
      else
        copy_floats(from, to, c.width);
    }
  }
  count(&Profile::OfKernel::gather, kernel);
}

void Member::attend(const Kernel& kernel, const Block& block, Part part) {
  const Head& head = kernel.head;
  const Attention& a = head.attention;
  const Read& query = kernel.reads[head.reads[0].index];
  const Place& place = kernel.registers[0];
  const auto cache = [&](const Read& read, int64_t image, int64_t first) {
    const int64_t channels = p_.values[read.value].channels;
    return AttendCache{team_.cache(read.value, 0, image) + read.start, team_.slot_floats[read.value], channels,
                       read.slot_table + first};
  };
  for_each_run(block, part.begin, part.end, [&](int32_t q, int64_t image, int64_t count, int64_t row) {
    const int32_t slot = query.slot_table[q];
    const int64_t first = a.first[q];
    cpu_.attend({.query = slot < 0 ? p_.zeros.get() : team_.cache(query.value, slot, image) + query.start,
                 .query_row = slot < 0 ? 0 : p_.values[query.value].channels,
                 .keys = cache(a.key, image, first),
                 .values = cache(a.value, image, first),
                 .bias = a.bias.empty() ? nullptr : a.bias.data() + first * a.heads,
                 .count = a.entries(q),
                 .images = count,
                 .heads = a.heads,
                 .depth = a.key.width / a.heads,
                 .width = head.width / a.heads,
                 .scale = a.scale,
                 .scratch = attend_.get(),
                 .scratch_floats = p_.attend,
                 .out = at(place, block) + row * place.row,
                 .out_row = place.row});
  });
  count(&Profile::OfKernel::gemm, kernel);
}

// ---- body and stores ----

// Where what the body reads lies, and where what is stored goes. A position without a slot has its rows in the scratch memory.
void Member::find_places(const Kernel& kernel, const Block& block) {
  for (int32_t r : kernel.body_reads) {
    const Read& read = kernel.reads[r];
    find_rows(read.value, read.slot_table, read.start, block, p_.zeros.get(), 0, table(kernel.read_table[r], block));
  }
  for (int32_t i : kernel.body_constants) {
    const Constant& c = kernel.constants[i];
    float** rows = table(kernel.constant_table[i], block);
    for_each_run(block, 0, block.rows(), [&](int32_t q, int64_t, int64_t count, int64_t row) {
      std::fill_n(rows + row, count, const_cast<float*>(c.rows.data()) + c.which[q] * c.row);
    });
  }
  for (int32_t s : kernel.direct) {
    const auto [reg, value, start] = kernel.stores[s];
    const Place& place = kernel.registers[reg];
    find_rows(value, p_.values[value].slot_table, start, block, at(place, block), place.row,
              table(kernel.register_table[reg], block));
  }
  count(&Profile::OfKernel::gather, kernel);
}

PointwiseArg Member::argument(const Kernel& kernel, const Block& block, const Instruction& instruction, const Argument& a,
                             Part part) const {
  const int64_t lane = a.width == 1 && instruction.width > 1 ? 0 : 1, start = a.from == From::kSlice ? a.start : 0;
  if (a.from == From::kConstant && kernel.constants[a.index].count == 1)
    return {kernel.constants[a.index].rows.data(), 0, lane};
  const int32_t scattered = a.from == From::kSlice  ? kernel.register_table[a.index]
                            : a.from == From::kRead ? kernel.read_table[a.index]
                                                    : kernel.constant_table[a.index];
  if (scattered >= 0) return {nullptr, 0, lane, table(scattered, block) + part.begin, start};
  const Place& place = kernel.registers[a.index];
  return {at(place, block) + part.begin * place.row + start, place.row, lane};
}

void Member::body(const Kernel& kernel, const Block& block, Part part) {
  int64_t reg = kernel.head.kind == HeadKind::kNone ? 0 : 1;
  for (const Instruction& instruction : kernel.body) {
    PointwiseArg args[3];
    for (size_t i = 0; i < instruction.args.size(); i++)
      args[i] = argument(kernel, block, instruction, instruction.args[i], part);
    const int32_t scattered = kernel.register_table[reg];
    const Place& place = kernel.registers[reg++];
    const PointwiseOut out = {at(place, block) + part.begin * place.row, place.row,
                              scattered < 0 ? nullptr : table(scattered, block) + part.begin};
    if (const int64_t columns = part.columns(instruction.width); columns > 0)
      cpu_.pointwise(instruction.op, args, out, part.rows(), part.first, part.first + columns);
  }
  count(&Profile::OfKernel::body, kernel);
}

// What is stored a second time, or made where rows lie a constant length apart.
void Member::store(const Kernel& kernel, const Block& block, Part part) {
  for (int32_t i : kernel.copied) {
    const Store& s = kernel.stores[i];
    const Value& value = p_.values[s.value];
    const Place& place = kernel.registers[s.reg];
    const int32_t scattered = kernel.register_table[s.reg];
    const int64_t width = part.columns(kernel.widths[s.reg]);
    for_each_run(block, part.begin, part.end, [&](int32_t q, int64_t image, int64_t count, int64_t row) {
      if (value.slot_table[q] < 0) return;
      float* to = team_.cache(s.value, value.slot_table[q], image) + s.start + part.first;
      for (int64_t m = row; m < row + count; m++, to += value.channels)
        copy_floats((scattered < 0 ? at(place, block) + m * place.row : table(scattered, block)[m]) + part.first, to, width);
    });
  }
  count(&Profile::OfKernel::store, kernel);
}

}  // namespace genfast::engine
