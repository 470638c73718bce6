// _C.Engine and _C.Run: a program that is ready to draw, and a batch on its way. Numpy arrays in, numpy arrays written.
#include "engine/binding.h"

#include <pybind11/stl.h>

#include <algorithm>
#include <cstring>

#include "engine/arguments.h"
#include "engine/flatten.h"
#include "engine/run.h"
#include "engine/specification.h"

namespace genfast::engine {
namespace {

class PyRun {
 public:
  PyRun(std::shared_ptr<const Program> program, const Request& request, const Options& options, py::list kept)
      : program_(program), kept_(std::move(kept)), run_(program, request, options) {}

  void until_row(int64_t row) {
    bool finished;
    {
      py::gil_scoped_release release;
      finished = run_.until_row(row, [] {
        py::gil_scoped_acquire acquire;
        return PyErr_CheckSignals() != 0;
      });
    }
    if (!finished) throw py::error_already_set();
  }

  py::dict profile() const {
    const Profile profile = run_.profile();
    py::list kernels;
    for (size_t k = 0; k < profile.kernels.size(); k++) {
      const auto& part = profile.kernels[k];
      py::dict row;
      row["name"] = program_->kernels[k].name;
      row["gather"] = part.gather;
      row["gemm"] = part.gemm;
      row["body"] = part.body;
      row["store"] = part.store;
      kernels.append(row);
    }
    py::dict all;
    all["kernels"] = kernels;
    all["draws"] = profile.draws;
    return all;
  }

 private:
  std::shared_ptr<const Program> program_;
  py::list kept_;  // the arrays that the run reads and writes
  Run run_;
};

// A Python function (params float32 [M, width], uniforms float64 [M, many]) -> levels int32 [M, colours], callable from any thread.
// The run keeps the function itself; here is only a reference, which no thread without the GIL may copy or drop.
std::function<void(const float*, const double*, int64_t, int32_t*)> sampling_function(py::handle function, int64_t width,
                                                                                     int64_t many, int64_t colours) {
  return [function, width, many, colours](const float* params, const double* uniforms, int64_t images, int32_t* levels) {
    py::gil_scoped_acquire acquire;
    py::array_t<float> p({images, width});
    py::array_t<double> u({images, many});
    std::copy_n(params, images * width, p.mutable_data());
    std::copy_n(uniforms, images * many, u.mutable_data());
    const auto result = array<int32_t>(function(p, u), "What the likelihood's function gives", {images, colours});
    std::copy_n(result.data(), images * colours, levels);
  };
}

std::unique_ptr<PyRun> start(const Engine& engine, py::object images, py::object known, py::object uniforms,
                             py::list conditions, double temperature, int64_t top_k, double top_p, py::object log_probs,
                             py::object params, int threads, bool profile, bool poison) {
  const std::shared_ptr<const Program>& p = engine.program;
  Request r;
  auto pixels_in = array<int32_t>(images, "The images", {-1, p->C, p->H, p->W});
  r.n = pixels_in.shape(0);
  const int64_t pixels = p->H * p->W;
  const auto writable = [](py::array& a, const char* name) {
    if (!a.writeable()) throw Refusal(std::string(name) + " cannot be written to.");
  };
  writable(pixels_in, "The images");
  r.images = pixels_in.mutable_data();
  r.known = array<uint8_t>(known, "The mask of known pixels", {r.n, pixels}).data();
  r.uniforms = array<double>(uniforms, "The uniforms", {r.n, p->uniforms, pixels}).data();
  if (conditions.size() != p->conditions.size())
    throw Refusal("The network takes " + std::to_string(p->conditions.size()) + " conditions, not " +
                  std::to_string(conditions.size()) + ".");
  for (size_t i = 0; i < p->conditions.size(); i++) {
    const Value& v = p->values[p->conditions[i]];
    r.conditions.push_back(array<float>(conditions[i], "A condition", {r.n, v.positions, v.channels}).data());
  }
  r.temperature = temperature;
  r.top_k = top_k;
  r.top_p = top_p;
  if (!log_probs.is_none()) {
    auto a = array<double>(log_probs, "The log-probabilities", {r.n, p->C, pixels});
    writable(a, "The log-probabilities");
    r.log_probs = a.mutable_data();
  }
  if (!params.is_none()) {
    auto a = array<float>(params, "The parameters", {r.n, p->C, pixels, p->params()});
    writable(a, "The parameters");
    r.params = a.mutable_data();
  }
  if (p->function)
    r.sample = sampling_function(engine.sample, p->params(), p->whole ? p->uniforms : 1, p->whole ? p->C : 1);
  py::list kept;
  for (const py::object& o : {images, known, uniforms, log_probs, params, engine.sample}) kept.append(o);
  return std::make_unique<PyRun>(p, r, Options{threads, profile, poison}, std::move(kept));
}

int64_t cache_bytes(const Engine& engine, int64_t n, int threads) {
  if (n < 0 || n > 1 << 24 || threads < 1) throw Refusal("A batch needs a number of images and of threads.");
  const Split split(n, threads);
  int64_t total = 0;
  for (int t = 0; t < split.teams; t++) total += 4 * engine.program->cache_floats(split.first(t + 1) - split.first(t));
  return total;
}

// The program for a GPU: what genfast_cuda_run (engine/cuda/engine.cuh) takes, as arrays of bytes.
py::dict flat_program(const Engine& engine) {
  const Flat flat = flatten(*engine.program);
  const auto bytes = [](const void* from, size_t count) {
    py::array_t<uint8_t> to(count);
    std::memcpy(to.mutable_data(), from, count);
    return to;
  };
  py::dict all;
  all["header"] = bytes(&flat.header, sizeof(flat.header));
  all["program"] = bytes(flat.bytes.data(), flat.bytes.size());
  all["offsets"] = flat.offsets;
  all["cache_floats"] = flat.header.cache_floats;
  return all;
}

}  // namespace

void bind(py::module_& m) {
  py::class_<PyRun>(m, "Run", "A batch on its way; made by Engine.start.")
      .def("until_row", &PyRun::until_row, py::arg("row"), "Draws every sub-pixel of rows 0 .. row, without the GIL.")
      .def("profile", &PyRun::profile, "Seconds by kernel and part, added up over the threads, if started with profile=True.");
  py::class_<Engine>(m, "Engine", "A plan, checked and packed for this machine.")
      .def(py::init([](py::dict spec) { return parse(spec); }), py::arg("spec"))
      .def("start", &start, py::arg("images"), py::arg("known"), py::arg("uniforms"), py::arg("conditions"),
           py::arg("temperature") = 1.0, py::arg("top_k") = 0, py::arg("top_p") = 1.0, py::arg("log_probs") = py::none(),
           py::arg("params") = py::none(), py::arg("threads") = 1, py::arg("profile") = false, py::arg("poison") = false)
      .def("cache_bytes", &cache_bytes, py::arg("n"), py::arg("threads"), "Bytes that the caches of n images take.")
      .def("flat", &flat_program,
           "The plan for the cuda engine: header and program as bytes, and the floats of an image before each value's cache.");
}

}  // namespace genfast::engine
