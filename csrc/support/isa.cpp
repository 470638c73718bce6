#include "support/isa.h"

#include <cstdlib>
#include <stdexcept>
#include <string>

namespace genfast {
namespace {

const char* const kNames[] = {"generic", "avx2", "avx512", "avx512_bf16"};

Isa best() {
#if defined(__x86_64__)
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
      __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("fma"))
    return __builtin_cpu_supports("avx512bf16") ? Isa::kAvx512Bf16 : Isa::kAvx512;
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return Isa::kAvx2;
#endif
  return Isa::kGeneric;
}

Isa choose() {
  const char* wanted = std::getenv("GENFAST_CPU");
  if (wanted == nullptr || *wanted == '\0') return best();
  for (int i = 0; i <= int(best()); i++)
    if (std::string(wanted) == kNames[i]) return Isa(i);
  throw std::runtime_error("GENFAST_CPU is \"" + std::string(wanted) + "\", but this machine runs only generic" +
                           (best() >= Isa::kAvx2 ? ", avx2" : "") + (best() >= Isa::kAvx512 ? ", avx512" : "") +
                           (best() >= Isa::kAvx512Bf16 ? ", avx512_bf16" : "") + ".");
}

}  // namespace

Isa isa() {
  static const Isa chosen = choose();
  return chosen;
}
const char* isa_name() { return kNames[int(isa())]; }
const char* best_isa_name() { return kNames[int(best())]; }

}  // namespace genfast
