// The extension module: importing it registers the operators (static initialisers of csrc/ops), it holds the CPU sampling
// engine, and it tells how it was built.
#include <pybind11/pybind11.h>

#include "engine/binding.h"
#include "support/isa.h"

PYBIND11_MODULE(_C, m) {
  m.doc() = "genfast's compiled kernels";
  m.def("isa", &genfast::isa_name, "The instruction set in use: generic, avx2, avx512, avx512_bf16 or amx_bf16; GENFAST_CPU caps it.");
  m.def("best_isa", &genfast::best_isa_name, "The best instruction set this machine has.");
  genfast::engine::bind(m);
  genfast::engine::bind_kernels(m);
  m.attr("cuda_architectures") = GENFAST_CUDA_ARCHITECTURES;
  m.attr("compiler") = GENFAST_COMPILER;
  m.attr("built_with_torch") = GENFAST_TORCH_VERSION;
}
