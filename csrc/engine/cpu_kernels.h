// The kernels of the instruction set in use.
#pragma once

#include "attend/cpu.h"
#include "categorical/cpu.h"
#include "logistic_mixture/draw.h"
#include "pointwise/cpu.h"
#include "reduce/cpu.h"
#include "support/isa.h"
#include "tap_gemm/cpu.h"

namespace genfast::engine {

struct CpuKernels {
  int64_t panel;  // columns of a panel of weights
  void (*tap_gemm)(const TapGemm<float>&);
  void (*tap_gemm_of_pairs)(const TapGemm<BFloat16Pair, float>&);
  void (*narrow)(const float*, BFloat16*, int64_t);
  void (*pointwise)(PointwiseOp, const PointwiseArg*, const PointwiseOut&, int64_t, int64_t, int64_t);
  void (*reduce)(ReduceKind, const float*, int64_t, float*, int64_t, int64_t, int64_t, float);
  void (*attend)(const Attend&);
  bool (*categorical)(const Categorical&);
  bool (*draw_logistic_mixture)(const LogisticMixtureDraw&);
  void (*exp_doubles)(const double*, double*, int64_t);
};

inline const CpuKernels& cpu_kernels() {
#define GENFAST_CPU_KERNELS(ISA, PAIRS)                                                                                  \
  CpuKernels {                                                                                                           \
    int64_t(ISA::panel_bytes / sizeof(float)), ISA::tap_gemm, PAIRS::tap_gemm, PAIRS::narrow, ISA::pointwise, ISA::reduce, \
        ISA::attend, ISA::categorical, ISA::draw_logistic_mixture, ISA::exp_doubles                                      \
  }
#if defined(__x86_64__)
  static const CpuKernels kernels = isa() == Isa::kAmxBf16      ? GENFAST_CPU_KERNELS(avx512, amx_bf16)
                                    : isa() == Isa::kAvx512Bf16 ? GENFAST_CPU_KERNELS(avx512, avx512_bf16)
                                    : isa() == Isa::kAvx512   ? GENFAST_CPU_KERNELS(avx512, avx512)
                                    : isa() == Isa::kAvx2     ? GENFAST_CPU_KERNELS(avx2, avx2)
                                                              : GENFAST_CPU_KERNELS(generic, generic);
#else
  static const CpuKernels kernels = GENFAST_CPU_KERNELS(generic, generic);
#endif
#undef GENFAST_CPU_KERNELS
  return kernels;
}

}  // namespace genfast::engine
