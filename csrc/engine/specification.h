#pragma once

#include <pybind11/pybind11.h>

#include <memory>

#include "engine/program.h"

namespace genfast::engine {

struct Engine {
  std::shared_ptr<const Program> program;
  pybind11::object sample;  // the function that draws, or None
};

// Of a specification, the dictionary that genfast/sampling/cpu.py makes of a Plan: read, checked and built. Throws Refusal.
Engine parse(pybind11::handle spec);

}  // namespace genfast::engine
