// A team's memory, and one of its threads at work.
#pragma once

#include <algorithm>
#include <chrono>
#include <functional>
#include <vector>

#include "engine/cpu_kernels.h"
#include "engine/run.h"
#include "engine/team.h"

namespace genfast::engine {

// Positions `positions[0 .. count)` of a kernel for images [image, image + images) of the team: row r of the block is position
// r / images, image `image + r % images`.
struct Block {
  const int32_t* positions;
  int64_t count, image, images;
  int64_t rows() const { return count * images; }
};

// What of a block a member works on: rows [begin, end), and of each the columns [first, last), as far as there are so many.
struct Part {
  static constexpr int64_t kAll = INT64_MAX;
  int64_t begin, end, first = 0, last = kAll;
  int64_t rows() const { return end - begin; }
  int64_t columns(int64_t width) const { return std::max<int64_t>(0, std::min(width, last) - first); }
  bool empty() const { return begin >= end || first >= last; }
};

class Member {
 public:
  Member(Run& run, Team& team, int index);
  // Ticks [from, last], the launches before the first draw being tick -1; the team's first member calls the others where that
  // pays. Returns early when the run is stopped.
  void lead(int64_t from, int64_t last, const std::function<bool()>* interrupted);
  // Whatever the first member calls for.
  void help();
  const Profile& profile() const { return profile_; }

 private:
  bool stopped();
  int ways() const { return cuts_ ? 1 : sharing_; }  // how many members share each block
  int place() const { return cuts_ ? 0 : index_; }   // which of them this is
  void advance(int64_t tick, bool shared);
  void meet();
  void draw(int64_t tick);
  void draw_sub_pixel(SubPixel at, int64_t image, int64_t images);
  void draw_by_function(SubPixel at, int64_t image, int64_t images, const float* params, int64_t params_row);
  void fetch_tables(int64_t launch) const;
  void launch(const Launch& launch);
  void work(const Kernel& kernel, const Block& block, bool last);

  // Parts of a kernel. `part` is this member's; of a product it computes the columns. last: of the launch's blocks.
  void linear(const Kernel& kernel, const Block& block, Part columns, bool last);
  void find_taps(const Kernel& kernel, const Block& block);
  void gather_taps(const Head& head, const Kernel& kernel, const Block& block);
  template <class E>
  void multiply(const Head& head, const Kernel& kernel, const Block& block, Part columns, bool last);
  template <class E>
  int64_t weights_ahead(Part columns, int64_t n) const;
  void lookup(const Kernel& kernel, const Block& block, Part part);
  void reduce(const Kernel& kernel, const Block& block, Part part);
  void copy(const Kernel& kernel, const Block& block, Part part);
  void attend(const Kernel& kernel, const Block& block, Part part);
  void find_places(const Kernel& kernel, const Block& block);
  void body(const Kernel& kernel, const Block& block, Part part);
  void store(const Kernel& kernel, const Block& block, Part part);
  PointwiseArg argument(const Kernel& kernel, const Block& block, const Instruction& instruction, const Argument& a,
                        Part part) const;

  Part rows_of(const Block& block) const;                       // all columns of this member's rows
  Part columns_of(const Head& head, int64_t rows) const;  // all rows of this member's vectors
  // A read's rows [begin, end), `to` and on, row_stride apart; zeros where nothing is. As they are, or rounded to bfloat16.
  template <class E>
  void copy_read(const Read& read, const Block& block, Part part, E* to, int64_t row_stride, bool zeros) const;
  void copy_numbers(const float* from, float* to, int64_t n) const { std::copy_n(from, n, to); }
  void copy_numbers(const float* from, BFloat16* to, int64_t n) const { cpu_.narrow(from, to, n); }
  float* at(const Place& place, const Block& block) const;
  float** table(int32_t index, const Block& block) { return rows_.data() + index * block.rows(); }
  float* const* table(int32_t index, const Block& block) const { return rows_.data() + index * block.rows(); }
  // Writes to a table where the block's rows lie in a value's cache: channel `start` of them. Where a position has no slot there
  // are rows from `missing` on, `missing_row` apart.
  void find_rows(int32_t value, const int32_t* slot, int64_t start, const Block& block, float* missing,
                 int64_t missing_row, float** table) const;
  void count(double Profile::OfKernel::* part, const Kernel& kernel);

  Run& run_;
  const Program& p_;
  Team& team_;
  const CpuKernels& cpu_;
  const int index_;
  int sharing_ = 1;  // members at work on this tick
  const int32_t* cuts_ = nullptr;  // null, or this member computes parts [cuts_[0], cuts_[1]) of the tick all by itself
  int64_t launch_ = 0;  // the one at work
  uint32_t calls_seen_ = 0;
  Memory<float> attend_;      // weights of attention
  Memory<float> gather_;      // taps copied together
  Memory<BFloat16Pair> gather_pairs_;  // the same in bfloat16
  std::vector<float*> rows_;  // [tables][rows of the block]: where each row lies, in the caches if it has a slot there
  std::vector<float> parameters_;  // a function's arguments and its result, copied together
  std::vector<double> uniforms_;
  std::vector<int32_t> levels_;
  Profile profile_;
  std::chrono::steady_clock::time_point lap_, asked_;
  const std::function<bool()>* interrupted_ = nullptr;
};

class Team {
 public:
  Team(Run& run, const Program& program, int64_t first, int64_t images, int members, bool poison);
  float* cache(int32_t value, int64_t slot, int64_t image) const {
    const Value& v = program.values[value];
    return caches.get() + offsets[value] + slot * slot_floats[value] + image * v.channels;
  }

  const Program& program;
  const int64_t first, images;  // of the batch
  const int64_t scratch_of_one;  // floats: member m's own scratch begins at m times that; what they share is the first
  Memory<float> caches, scratch;
  std::vector<int64_t> offsets, slot_floats;  // of each value's cache, in floats: where it begins, and from slot to slot
  // [ticks + 1]: empty where members share out every block of a tick, or else which parts each computes: [members + 1]
  std::vector<std::vector<int32_t>> cuts;
  Barrier barrier;
  Call call;
  Choice choice;
  std::vector<std::unique_ptr<Member>> members;
};

}  // namespace genfast::engine
