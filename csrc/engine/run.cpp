// Starting, stopping and joining the threads of a run. What they do is in member.cpp.
#include "engine/run.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <thread>

#include "engine/member.h"
#include "support/denormals.h"

namespace genfast::engine {

namespace {

constexpr double kMostOfTheWork = 1.5;  // of an even share, that one member may have

// How to cut the parts of a tick among members: evenly by their work. Empty where that leaves one member with so much that they
// had better share out every block: a meeting for each costs them about as much as a quarter of the work.
std::vector<int32_t> cut(const std::vector<double>& work, int members) {
  double total = 0;
  for (double w : work) total += w;
  std::vector<int32_t> cuts = {0};
  double done = 0, most = 0, mine = 0;
  for (size_t part = 0; part < work.size(); part++) {
    // The next member begins here if what is done comes nearer to an even share without this part than with it.
    const double share = total * double(cuts.size()) / members;
    if (int(cuts.size()) < members && mine > 0 && done + work[part] - share > share - done) {
      cuts.push_back(int32_t(part));
      mine = 0;
    }
    mine += work[part], done += work[part], most = std::max(most, mine);
  }
  if (int(cuts.size()) < members || most > kMostOfTheWork * total / members) return {};
  cuts.push_back(int32_t(work.size()));
  return cuts;
}

}  // namespace

Team::Team(Run& run, const Program& p, int64_t first_image, int64_t count, int threads, bool poison)
    : program(p),
      first(first_image),
      images(count),
      scratch_of_one(p.scratch + kRowPadding),
      caches(p.cache_floats(count) + kAttendPadding),
      scratch(threads * scratch_of_one),
      barrier(threads) {
  int64_t offset = 0;
  for (const Value& v : p.values) {
    offsets.push_back(offset);
    slot_floats.push_back(Program::slot_floats(v, count));
    offset += Program::aligned(v.slots * slot_floats.back());
  }
  if (poison) {
    std::fill_n(caches.get(), offset, std::numeric_limits<float>::quiet_NaN());
    std::fill_n(scratch.get(), threads * scratch_of_one, std::numeric_limits<float>::quiet_NaN());
  }
  if (threads > 1)
    for (const std::vector<double>& work : p.part_work) cuts.push_back(cut(work, threads));
  for (int m = 0; m < threads; m++) members.push_back(std::make_unique<Member>(run, *this, m));
}

namespace {

void check(const Program& p, const Request& r, const Options& options) {
  if (r.n < 0 || r.n > 1 << 24) throw Refusal("A batch cannot have " + std::to_string(r.n) + " images.");
  if (options.threads < 1 || options.threads > 1024)
    throw Refusal("The number of threads must be 1 to 1024, not " + std::to_string(options.threads) + ".");
  if (!(r.temperature >= 0 && std::isfinite(r.temperature)))
    throw Refusal("temperature must be 0 (the most probable level) or a positive number, not " + std::to_string(r.temperature) +
                  ".");
  if (r.top_k < 0) throw Refusal("top_k must be a whole number of levels, at least 1, not " + std::to_string(r.top_k) + ".");
  if (!(r.top_p > 0 && r.top_p <= 1))
    throw Refusal("top_p must be a probability above 0 and at most 1, not " + std::to_string(r.top_p) + ".");
  const int64_t pixels = p.H * p.W;
  if (p.function && !r.sample) throw Refusal("The likelihood is a function, and there is none to draw with.");
  if (p.function && r.log_probs) throw Refusal("A likelihood that is a function tells no log-probabilities.");
  for (int64_t i = 0; i < r.n * p.uniforms * pixels; i++)
    if (!(r.uniforms[i] >= 0 && r.uniforms[i] < 1)) throw Refusal("Uniforms must lie in [0, 1).");
  for (int64_t b = 0; b < r.n; b++)
    for (int64_t c = 0; c < p.C; c++)
      for (int64_t i = 0; i < pixels; i++)
        if (const int32_t level = r.images[(b * p.C + c) * pixels + i]; r.known[b * pixels + i] && (level < 0 || level >= p.levels))
          throw Refusal("A known pixel has level " + std::to_string(level) + ", but there are " +
                        std::to_string(p.levels) + " levels.");
}

}  // namespace

Run::Run(std::shared_ptr<const Program> program, const Request& request, const Options& options)
    : program_(std::move(program)), request_(request), options_(options) {
  const Program& p = *program_;
  check(p, request, options);
  const Split split(request.n, options.threads);
  for (int t = 0; t < split.teams; t++) {
    const int64_t first = split.first(t), images = split.first(t + 1) - first;
    teams_.push_back(std::make_unique<Team>(*this, p, first, images, split.members, options.poison));
    const Team& team = *teams_.back();
    for (size_t i = 0; i < p.conditions.size(); i++) {
      const Value& v = p.values[p.conditions[i]];
      for (int64_t q = 0; q < v.positions; q++)
        for (int64_t b = 0; b < images && v.slot[q] >= 0; b++)
          std::copy_n(request.conditions[i] + ((first + b) * v.positions + q) * v.channels, v.channels,
                      team.cache(p.conditions[i], v.slot[q], b));
    }
  }
}

Run::~Run() = default;

// Keeps the first exception and stops everyone.
void Run::fail() {
  std::lock_guard lock(mutex_);
  if (!error_) error_ = std::current_exception();
  stop_ = true;
}

void Run::work(int thread, int64_t last_tick, const std::function<bool()>* interrupted) {
  try {
    const FlushDenormals flush;
    const int members = int(teams_[0]->members.size());
    Member& member = *teams_[thread / members]->members[thread % members];
    if (thread % members == 0)
      member.lead(next_tick_, last_tick, interrupted);
    else
      member.help();
  } catch (...) {
    fail();
  }
}

bool Run::until_row(int64_t row, const std::function<bool()>& interrupted) {
  std::unique_lock busy(busy_, std::try_to_lock);
  if (!busy) throw Refusal("This run is under way in another thread.");
  if (stop_) throw Refusal("This run was stopped: start another.");
  if (row < 0 || row >= program_->H)
    throw Refusal("There is no row " + std::to_string(row) + " in an image of " + std::to_string(program_->H) + " rows.");
  const int64_t last = program_->last_tick[row];
  if (last < next_tick_ || request_.n == 0) return true;

  const int threads = int(teams_.size() * teams_[0]->members.size());
  std::vector<std::thread> others;
  others.reserve(threads);
  running_ = 0;
  try {
    for (int t = 1; t < threads; t++) {
      {
        std::lock_guard lock(mutex_);
        running_++;
      }
      others.emplace_back([this, t, last] {
        work(t, last, nullptr);
        std::lock_guard lock(mutex_);
        running_--;
        finished_.notify_one();
      });
    }
  } catch (...) {  // no more threads to be had: those that there are must not wait for the rest
    fail();
  }
  if (!stop_) work(0, last, &interrupted);
  {
    std::unique_lock lock(mutex_);
    while (running_ > 0 && !stop_) {
      finished_.wait_for(lock, std::chrono::milliseconds(50));
      lock.unlock();
      if (!stop_ && interrupted()) stop_ = true;
      lock.lock();
    }
  }
  for (std::thread& other : others) other.join();
  if (error_) std::rethrow_exception(error_);
  if (stop_) return false;
  next_tick_ = last + 1;
  return true;
}

Profile Run::profile() const {
  Profile total;
  total.kernels.resize(program_->kernels.size());
  for (const auto& team : teams_)
    for (const auto& member : team->members) {
      const Profile& part = member->profile();
      total.draws += part.draws;
      for (size_t k = 0; k < part.kernels.size(); k++) {
        total.kernels[k].gather += part.kernels[k].gather;
        total.kernels[k].gemm += part.kernels[k].gemm;
        total.kernels[k].body += part.kernels[k].body;
        total.kernels[k].store += part.kernels[k].store;
      }
    }
  return total;
}

}  // namespace genfast::engine
