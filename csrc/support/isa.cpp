#include "support/isa.h"

#if defined(__x86_64__)
#include <cpuid.h>
#endif
#if defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#endif

#include <cstdlib>
#include <stdexcept>
#include <string>

namespace genfast {
namespace {

const char* const kNames[] = {"generic", "avx2", "avx512", "avx512_bf16", "amx_bf16"};

#if defined(__x86_64__)
// Whether this processor has tiles of bfloat16 and the system lets this process use them (Linux asks to be asked).
bool has_tiles() {
  unsigned a, b, c, d;
  if (!__get_cpuid_count(7, 0, &a, &b, &c, &d) || !(d >> 22 & 1) || !(d >> 24 & 1)) return false;  // AMX-BF16, AMX-TILE
#if defined(__linux__)
  constexpr long kRequestPermission = 0x1023, kTileData = 18;  // ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA
  return syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
#else
  return false;
#endif
}
#endif

Isa best() {
#if defined(__x86_64__)
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
      __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("fma"))
    return !__builtin_cpu_supports("avx512bf16") ? Isa::kAvx512 : has_tiles() ? Isa::kAmxBf16 : Isa::kAvx512Bf16;
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
                           (best() >= Isa::kAvx512Bf16 ? ", avx512_bf16" : "") +
                           (best() >= Isa::kAmxBf16 ? ", amx_bf16" : "") + ".");
}

}  // namespace

Isa isa() {
  static const Isa chosen = choose();
  return chosen;
}
const char* isa_name() { return kNames[int(isa())]; }
const char* best_isa_name() { return kNames[int(best())]; }

}  // namespace genfast
