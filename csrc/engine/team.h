// Threads that share a team's images. Teams never wait for one another; a team's members meet between the pieces of a launch.
#pragma once

#include <atomic>
#include <chrono>
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

// How a team's first member calls the others to share a tick's work.
class Call {
 public:
  static constexpr int64_t kNoMore = -2;

  void to(int64_t tick) {
    tick_.store(tick, std::memory_order_relaxed);
    calls_.fetch_add(1, std::memory_order_release);
  }

  // The tick of the next call after the `seen` first ones, or kNoMore. Sleeps when that takes long: the first member works alone.
  int64_t next(uint32_t& seen, const std::atomic<bool>& stop) {
    for (int spins = 0; calls_.load(std::memory_order_acquire) == seen; spins++) {
      if (stop.load(std::memory_order_relaxed)) return kNoMore;
      if (spins < kSpins)
        pause();
      else
        std::this_thread::sleep_for(std::chrono::microseconds(spins < kSpins + 20 ? 50 : 1000));
    }
    seen++;
    return tick_.load(std::memory_order_relaxed);
  }

 private:
  static constexpr int kSpins = 2000;
  alignas(64) std::atomic<int64_t> tick_{kNoMore};
  std::atomic<uint32_t> calls_{0};
};

// Whether sharing a tick's work pays. On a core of its own each member makes it faster; where other programs run on the same
// cores, all wait for whoever is not on one, which can take five times as long as working alone. So both are tried now and
// then, what loses less and less often. Results do not depend on it.
class Choice {
 public:
  bool share() {
    if (trial_ == 0 && --until_trial_ == 0) trial_ = kTrial;
    return trial_ > 0 ? !better() : better();
  }

  // What a tick took, in seconds for a unit of work.
  void record(bool shared, double cost) {
    double& mean = cost_[shared];
    if (trial_ == 0) {
      mean = mean == 0 ? cost : mean + 0.2 * (cost - mean);
    } else if (--trial_ == 0) {  // the first tick of a trial also woke the others up
      const bool before = better();
      mean = cost;
      interval_ = better() != before ? kShortest : interval_ < kLongest ? 2 * interval_ : interval_;
      until_trial_ = interval_;
    }
  }

 private:
  static constexpr int kTrial = 2, kShortest = 8, kLongest = 256;
  bool better() const { return cost_[1] <= cost_[0]; }
  double cost_[2] = {1, 0};  // alone, shared; unknown: share first
  int trial_ = 0, until_trial_ = 3, interval_ = kShortest;
};

}  // namespace genfast::engine
