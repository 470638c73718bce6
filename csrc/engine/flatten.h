#pragma once

#include <vector>

#include "engine/flat.h"
#include "engine/program.h"

namespace genfast::engine {

struct Flat {
  flat::Header header;
  std::vector<unsigned char> bytes;
  std::vector<int64_t> offsets;  // of each value: floats that come before it in the caches of one image
};

// Of a program that has been built. Throws Refusal for what engines on a GPU cannot do: a likelihood that is a function.
Flat flatten(const Program& program);

}  // namespace genfast::engine
