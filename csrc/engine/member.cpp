// One thread's work: ticks, draws and launches. The parts of a kernel are in parts.cpp.
#include "engine/member.h"

#include <algorithm>
#include <string>
#include <utility>

namespace genfast::engine {

using Clock = std::chrono::steady_clock;

Member::Member(Run& run, Team& team, int index)
    : run_(run), p_(team.program), team_(team), cpu_(cpu_kernels()), index_(index) {
  if (p_.bfloat16)
    gather_pairs_ = Memory<BFloat16Pair>(p_.gather);
  else
    gather_ = Memory<float>(p_.gather);
  attend_ = Memory<float>(p_.attend);
  rows_.resize(p_.most_rows);
  profile_.kernels.resize(run.options_.profile ? p_.kernels.size() : 0);
}

// Whether to give up. The caller's thread asks for signals now and then.
bool Member::stopped() {
  if (interrupted_) {
    const auto now = Clock::now();
    if (now - asked_ > std::chrono::milliseconds(50)) {
      asked_ = now;
      if ((*interrupted_)()) run_.stop_ = true;
    }
  }
  return run_.stop_.load(std::memory_order_relaxed);
}

void Member::count(double Profile::OfKernel::* part, const Kernel& kernel) {
  if (!run_.options_.profile) return;
  const auto now = Clock::now();
  profile_.kernels[&kernel - p_.kernels.data()].*part += std::chrono::duration<double>(now - lap_).count();
  lap_ = now;
}

void Member::lead(int64_t from, int64_t last, const std::function<bool()>* interrupted) {
  interrupted_ = interrupted;
  asked_ = Clock::now();
  struct Dismissal {  // whatever happens, the others are told that there is no more to do
    Team& team;
    ~Dismissal() { team.call.to(Call::kNoMore); }
  } dismissal{team_};
  const bool alone = team_.members.size() == 1;
  for (int64_t tick = from; tick <= last; tick++) {
    const bool shared = !alone && (run_.options_.poison || team_.choice.share());
    if (shared) team_.call.to(tick);
    const auto begin = Clock::now();
    advance(tick, shared);
    if (stopped()) return;
    if (!alone) team_.choice.record(shared, std::chrono::duration<double>(Clock::now() - begin).count() / p_.tick_work[tick + 1]);
  }
}

void Member::help() {
  for (;;) {
    const int64_t tick = team_.call.next(calls_seen_, run_.stop_);
    if (tick == Call::kNoMore) return;
    advance(tick, true);
  }
}

void Member::meet() {
  if (ways() > 1) team_.barrier.wait(run_.stop_);
}

void Member::advance(int64_t tick, bool shared) {
  sharing_ = shared ? int(team_.members.size()) : 1;
  cuts_ = nullptr;
  if (tick >= 0) draw(tick);
  if (shared && !team_.cuts[tick + 1].empty()) cuts_ = team_.cuts[tick + 1].data() + index_;
  const int64_t end = p_.first_launch[tick + 2];
  for (int64_t i = p_.first_launch[tick + 1]; i < end; i++) {
    launch_ = i;
    if (p_.streams) fetch_tables(i);
    launch(p_.launches[i]);
    if (stopped()) return;
  }
  cuts_ = nullptr;
  meet();  // even where a tick has nothing to do, nobody is called to the next one before
}

// The sub-pixels of a tick, for all images of the team: one list of pairs, of which each member takes a part.
void Member::draw(int64_t tick) {
  const auto begin = Clock::now();
  const int64_t images = team_.images, first = p_.first_draw[tick], members = sharing_;
  const int64_t pairs = (p_.first_draw[tick + 1] - first) * images;
  const int64_t end = pairs * (index_ + 1) / members;
  for (int64_t pair = pairs * index_ / members; pair < end;) {
    const int64_t image = pair % images, together = std::min(images - image, end - pair);
    draw_sub_pixel(p_.draw_order[first + pair / images], image, together);
    pair += together;
  }
  if (run_.options_.profile) profile_.draws += std::chrono::duration<double>(Clock::now() - begin).count();
  meet();
}

void Member::draw_sub_pixel(SubPixel at, int64_t image, int64_t images) {
  const Request& r = run_.request_;
  const Read& read = p_.draws[at.channel];
  const int64_t pixels = p_.H * p_.W, row = p_.C * pixels, b = team_.first + image;
  const int64_t place = b * row + at.channel * pixels + at.pixel;
  const float* params = team_.cache(read.value, read.slot_table[at.pixel], image) + read.start;
  const int64_t params_row = p_.values[read.value].channels;
  if (p_.function) draw_by_function(at, image, images, params, params_row);
  const Categorical asked = {.logits = params,
                             .logits_row = params_row,
                             .rows = images,
                             .levels = p_.levels,
                             .bernoulli = p_.bernoulli,
                             .level = r.images + place,
                             .level_row = row,
                             .known = r.known + b * pixels + at.pixel,
                             .known_row = pixels,
                             .uniform = r.uniforms + place,
                             .uniform_row = row,
                             .log_prob = r.log_probs ? r.log_probs + place : nullptr,
                             .log_prob_row = row,
                             .temperature = r.temperature,
                             .top_k = r.top_k,
                             .top_p = r.top_p};
  const bool drawn = p_.function     ? true
                     : p_.components ? cpu_.draw_logistic_mixture({asked, p_.components, p_.C, p_.min_log_scale})
                                     : cpu_.categorical(asked);
  if (!drawn)
    throw Refusal(
        "The network's output is not a distribution: it holds NaN or infinity; "
        "check that the weights are finite and that training did not diverge.");
  if (r.params)
    for (int64_t m = 0; m < images; m++)
      std::copy_n(params + m * params_row, read.width, r.params + (place + m * row) * read.width);
  const int32_t input = p_.inputs[at.channel], slot = p_.values[input].slot_table[at.pixel];
  if (slot >= 0)
    for (int64_t m = 0; m < images; m++) *team_.cache(input, slot, image + m) = float(r.images[place + m * row]);
}

// Asks the request's function for the levels of a pixel's colours, or of a sub-pixel where it draws these, and takes them where
// they are not known.
void Member::draw_by_function(SubPixel at, int64_t image, int64_t images, const float* params, int64_t params_row) {
  if (p_.whole && at.channel > 0) return;  // drawn with the first
  const Request& r = run_.request_;
  const int64_t pixels = p_.H * p_.W, width = p_.params(), b = team_.first + image;
  const int64_t colours = p_.whole ? p_.C : 1, many = p_.whole ? p_.uniforms : 1;
  const auto known = [&](int64_t m) { return r.known[(b + m) * pixels + at.pixel]; };
  int64_t unknown = 0;
  for (int64_t m = 0; m < images; m++) unknown += !known(m);
  if (unknown == 0) return;
  parameters_.resize(images * width), uniforms_.resize(images * many), levels_.resize(images * colours);
  for (int64_t m = 0; m < images; m++) {
    std::copy_n(params + m * params_row, width, parameters_.data() + m * width);
    for (int64_t u = 0; u < many; u++)
      uniforms_[m * many + u] = r.uniforms[((b + m) * p_.uniforms + at.channel + u) * pixels + at.pixel];
  }
  r.sample(parameters_.data(), uniforms_.data(), images, levels_.data());
  for (int64_t m = 0; m < images; m++)
    for (int64_t c = 0; c < colours; c++) {
      const int32_t level = levels_[m * colours + c];
      if (level < 0 || level >= p_.levels) throw Refusal("A likelihood gave the level " + std::to_string(level) + ".");
      if (!known(m)) r.images[((b + m) * p_.C + at.channel + c) * pixels + at.pixel] = level;
    }
}

// A launch, in blocks of rows that fit the caches: several positions of all images, or some images of one position.
void Member::launch(const Launch& launch) {
  const Kernel& kernel = p_.kernels[launch.kernel];
  if (cuts_ && kernel.early) {  // for all parts: everybody computes some of it, and waits for the rest
    const int32_t* const cuts = std::exchange(cuts_, nullptr);
    this->launch(launch);
    cuts_ = cuts;
    return;
  }
  const int32_t* order = kernel.order_table;
  const int32_t* part = kernel.part.data();
  const auto from = [&](int32_t cut) { return std::lower_bound(part + launch.begin, part + launch.end, cut) - part; };
  const int64_t first = cuts_ ? from(cuts_[0]) : launch.begin, last = cuts_ ? from(cuts_[1]) : launch.end;
  const int64_t images = team_.images, count = last - first, most = kernel.block_rows;
  if (count == 0) return;
  if (run_.options_.profile) lap_ = Clock::now();
  if (images <= most) {
    const int64_t together = most / images, blocks = (count + together - 1) / together;
    for (int64_t i = 0; i < blocks; i++) {
      const int64_t begin = first + count * i / blocks, end = first + count * (i + 1) / blocks;
      work(kernel, {order + begin, end - begin, 0, images}, i + 1 == blocks);
      if (stopped()) return;
    }
    return;
  }
  const int64_t parts = (images + most - 1) / most;
  for (int64_t at = first; at < last; at++)
    for (int64_t i = 0; i < parts; i++) {
      const int64_t image = images * i / parts;
      work(kernel, {order + at, 1, image, images * (i + 1) / parts - image}, at + 1 == last && i + 1 == parts);
      if (stopped()) return;
    }
}

// What describes a launch is a dozen small tables, which the weights of a tick push out of the caches: each would be waited for.
// So they are fetched during the three launches before, each step following the pointers that the one before it fetched.
void Member::fetch_tables(int64_t launch) const {
  asm volatile("");  // GCC takes a function that only fetches for one without effect, and leaves out the calls
  const auto fetch = [](const void* from, int64_t bytes) {
    for (int64_t i = 0; i < bytes; i += 64) __builtin_prefetch(static_cast<const char*>(from) + i);
  };
  const auto fetch_all = [&](const auto& list) { fetch(list.data(), int64_t(list.size() * sizeof(*list.data()))); };
  const auto kernel_of = [&](int64_t i) { return i < int64_t(p_.launches.size()) ? &p_.kernels[p_.launches[i].kernel] : nullptr; };
  if (const Kernel* k = kernel_of(launch + 3)) fetch(k, sizeof(Kernel));
  if (const Kernel* k = kernel_of(launch + 2)) {
    const int64_t begin = p_.launches[launch + 2].begin;
    fetch(k->order_table + begin, 4);
    fetch(k->part.data() + begin, 4);
    fetch_all(k->reads);
    fetch_all(k->constants);
    fetch_all(k->head.reads);
    fetch_all(k->head.taps);
    fetch_all(k->body);
    fetch_all(k->stores);
    fetch_all(k->registers);
    fetch_all(k->body_reads);
    fetch_all(k->direct);
    fetch_all(k->copied);
    fetch_all(k->read_table);
    fetch_all(k->register_table);
  }
  if (const Kernel* k = kernel_of(launch + 1); k && p_.launches[launch + 1].begin < p_.launches[launch + 1].end) {
    const int32_t q = k->order_table[p_.launches[launch + 1].begin];
    for (const Read& read : k->reads) fetch(read.slot_table + q, 4);
    for (const Store& s : k->stores) fetch(p_.values[s.value].slot_table + q, 4);
    for (const Constant& c : k->constants)
      if (c.count == 1) fetch(c.rows.data(), c.row * 4);
    for (const Instruction& instruction : k->body) fetch_all(instruction.args);
  }
}

Part Member::rows_of(const Block& block) const {
  return {block.rows() * place() / ways(), block.rows() * (place() + 1) / ways()};
}

Part Member::columns_of(const Head& head, int64_t rows) const {
  // Whole vectors, of which a panel has two.
  const int64_t vector = cpu_.panel / 2, vectors = (head.width + vector - 1) / vector;
  return {0, rows, vectors * place() / ways() * vector,
          std::min<int64_t>(vectors * (place() + 1) / ways() * vector, head.width)};
}

void Member::work(const Kernel& kernel, const Block& block, bool last) {
  Part part = rows_of(block);
  find_places(kernel, block);
  switch (kernel.head.kind) {
    case HeadKind::kNone: break;
    case HeadKind::kLinear: {
      const Part columns = columns_of(kernel.head, block.rows());
      linear(kernel, block, columns, last);
      if (kernel.by_columns) {
        part = columns;
      } else {
        meet();  // the rows below hold columns of every member
        if (run_.options_.profile) lap_ = Clock::now();
      }
      break;
    }
    case HeadKind::kLookup: lookup(kernel, block, part); break;
    case HeadKind::kReduce: reduce(kernel, block, part); break;
    case HeadKind::kCopy: copy(kernel, block, part); break;
    case HeadKind::kAttend: attend(kernel, block, part); break;
  }
  if (!part.empty()) {
    body(kernel, block, part);
    store(kernel, block, part);
  }
  meet();  // what was stored may be read, and the rows written again
}

}  // namespace genfast::engine
