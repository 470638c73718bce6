// Storage types that are not types of C++. Plain data, the same in every namespace.
#pragma once

#include <stdint.h>

namespace genfast {

struct BFloat16 {
  uint16_t bits;
};

}  // namespace genfast
