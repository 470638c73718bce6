// Which instruction set the CPU kernels use: the best this machine has, or less if GENFAST_CPU says so.
#pragma once

namespace genfast {

enum class Isa { kGeneric, kAvx2, kAvx512, kAvx512Bf16, kAmxBf16 };  // each has all that the one before has

Isa isa();                        // decided once, at the first call; throws std::runtime_error if GENFAST_CPU asks for what is not there
const char* isa_name();           // "generic", "avx2", "avx512", "avx512_bf16", "amx_bf16"
const char* best_isa_name();      // what the machine has, whatever GENFAST_CPU says

}  // namespace genfast

// The kernel NAME of the instruction set in use: GENFAST_KERNEL(masked_conv2d_float32).
#if defined(__x86_64__)
#define GENFAST_KERNEL(NAME)                                      \
  (::genfast::isa() >= ::genfast::Isa::kAvx512 ? ::genfast::avx512::NAME \
   : ::genfast::isa() == ::genfast::Isa::kAvx2 ? ::genfast::avx2::NAME   \
                                               : ::genfast::generic::NAME)
#else
#define GENFAST_KERNEL(NAME) (::genfast::generic::NAME)
#endif
