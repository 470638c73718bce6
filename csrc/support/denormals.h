// While it lives, this thread takes subnormal numbers for zero: saturated gates and gradients that fade along a scan make them, and some
// machines compute with those a hundred times slower. It also rounds to nearest: whatever the caller had set, results are the same.
#pragma once

namespace genfast {

class FlushDenormals {
 public:
#if defined(__x86_64__)
  FlushDenormals() : before_(__builtin_ia32_stmxcsr()) { __builtin_ia32_ldmxcsr((before_ & ~0x6000u) | 0x8040); }
  ~FlushDenormals() { __builtin_ia32_ldmxcsr(before_); }
#else
  FlushDenormals() = default;
#endif
  FlushDenormals(const FlushDenormals&) = delete;
  FlushDenormals& operator=(const FlushDenormals&) = delete;

 private:
#if defined(__x86_64__)
  unsigned before_;
#endif
};

}  // namespace genfast
