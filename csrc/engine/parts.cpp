// The parts of a kernel, over a block of rows: the head, the body, the stores.
#include <algorithm>
#include <cstring>
#include <limits>

#include "engine/member.h"

namespace genfast::engine {
namespace {

// Calls f(q, image, count, row) for the runs of rows [begin, end) that belong to one position q: `count` images from `image` on.
template <class F>
void for_each_run(const Block& block, int64_t begin, int64_t end, const F& f) {
  for (int64_t row = begin; row < end;) {
    const int64_t within = row % block.images, count = std::min(block.images - within, end - row);
    f(block.positions[row / block.images], block.image + within, count, row);
    row += count;
  }
}

void copy_floats(const float* from, float* to, int64_t n) { std::memcpy(to, from, size_t(n) * sizeof(float)); }

}  // namespace

float* Member::at(const Place& place, const Block& block) const { return team_.scratch.get() + place.offset * block.rows(); }

void Member::copy_read(const Read& read, const Block& block, Part part, float* to, int64_t row_stride, bool zeros) const {
  const int64_t channels = p_.values[read.value].channels, width = part.columns(read.width);
  for_each_run(block, part.begin, part.end, [&](int32_t q, int64_t image, int64_t count, int64_t) {
    const int32_t slot = read.slot[q];
    if (slot >= 0) {
      const float* from = team_.cache(read.value, slot, image) + read.start + part.first;
      for (int64_t m = 0; m < count; m++) copy_floats(from + m * channels, to + m * row_stride, width);
    } else if (zeros) {
      for (int64_t m = 0; m < count; m++) std::fill_n(to + m * row_stride, width, 0.0f);
    }
    to += count * row_stride;
  });
}

// ---- Linear: products of taps with packed weights ----

void Member::linear(const Kernel& kernel, const Block& block, Part columns, const Head* next) {
  const Head& head = kernel.head;
  if (head.gathers)
    gather_taps(head, kernel, block);
  else
    find_taps(head, kernel, block);
  count(&Profile::OfKernel::gather, kernel);
  multiply(head, kernel, block, columns, next);
  count(&Profile::OfKernel::gemm, kernel);
}

// Where each row of each tap lies in the caches.
void Member::find_taps(const Head& head, const Kernel& kernel, const Block& block) {
  const float** at = rows_.data();
  for (const Argument& a : head.reads) {
    const Read& read = kernel.reads[a.index];
    const int64_t channels = p_.values[read.value].channels;
    for (int64_t i = 0; i < block.count; i++) {
      const int32_t slot = read.slot[block.positions[i]];
      const float* row = slot < 0 ? p_.zeros.get() : team_.cache(read.value, slot, block.image) + read.start;
      const int64_t step = slot < 0 ? 0 : channels;
      for (int64_t m = 0; m < block.images; m++) *at++ = row + m * step;
    }
  }
}

// Copies the taps of each row side by side. Every member has a copy of its own: waiting for another's would take longer.
void Member::gather_taps(const Head& head, const Kernel& kernel, const Block& block) {
  int64_t k = 0;
  for (const Argument& a : head.reads) {
    copy_read(kernel.reads[a.index], block, {0, block.rows()}, gather_.get() + k, head.gather_row, true);
    k += a.width;
  }
}

void Member::multiply(const Head& head, const Kernel& kernel, const Block& block, Part columns, const Head* next) {
  if (columns.empty()) return;
  const int64_t P = cpu_.panel, n0 = columns.first, n1 = columns.last;
  const auto weights = [&](const Head& h) { return h.packed.get() + columns_of(h, block).first * h.depth; };
  const Constant& bias = kernel.constants[head.bias];
  const auto bias_at = [&](int64_t i) { return bias.rows.data() + bias.which[block.positions[i]] * bias.row; };
  const bool same_bias = block.count == 1 || bias.count == 1;
  const Place& place = kernel.registers[0];
  float* out = at(place, block);
  cpu_.tap_gemm({.a = gather_.get(),
                 .w = weights(head),
                 .taps = head.taps.data(),
                 .num_taps = int64_t(head.taps.size()),
                 .a_k = 1,
                 .w_k = P,
                 .w_panel = P * head.depth,
                 .out = out + n0,
                 .out_row = place.row,
                 .rows = block.rows(),
                 .columns = n1 - n0,
                 .add = same_bias ? Add::kBias : Add::kNothing,
                 .bias = bias_at(0) + n0,
                 .next = next ? weights(*next) : nullptr,
                 .at = head.gathers ? nullptr : rows_.data(),
                 .nothing = head.finite ? p_.zeros.get() : nullptr});
  if (same_bias) return;
  for (int64_t row = 0; row < block.rows(); row++) {
    const float* b = bias_at(row / block.images);
    float* sum = out + row * place.row;
    for (int64_t n = n0; n < n1; n++) sum[n] += b[n];
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
      const float number = read.slot[q] < 0 ? 0.0f : team_.cache(read.value, read.slot[q], image)[read.start + m * channels];
      const int64_t entry = number >= float(head.entries - 1) ? head.entries - 1 : number > 0 ? int64_t(number) : 0;
      copy_floats(head.weight.data() + entry * head.width, out + (row + m) * place.row, head.width);
    }
  });
  count(&Profile::OfKernel::gather, kernel);
}

void Member::reduce(const Kernel& kernel, const Block& block, Part part) {
  if (part.empty()) return;
  const Place &place = kernel.registers[0], &from = kernel.read_places.back();
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

// ---- body and stores ----

PointwiseArg Member::argument(const Kernel& kernel, const Block& block, const Instruction& instruction, const Argument& a,
                             Part part) const {
  const int64_t lane = a.width == 1 && instruction.width > 1 ? 0 : 1, first = lane * part.first;
  if (a.from == From::kConstant && kernel.constants[a.index].count == 1)
    return {kernel.constants[a.index].rows.data() + first, 0, lane};
  const Place& place = a.from == From::kSlice  ? kernel.registers[a.index]
                       : a.from == From::kRead ? kernel.read_places[a.index]
                                               : kernel.constant_places[a.index];
  const int64_t start = a.from == From::kSlice ? a.start : 0;
  return {at(place, block) + part.begin * place.row + start + first, place.row, lane};
}

void Member::body(const Kernel& kernel, const Block& block, Part part) {
  for (int32_t r : kernel.body_reads) {
    const Place& place = kernel.read_places[r];
    copy_read(kernel.reads[r], block, part, at(place, block) + part.begin * place.row + part.first, place.row, true);
  }
  for (int32_t i : kernel.body_constants) {
    const Place& place = kernel.constant_places[i];
    const Constant& c = kernel.constants[i];
    for (int64_t row = part.begin; row < part.end; row++)
      copy_floats(c.rows.data() + c.which[block.positions[row / block.images]] * c.row + part.first,
                  at(place, block) + row * place.row + part.first, part.columns(c.width));
  }
  count(&Profile::OfKernel::gather, kernel);
  int64_t reg = kernel.head.kind == HeadKind::kNone ? 0 : 1;
  for (const Instruction& instruction : kernel.body) {
    PointwiseArg args[3];
    for (size_t i = 0; i < instruction.args.size(); i++)
      args[i] = argument(kernel, block, instruction, instruction.args[i], part);
    const Place& place = kernel.registers[reg++];
    cpu_.pointwise(instruction.op, args, at(place, block) + part.begin * place.row + part.first, place.row, part.rows(),
                   part.columns(instruction.width));
  }
  count(&Profile::OfKernel::body, kernel);
}

void Member::store(const Kernel& kernel, const Block& block, Part part) {
  for (const Store& s : kernel.stores) {
    const Value& value = p_.values[s.value];
    const Place& place = kernel.registers[s.reg];
    const float* from = at(place, block) + part.first;
    const int64_t width = part.columns(value.channels);
    for_each_run(block, part.begin, part.end, [&](int32_t q, int64_t image, int64_t count, int64_t row) {
      if (value.slot[q] < 0) return;
      float* to = team_.cache(s.value, value.slot[q], image) + part.first;
      if (place.row == width)
        copy_floats(from + row * place.row, to, count * value.channels);
      else
        for (int64_t m = 0; m < count; m++) copy_floats(from + (row + m) * place.row, to + m * value.channels, width);
    });
  }
  count(&Profile::OfKernel::store, kernel);
}

}  // namespace genfast::engine
