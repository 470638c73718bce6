// What the parts of build() share: how they refuse a plan, and what they call of one another.
#pragma once

#include <string>
#include <type_traits>

#include "engine/program.h"

namespace genfast::engine {

// Throws Refusal with the sentence that the parts, texts and numbers, make.
template <class... Parts>
[[noreturn]] void refuse(const Parts&... parts) {
  std::string text;
  const auto add = [&](const auto& part) {
    if constexpr (std::is_arithmetic_v<std::decay_t<decltype(part)>>)
      text += std::to_string(part);
    else
      text += part;
  };
  (add(parts), ...);
  throw Refusal(text);
}

template <class... Parts>
void require(bool condition, const Parts&... parts) {
  if (!condition) refuse(parts...);
}

// Floats from row to row of a matrix of n columns, on which the kernels want whole vectors.
inline int64_t padded(int64_t n) { return (n + kRowPadding - 1) / kRowPadding * kRowPadding; }

void lay_out(Program& program, Kernel& kernel);  // scratch memory and tables of rows of a kernel that has been checked
void pack_weights(Program& program);             // of all products, once the launches are checked
void build_launches(Program& program);           // checks them; of each tick the first, and its work
void build_draw_order(Program& program);         // checks the ticks of the draws; of each tick what it draws, of each row its last

}  // namespace genfast::engine
