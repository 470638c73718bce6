// attend on a CPU: one query of each of some images, over the keys and values that it sees in a cache.
//
//   out[m] = sum over i of softmax_i(scale * query[m] . key[m, i] + bias[i]) * value[m, i]      for images m, in each head
//
// Of a cache, the row of image m in slot s lies at  data + s * slot + m * row.  Rows of it, and of queries, must be readable
// for kAttendPadding floats past their end; what is there does not matter. NaN in a key or value that is seen gives NaN.
// An image's sums run in one order whatever the other images are: the lanes of a key by a tree, values in the order of `at`.
#pragma once

#include <stdint.h>

namespace genfast {

constexpr int64_t kAttendPadding = 16;  // floats: the widest vector of any instruction set

struct AttendCache {
  const float* data;
  int64_t slot, row;
  const int32_t* at;  // [count]: the slots that are seen; of values -1 for one that counts in the softmax, and adds nothing
};

struct Attend {
  const float* query;
  int64_t query_row;
  AttendCache keys, values;
  const float* bias;  // [heads][count], or null
  int64_t count, images, heads;
  int64_t depth, width;  // of one head: numbers in a query or key, and in a value
  float scale;
  float* scratch;  // at least heads * attend_row(count) floats; up to images times that are of use
  int64_t scratch_floats;
  float* out;  // rows out_row apart
  int64_t out_row;
};

constexpr int64_t attend_row(int64_t count) { return (count + kAttendPadding - 1) / kAttendPadding * kAttendPadding; }

#define GENFAST_DECLARE_ATTEND(ISA)  \
  namespace ISA {                    \
  void attend(const Attend& asked);  \
  }
GENFAST_DECLARE_ATTEND(generic)
GENFAST_DECLARE_ATTEND(avx2)
GENFAST_DECLARE_ATTEND(avx512)
#undef GENFAST_DECLARE_ATTEND

}  // namespace genfast
