// Threads that share a team's images. Teams never wait for one another; the members of a team meet between the pieces of a launch.
#pragma once

#include <atomic>
#include <cstdint>
#include <thread>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace genfast::engine {

inline void pause() {
#if defined(__x86_64__)
  _mm_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

// Everybody waits until all have come. Waiting spins, because what is waited for takes a microsecond; after a while it lets other
// threads run, or a machine with fewer cores than threads would stand still.
class Barrier {
 public:
  explicit Barrier(int members) : members_(members) {}

  // Gives up, and returns at once ever after, when `stop` is set.
  void wait(const std::atomic<bool>& stop) {
    if (members_ == 1) return;
    const uint32_t round = round_.load(std::memory_order_relaxed);
    if (arrived_.fetch_add(1, std::memory_order_acq_rel) + 1 == members_) {
      arrived_.store(0, std::memory_order_relaxed);
      round_.store(round + 1, std::memory_order_release);
      return;
    }
    for (int spins = 0; round_.load(std::memory_order_acquire) == round; spins++) {
      if (stop.load(std::memory_order_relaxed)) return;
      if (spins < kSpins)
        pause();
      else
        std::this_thread::yield();
    }
  }

 private:
  static constexpr int kSpins = 2000;
  const int members_;
  alignas(64) std::atomic<int> arrived_{0};
  alignas(64) std::atomic<uint32_t> round_{0};
};

// Subnormal numbers count as zero while this lives: some machines take a hundred times longer over them, saturated gates make them,
// and whatever the caller's thread had set before, results are the same.
class FlushSubnormals {
 public:
#if defined(__x86_64__)
  FlushSubnormals() : before_(_mm_getcsr()) { _mm_setcsr((before_ & ~0x6000u) | 0x8040u); }  // round to nearest, FTZ, DAZ
  ~FlushSubnormals() { _mm_setcsr(before_); }

 private:
  unsigned before_;
#else
  FlushSubnormals() {}
  ~FlushSubnormals() {}
#endif
};

}  // namespace genfast::engine
