#pragma once

#include <pybind11/pybind11.h>

namespace genfast::engine {

void bind(pybind11::module_& m);          // Engine and Run
void bind_kernels(pybind11::module_& m);  // the kernels that tests call by themselves

}  // namespace genfast::engine
