// ems_fast._kernels: bindings, no logic. Tensors arrive as addresses and sizes that ems_fast/ops
// has checked; nothing here knows torch.
#include <omp.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <stdexcept>
#include <string>
#include <vector>

#include "isa.h"

namespace py = pybind11;

void bind_contrastive(py::module_& m);  // contrastive.cpp

namespace {

ems::Isa isa_from_name(const std::string& name) {
  for (ems::Isa isa : {ems::Isa::baseline, ems::Isa::avx2, ems::Isa::avx512})
    if (name == ems::isa_name(isa)) return isa;
  throw std::invalid_argument("isa: '" + name + "' is none of baseline, avx2, avx512");
}

void bind_isa(py::module_& m) {
  m.def("available_isas", [] {
    std::vector<std::string> names;
    for (ems::Isa isa : {ems::Isa::baseline, ems::Isa::avx2, ems::Isa::avx512})
      if (ems::isa_available(isa)) names.emplace_back(ems::isa_name(isa));
    return names;
  });
  m.def("active_isa", [] { return std::string(ems::isa_name(ems::active_isa())); });
  m.def("set_active_isa", [](const std::string& name) { ems::set_active_isa(isa_from_name(name)); },
        py::arg("name"));
  m.def("openmp_max_threads", [] { return omp_get_max_threads(); });
}

}  // namespace

PYBIND11_MODULE(_kernels, m) {
  m.doc() = "CPU kernels of ems-fast.";
  bind_isa(m);
  bind_contrastive(m);
}
