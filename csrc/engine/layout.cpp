// Where a program keeps its numbers: scratch memory and tables of rows for each kernel, and the packed weights.
#include <algorithm>

#include "engine/build.h"
#include "engine/cpu_kernels.h"

namespace genfast::engine {
namespace {

constexpr int64_t kBlockBytes = 192 << 10;   // what a block of rows should take of an L2 cache, weights aside
constexpr int64_t kFewBytes = 256 << 10;     // of weights: they stay in an L2 cache, with what else a tick needs
constexpr int64_t kFewRows = 24;

// Whether members can go on with the columns that they have computed, without waiting for one another's.
bool by_columns(const Kernel& k) {
  if (k.head.kind != HeadKind::kLinear) return false;
  for (const Instruction& instruction : k.body) {
    if (instruction.width > k.head.width) return false;
    for (const Argument& a : instruction.args)
      if (a.start != 0 || (a.width != instruction.width && a.from == From::kSlice)) return false;
  }
  return true;
}

// Calls f(n0, columns) for each panel.
template <class F>
void for_each_panel(const Head& h, const F& f) {
  const Panels panels(h.width, cpu_kernels().panel);
  for (int64_t n = 0; n < panels.end; n += panels.columns_at(n)) f(n, panels.columns_at(n));
}

void pack(const Head& h, float* to) {
  for_each_panel(h, [&](int64_t n0, int64_t columns) {
    for (int64_t d = 0; d < h.depth; d++)
      for (int64_t n = n0; n < n0 + columns; n++) *to++ = n < h.width ? h.weight[d * h.width + n] : 0.0f;
  });
}

// Rows 2 d and 2 d + 1 as one of pairs; a last row without a partner has zeros for it.
void pack_pairs(const Head& h, BFloat16Pair* to) {
  std::vector<BFloat16> narrow(h.weight.size());
  cpu_kernels().narrow(h.weight.data(), narrow.data(), int64_t(narrow.size()));
  const auto at = [&](int64_t d, int64_t n) {
    return d < h.depth && n < h.width ? uint32_t(narrow[d * h.width + n].bits) : 0u;
  };
  for_each_panel(h, [&](int64_t n0, int64_t columns) {
    for (int64_t d = 0; d < h.packed_depth; d++)
      for (int64_t n = n0; n < n0 + columns; n++) *to++ = BFloat16Pair(at(2 * d, n) | at(2 * d + 1, n) << 16);
  });
}

}  // namespace

// Scratch for a block of rows, each part on cache lines of its own; and tables of rows, after those of a Linear's taps.
void lay_out(Program& p, Kernel& k) {
  int64_t offset = 0;
  const auto place = [&](int64_t width) {
    const Place at = {offset, padded(width)};
    offset += at.row;
    return at;
  };
  const auto once = [](std::vector<int32_t>& list) {
    std::sort(list.begin(), list.end());
    list.erase(std::unique(list.begin(), list.end()), list.end());
  };
  for (int64_t width : k.widths) k.registers.push_back(place(width));
  if (k.head.kind == HeadKind::kReduce) {
    int64_t width = 0;
    for (const Argument& a : k.head.reads) width += a.width;
    k.reduced = place(width);
  }
  k.by_columns = by_columns(k);
  int32_t tables = int32_t(k.head.reads.size());
  k.read_table.assign(k.reads.size(), -1);
  once(k.body_reads);
  for (int32_t r : k.body_reads) k.read_table[r] = tables++;
  k.constant_table.assign(k.constants.size(), -1);
  once(k.body_constants);
  for (int32_t c : k.body_constants) k.constant_table[c] = tables++;
  k.register_table.assign(k.widths.size(), -1);
  for (size_t s = 0; s < k.stores.size(); s++) {
    const int32_t reg = k.stores[s].reg;
    const bool scattered = reg > 0 || k.head.kind == HeadKind::kNone || k.head.kind == HeadKind::kLinear;
    const bool direct = scattered && k.register_table[reg] < 0;
    if (direct) k.register_table[reg] = tables++;
    (direct ? k.direct : k.copied).push_back(int32_t(s));
  }
  const int64_t row = offset + k.head.depth;
  k.block_rows = std::clamp<int64_t>(kBlockBytes / 4 / std::max<int64_t>(row, 1), kFewRows, kMostBlockRows);
  k.scratch = offset * k.block_rows;
  p.scratch = std::max(p.scratch, k.scratch);
  p.gather = std::max(p.gather, k.head.gather_row * k.block_rows);
  p.most_rows = std::max<int64_t>(p.most_rows, k.block_rows * tables);
}

// Weights lie in the order in which launches walk through them, for the sake of those who fetch ahead.
void pack_weights(Program& p) {
  std::vector<Head*> heads;
  int64_t size = 0;
  for (const Launch& launch : p.launches) {
    Head& h = p.kernels[launch.kernel].head;
    if (h.kind != HeadKind::kLinear || h.packed >= 0) continue;
    heads.push_back(&h);
    h.packed = size;
    size += Panels(h.width, cpu_kernels().panel).end * h.packed_depth;
  }
  if (p.bfloat16)
    p.weight_pairs = Memory<BFloat16Pair>(size);
  else
    p.weights = Memory<float>(size);
  p.streams = 4 * size > kFewBytes;
  for (Head* h : heads) {
    if (p.bfloat16)
      pack_pairs(*h, p.weight_pairs.get() + h->packed);
    else
      pack(*h, p.weights.get() + h->packed);
  }
  for (Kernel& k : p.kernels)
    if (k.head.kind == HeadKind::kLinear) k.head.weight = {};
  p.next_product.assign(p.launches.size() + 1, int64_t(p.launches.size()));
  for (int64_t i = int64_t(p.launches.size()) - 1; i >= 0; i--)
    p.next_product[i] = p.kernels[p.launches[i].kernel].head.kind == HeadKind::kLinear ? i : p.next_product[i + 1];
}

}  // namespace genfast::engine
