// A batch on its way through a program.
#pragma once

#include <atomic>
#include <condition_variable>
#include <exception>
#include <functional>
#include <memory>
#include <mutex>
#include <vector>

#include "engine/program.h"

namespace genfast::engine {

// What is asked for. Arrays belong to the caller and outlive the run; those that are written alias nothing.
struct Request {
  int64_t n = 0;
  int32_t* images = nullptr;             // [n, C, H, W]: read where known, written elsewhere
  const uint8_t* known = nullptr;        // [n, H * W]
  const double* uniforms = nullptr;      // [n, U, H * W], U = program.uniforms
  // Of a likelihood that is a function: called with the parameters [images, program.params()] and the uniforms [images, U] of
  // some images at one pixel, it gives their levels, [images, colours drawn together].
  std::function<void(const float* params, const double* uniforms, int64_t images, int32_t* levels)> sample;
  std::vector<const float*> conditions;  // each [n, positions, channels]; copied when the run is made
  double temperature = 1;
  int64_t top_k = 0;            // 0: all
  double top_p = 1;             // 1: all
  double* log_probs = nullptr;  // null, or [n, C, H * W]
  float* params = nullptr;      // null, or [n, C, H * W, params]
};

struct Profile {
  struct OfKernel {
    double gather = 0, gemm = 0, body = 0, store = 0;  // seconds, added up over the threads
  };
  std::vector<OfKernel> kernels;
  double draws = 0;
};

struct Options {
  int threads = 1;
  bool profile = false;
  bool poison =
      false;  // for tests: caches and scratch start as NaN, so that reading what nobody wrote shows; members always share
};

// How many images each team has, and how many threads: min(threads, n) teams, and what threads are left over share out the work
// within each.
struct Split {
  Split(int64_t n, int threads) : teams(int(n < threads ? (n > 0 ? n : 1) : threads)), members(threads / teams), images(n) {}
  int teams, members;
  int64_t images;
  int64_t first(int team) const { return images * team / teams; }
};

class Team;

class Run {
 public:
  Run(std::shared_ptr<const Program>, const Request&, const Options&);
  ~Run();

  // Draws every sub-pixel of rows 0 .. row. The calling thread works too, and asks `interrupted` twenty times a second: if that
  // is true, or a distribution is not finite, everything stops for good; the former returns false, the latter throws Refusal.
  bool until_row(int64_t row, const std::function<bool()>& interrupted);

  Profile profile() const;

 private:
  friend class Member;
  void work(int thread, int64_t last_tick, const std::function<bool()>* interrupted);
  void fail();

  std::shared_ptr<const Program> program_;
  Request request_;
  Options options_;
  std::vector<std::unique_ptr<Team>> teams_;
  int64_t next_tick_ = -1;  // -1: the launches before the first draw
  std::atomic<bool> stop_{false};
  std::exception_ptr error_;
  std::mutex mutex_;  // of error_ and running_
  std::mutex busy_;   // held while until_row works
  std::condition_variable finished_;
  int running_ = 0;
};

}  // namespace genfast::engine
