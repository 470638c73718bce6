// A Program (program.h) as one block of memory without pointers, which an engine on a GPU copies as it is and walks through.
// flatten.cpp makes it from a program that has been checked, so whoever reads it need check nothing.
//
// A launch computes rows: positions of a kernel times images. All that a row needs beside the caches is its scratch memory, `row`
// floats: what it gathers, partial sums, registers. Where a row's inputs and outputs lie is found by *places*: entry q of each of
// the kernel's tables, for each position q that is computed together.
//
// The order in which numbers are added up is written down here and depends on nothing else: not on the images computed together,
// the threads, or the size of the GPU.
#pragma once

#include <cstdint>

namespace genfast::engine::flat {

constexpr int kThreads = 384;       // of a block; with fewer the numbers are the same
constexpr int64_t kLeastDepth = 16;  // of a slice: shorter sums are not worth adding up
constexpr int64_t kScores = 1024;    // of a query of an Attend that are kept at a time, of all heads together
constexpr int64_t kMostSlices = 32;  // of its keys: each lane of the result puts all of them together

enum class HeadKind : int32_t { kNone, kLinear, kLookup, kReduce, kCopy, kAttend };
enum class From : int32_t { kSlice, kRead, kConstant };
enum class Likelihood : int64_t { kBernoulli, kCategorical, kLogisticMixture };

// What a step is beside a PointwiseOp.
constexpr int32_t kTheHead = -1;  // register 0 = the result of the head; args[0] is a Linear's bias
constexpr int32_t kStore = -2;    // args[0], a register, to the caches

// Lane n is the number `at + n * step` of the row's scratch memory; or channel `start + n * step` of a value; or number
// n * step of a row of constants, which are `channels` long and begin at `at` of the floats.
struct Argument {
  int64_t at;  // a value's: floats that come before it in the caches of one image
  From from;
  int32_t step, place, channels, start;  // place -1: of constants, the only row
  int32_t unused;
};

struct Step {
  int32_t op, width;  // a PointwiseOp or one of the above; for lanes 0 .. width - 1
  int32_t to, unused;  // where the register begins in the row's scratch memory
  Argument args[3];   // of a store args[1] says where to, like a read
};

// Steps that a thread does for one lane without waiting for other lanes; between two phases all wait for all.
struct Phase {
  int32_t first, end;  // of the steps
  int32_t lanes, unused;
};

// What queries see, and how it is added up (kernels/attend/cuda_attend.cuh).
struct Attention {
  Argument query, key, value;   // no table says where keys and values are, but two lists of slots in the ints,
  int64_t key_slots, value_slots;  // those of one query after the other; of values -1 where a key counts and adds nothing
  int64_t bias;                 // in the floats, for each query [heads][keys]; -1: none
  int32_t begin, end;           // places: of a query's entries of the lists
  int32_t heads, depth, width;  // of one head: numbers in a key, and in a value
  int32_t keys, slices;         // that are scored at a time, and how many slices these are cut into
  int32_t vectors;              // 1: all can be read in steps of four numbers
  int32_t scores, states, sums;  // where they begin in a row's scratch memory
  float scale;
};

// Numbers `from`, as a read, put into a vector from `start` to `end`.
struct Piece {
  Argument from;
  int32_t start, end;
};

struct Kernel {
  int64_t weight;  // Linear: in the weights, [depth, columns]; Lookup: in the floats, [entries, width]
  int64_t order;   // in the ints: the positions to compute
  int64_t source;  // in the ints: [depth] which of the pieces each gathered number comes from, or -1: zero
  HeadKind head;
  int32_t width;                  // of the head's result
  int32_t depth, columns;         // numbers gathered for a row; columns of the weights: both padded to a multiple of 4
  int32_t slices, slice;          // the depth is cut into slices of so many numbers, whose products are added up by themselves
  int32_t reduced;                // Reduce: numbers
  int32_t attention;              // Attend: which of the attentions
  int32_t reduce, entries;        // a ReduceKind; of a Lookup's table
  float eps;
  int32_t gathered, partial, result;  // where they begin in a row's scratch memory
  int32_t row;                        // how long that is, a multiple of 4
  int32_t vectors;                    // 1: what is gathered can be in steps of four numbers
  int32_t first_piece, pieces;        // Linear, Reduce: of what is gathered. Lookup: the index. Copy: in their order
  int32_t first_table, tables;
  int32_t first_phase, phases;
};

struct Launch {
  int32_t kernel, begin, end, unused;
};

struct Draw {
  Argument params;    // its place is no table of a kernel's: `table` begins at the ints' number `slots`
  int64_t slots;      // [H * W]
  int64_t input, input_slots;  // where the levels go: floats before the value in the caches, and its slots, -1: nowhere
};

struct SubPixel {
  int32_t channel, pixel;
};

// Sections begin at so many bytes.
struct Header {
  int64_t channels, pixels, levels, components, params;
  Likelihood likelihood;
  double min_log_scale;
  int64_t bfloat16;  // factors of products are rounded to it
  int64_t ticks, cache_floats;  // of one image
  int64_t most_row, most_tables, weight_floats;
  int64_t kernels, launches, steps, phases, pieces, attentions, tables, draws, draw_order, first_launch, first_draw;
  int64_t ints, floats, weights;
  int64_t bytes;
};

}  // namespace genfast::engine::flat
