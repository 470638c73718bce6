// What Python hands over, checked: numpy arrays, and the names of operations.
#pragma once

#include <pybind11/numpy.h>

#include <string>
#include <vector>

#include "engine/program.h"

namespace genfast::engine {

namespace py = pybind11;

// The array itself, of this dtype and shape (-1: any length) and contiguous; throws Refusal, in one sentence, for anything else.
template <class T>
py::array_t<T> array(py::handle object, const char* name, std::vector<int64_t> shape) {
  const auto refuse = [&](const std::string& why) { throw Refusal(std::string(name) + " " + why + "."); };
  if (!py::isinstance<py::array>(object)) refuse("must be a numpy array");
  const auto a = py::reinterpret_borrow<py::array>(object);
  if (!a.dtype().is(py::dtype::of<T>()) && !a.dtype().equal(py::dtype::of<T>()))
    refuse("must be of dtype " + std::string(py::str(py::dtype::of<T>())) + ", not " + std::string(py::str(a.dtype())));
  if (!(a.flags() & py::array::c_style)) refuse("must be contiguous");
  if (a.ndim() != int64_t(shape.size()))
    refuse("must have " + std::to_string(shape.size()) + " dimensions, not " + std::to_string(a.ndim()));
  for (size_t i = 0; i < shape.size(); i++)
    if (shape[i] >= 0 && a.shape(i) != shape[i])
      refuse("must have " + std::to_string(shape[i]) + " in dimension " + std::to_string(i) + ", not " +
             std::to_string(a.shape(i)));
  return py::reinterpret_borrow<py::array_t<T>>(object);
}

// The numbers of a vector, copied.
template <class T>
std::vector<T> numbers(py::handle object, const char* name) {
  const auto a = array<T>(object, name, {-1});
  return {a.data(), a.data() + a.size()};
}

// The enumerator of a name; what: the kind of thing that there is none of.
template <class Enum, size_t N>
Enum named(const std::string& name, const char* const (&names)[N], const char* what) {
  for (size_t i = 0; i < N; i++)
    if (name == names[i]) return Enum(i);
  throw Refusal(std::string("There is no ") + what + " \"" + name + "\".");
}

// The operations of kernels/pointwise and the kinds of kernels/reduce, in the order of their enumerators.
#define GENFAST_STRING_OF_OP(NAME, ARGS) #NAME,
inline constexpr const char* kOps[] = {GENFAST_POINTWISE_OPS(GENFAST_STRING_OF_OP)};
#undef GENFAST_STRING_OF_OP
#define GENFAST_STRING_OF_KIND(NAME) #NAME,
inline constexpr const char* kReductions[] = {GENFAST_REDUCE_KINDS(GENFAST_STRING_OF_KIND)};
#undef GENFAST_STRING_OF_KIND

}  // namespace genfast::engine
