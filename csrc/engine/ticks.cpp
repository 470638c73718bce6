// What happens at each tick of a program: its launches, the work in them, and the sub-pixels that are drawn.
#include <algorithm>
#include <utility>

#include "engine/build.h"

namespace genfast::engine {

constexpr int64_t kMostParts = int64_t(1) << 24;

void build_launches(Program& p) {
  p.first_launch.assign(p.ticks + 2, 0);
  p.tick_work.assign(p.ticks + 1, 1.0);
  p.part_work.resize(p.ticks + 1);
  int64_t before = -1;
  for (const Launch& launch : p.launches) {
    require(launch.tick >= before && launch.tick < p.ticks, "The launches are not in the order of their ticks.");
    before = launch.tick;
    require(launch.kernel >= 0 && launch.kernel < int64_t(p.kernels.size()), "A launch names kernel ", launch.kernel, ".");
    require(launch.begin >= 0 && launch.begin <= launch.end && launch.end <= int64_t(p.kernels[launch.kernel].order.size()),
            "A launch computes positions that ", p.kernels[launch.kernel].name, " does not have.");
    p.first_launch[launch.tick + 1]++;
    const Kernel& k = p.kernels[launch.kernel];
    std::vector<double>& parts = p.part_work[launch.tick + 1];
    for (int32_t i = launch.begin; i < launch.end; i++) {
      require(k.part[i] >= (i > launch.begin ? k.part[i - 1] : 0) && k.part[i] < kMostParts, "A launch of ", k.name,
              " does not have its parts in order.");
      double work = double((k.head.depth + 4) * k.head.width + 16);
      if (k.head.kind == HeadKind::kAttend)
        work += double(k.head.attention.entries(k.order[i]) * (k.head.attention.key.width + k.head.width));
      p.tick_work[launch.tick + 1] += work;
      if (k.early) continue;
      if (k.part[i] >= int64_t(parts.size())) parts.resize(k.part[i] + 1);
      parts[k.part[i]] += work;
    }
  }
  int64_t first = 0;
  for (int64_t& count : p.first_launch) first += std::exchange(count, first);
}

void build_draw_order(Program& p) {
  const int64_t pixels = p.H * p.W;
  p.first_draw.assign(p.ticks + 1, 0);
  for (int32_t tick : p.draw_tick) {
    require(tick >= 0 && tick < p.ticks, "A sub-pixel is drawn at tick ", tick, " of ", p.ticks, ".");
    p.first_draw[tick]++;
  }
  int64_t first = 0;
  for (int64_t& count : p.first_draw) first += std::exchange(count, first);
  p.draw_order.resize(p.draw_tick.size());
  std::vector<int64_t> next = p.first_draw;
  for (int64_t c = 0; c < p.C; c++)
    for (int64_t i = 0; i < pixels; i++) p.draw_order[next[p.draw_tick[c * pixels + i]]++] = {int32_t(c), int32_t(i)};
  p.last_tick.assign(p.H, -1);
  for (int64_t y = 0; y < p.H; y++) {
    int64_t last = y ? p.last_tick[y - 1] : -1;
    for (int64_t c = 0; c < p.C; c++)
      for (int64_t x = 0; x < p.W; x++) last = std::max<int64_t>(last, p.draw_tick[c * pixels + y * p.W + x]);
    p.last_tick[y] = last;
  }
}

}  // namespace genfast::engine
