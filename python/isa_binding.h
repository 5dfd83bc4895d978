// The functions that choose an instruction set; every module of kernels has its own choice.
#pragma once

#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <stdexcept>
#include <string>
#include <vector>

#include "isa.h"

inline ems::Isa isa_from_name(const std::string& name) {
  for (ems::Isa isa : {ems::Isa::baseline, ems::Isa::avx2, ems::Isa::avx512})
    if (name == ems::isa_name(isa)) return isa;
  throw std::invalid_argument("isa: '" + name + "' is none of baseline, avx2, avx512");
}

inline std::vector<std::string> isas_that(bool (*condition)(ems::Isa)) {
  std::vector<std::string> names;
  for (ems::Isa isa : {ems::Isa::baseline, ems::Isa::avx2, ems::Isa::avx512})
    if (condition(isa)) names.emplace_back(ems::isa_name(isa));
  return names;
}

inline void bind_isa(pybind11::module_& m) {
  m.def("compiled_isas", [] { return isas_that(ems::isa_compiled); });
  m.def("available_isas", [] { return isas_that(ems::isa_available); });
  m.def("active_isa", [] { return std::string(ems::isa_name(ems::active_isa())); });
  m.def(
      "set_active_isa", [](const std::string& name) { ems::set_active_isa(isa_from_name(name)); },
      pybind11::arg("name"));
}
