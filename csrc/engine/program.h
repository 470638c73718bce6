// A Plan (genfast/compiler/plan.py) as the engine holds it. specification.cpp fills in what the plan says, build() checks it and
// adds what is derived from it (marked "built"); from then on it never changes, and any number of runs share it.
#pragma once

#include <cstdint>
#include <set>
#include <stdexcept>
#include <string>
#include <vector>

#include "engine/memory.h"
#include "attend/cpu.h"
#include "pointwise/cpu.h"
#include "reduce/cpu.h"
#include "tap_gemm/cpu.h"

namespace genfast::engine {

// What is wrong with a plan, a request or a network's output, in one sentence. Python sees a ValueError.
struct Refusal : std::invalid_argument {
  using std::invalid_argument::invalid_argument;
};

// A feature map. Its cache is [slots, images of the team, channels].
struct Value {
  int64_t channels = 0, positions = 0, slots = 0;
  bool attended = false;  // built: attention goes through many slots at a time
  std::vector<int32_t> slot;             // [positions], -1: never needed
  const int32_t* slot_table = nullptr;  // built: the same, in Program::tables
};

struct Read {
  int32_t value = 0, start = 0, width = 0;
  std::vector<int32_t> at;              // [Q], -1: nothing is there
  const int32_t* slot_table = nullptr;  // built: [Q], slot of position at[q], or -1
};

struct Constant {
  int64_t count = 0, width = 0;
  std::vector<float> rows;     // [count, width]; built: [count, row]
  std::vector<int32_t> which;  // [Q]
  int64_t row = 0;             // built: width, padded
};

enum class From : int { kSlice, kRead, kConstant };

struct Argument {
  From from = From::kSlice;
  int32_t index = 0;             // of the register, or into Kernel::reads or constants
  int32_t start = 0, width = 0;  // a slice's; built for the others
};

struct Instruction {
  PointwiseOp op = PointwiseOp::neg;
  std::vector<Argument> args;
  int32_t width = 0;
};

// Register `reg` goes to the value's channels from `start` on.
struct Store {
  int32_t reg = 0, value = 0, start = 0;
};

// How the columns of packed weights are divided: into panels of kernels.panel columns, which is two vectors; where an odd number
// of vectors is left over, the last panel has three of them, or one if there is only one. No vector more than needed is read.
struct Panels {
  int64_t panel, wide, end;  // columns of a whole panel; where the last, of another width, begins; where it ends
  Panels(int64_t width, int64_t panel_columns) : panel(panel_columns) {
    const int64_t vector = panel / 2, vectors = (width + vector - 1) / vector;
    end = vectors * vector;
    wide = vectors % 2 == 0 ? end : vectors == 1 ? 0 : end - 3 * vector;
  }
  int64_t columns_at(int64_t n) const { return n < wide ? panel : end - wide; }      // of the panel that column n is in
  int64_t begin_at(int64_t n) const { return n < wide ? n / panel * panel : wide; }  // its first column
};

// What the queries of an Attend see: query q the entries [first[q], first[q + 1]) of two lists of positions.
struct Attention {
  Read key, value;              // their tables are the lists; of values -1 where a key counts and adds nothing
  std::vector<int64_t> first;  // [Q + 1]
  std::vector<float> bias;     // for each query [heads][entries], or empty
  int64_t heads = 1;
  float scale = 1;
  int64_t entries(int64_t q) const { return first[q + 1] - first[q]; }
};

enum class HeadKind : int { kNone, kLinear, kLookup, kReduce, kCopy, kAttend };

struct Head {
  HeadKind kind = HeadKind::kNone;
  int32_t width = 0;            // of its result, register 0
  std::vector<Argument> reads;  // kRead or kConstant. Linear: one a tap. Lookup: the index. Reduce, Copy: in their order. Attend: the query
  std::vector<int32_t> starts;  // Copy: where each piece goes
  std::vector<float> weight;    // Linear: [sum of the widths, width] (built: emptied); Lookup: [entries, width]
  int64_t entries = 0;          // Lookup
  int32_t bias = 0;             // Linear: into Kernel::constants
  ReduceKind reduce = ReduceKind::sum;
  float eps = 0;
  Attention attention;  // Attend
  // built, for a Linear
  int64_t packed = -1;   // where in Program::weights: [panel][depth][columns of a panel], zeros past the last column; see Panels
  int64_t depth = 0;     // sum of the widths
  int64_t packed_depth = 0;  // rows of a panel: depth, or in bfloat16 pairs of them
  int64_t gather_row = 0;  // from row to row of taps copied together
  bool gathers = false;    // copy taps together, because they are too narrow to be worth a loop each, or to be rounded
  bool finite = true;      // all weights: what is multiplied by zeros may be left out
  std::vector<Tap> taps;   // one for each read, or one for all that are copied together
};

constexpr int64_t kMostBlockRows = 96;  // rows of a launch that are worked on at a time, at most

// Where a block of rows keeps something in the scratch memory: from `offset * rows of the block` on, rows `row` apart.
struct Place {
  int64_t offset = 0, row = 0;
};

struct Kernel {
  std::string name;
  int64_t positions = 0;  // Q
  std::vector<int32_t> order;
  std::vector<int32_t> part;             // of its tick, that each entry of `order` belongs to; a launch has them in order
  const int32_t* order_table = nullptr;  // built: the order, in Program::tables
  bool early = false;                    // cells of every part may read what this makes in the same tick
  std::vector<Read> reads;
  std::vector<Constant> constants;
  Head head;
  std::vector<Instruction> body;
  std::vector<Store> stores;
  // built
  std::vector<int64_t> widths;  // of the registers
  std::vector<Place> registers;
  Place reduced;                                    // of a Reduce's numbers, copied together
  std::vector<int32_t> body_reads, body_constants;  // what the body reads, constants only where they differ between positions
  std::vector<int32_t> direct, copied;              // stores whose register is made in the cache itself, and the others
  std::vector<int32_t> read_table, constant_table, register_table;  // which table of rows says where each lies, or -1
  bool by_columns = false;                          // of a Linear: column i of everything after it comes from column i alone
  int64_t block_rows = 0;                           // rows worked on at a time
  int64_t scratch = 0;                              // floats that a block needs
};

struct Launch {
  int32_t tick = 0, kernel = 0, begin = 0, end = 0;
};

struct SubPixel {
  int32_t channel = 0, pixel = 0;
};

struct Program {
  int64_t C = 0, H = 0, W = 0, levels = 0, ticks = 0;
  bool bernoulli = false;
  bool function = false;  // the likelihood is somebody's function, which the request brings
  bool whole = false;     // of a function: it draws the colours of a pixel together
  int64_t uniforms = 0;   // that a pixel takes: C, or as many as the function wants
  int64_t components = 0;     // of a logistic mixture, which has 3 C numbers for each; 0: the likelihood is no such mixture
  double min_log_scale = 0;
  bool bfloat16 = false;  // factors of products are rounded to it; sums, and all else, are float
  std::vector<Value> values;
  std::vector<int32_t> inputs, conditions;
  std::vector<Kernel> kernels;
  std::vector<Launch> launches;
  std::vector<Read> draws;         // [C]
  std::vector<int32_t> draw_tick;  // [C, H * W]
  // built
  std::set<std::vector<int32_t>> tables;  // each once: layers have equal ones, whose copies would fill the caches
  std::vector<int64_t> first_launch;  // [ticks + 2]: launches of tick t are first_launch[t + 1] .. first_launch[t + 2]
  std::vector<int64_t> first_draw;    // [ticks + 1] into draw_order
  std::vector<SubPixel> draw_order;
  std::vector<double> tick_work;   // [ticks + 1]: multiply-adds or so of tick t are tick_work[t + 1]
  std::vector<std::vector<double>> part_work;  // [ticks + 1], of each part of the tick
  std::vector<int64_t> last_tick;  // [H]: the last tick at which a sub-pixel of rows 0 .. y is drawn
  int64_t scratch = 0;             // floats, the most that a kernel's block needs
  int64_t attend = 0;              // floats that the weights of an Attend's queries may take
  int64_t gather = 0;              // floats or pairs, the most that a Linear's rows copied together need
  int64_t most_rows = 0;           // entries that a block's tables of rows have, at most
  Memory<float> zeros;             // the row of a read that is not there
  Memory<float> weights;           // of all products in the order in which they are first needed, or
  Memory<BFloat16Pair> weight_pairs;  // in bfloat16, with pairs of rows
  bool streams = false;            // a tick's weights push everything else out of the caches: what comes next is fetched ahead
  std::vector<int64_t> next_product;  // [launches + 1]: the first launch from this one on that is of a product

  int64_t params() const {
    return function ? draws[0].width : components ? 3 * C * components : bernoulli ? 1 : levels;
  }
  // Floats from slot to slot for n images. Of what is attended to, an odd number of cache lines: 4096 bytes apart, as 32 images of
  // 32 channels are, all keys of an image would share a few lines of every cache.
  static int64_t slot_floats(const Value& v, int64_t n) {
    const int64_t floats = v.channels * n;
    return v.attended ? (aligned(floats) / 16 | 1) * 16 : floats;
  }
  // Floats of cache for n images, each value on cache lines of its own.
  int64_t cache_floats(int64_t n) const {
    int64_t total = 0;
    for (const Value& v : values) total += aligned(v.slots * slot_floats(v, n));
    return total;
  }
  static int64_t aligned(int64_t floats) { return (floats + 15) / 16 * 16; }
};

// Checks everything, so that no plan can make the engine read or write outside its memory; throws
// Refusal. Fills in what is built.
void build(Program& program);

}  // namespace genfast::engine
