// Bindings of csrc/table.h: addresses become pointers, nothing else happens here.
#include "table.h"

#include <pybind11/pybind11.h>

#include <stdexcept>
#include <string>

#include "address.h"

namespace py = pybind11;

void bind_table(py::module_& m) {
  m.def(
      "table_adagrad",
      [](Address table, Address sums, Address rows, Address gradient, std::int64_t count,
         std::int64_t D, std::int64_t V, float lr, float eps, float weight_decay, int threads) {
        if (!ems::active_table_kernels().adagrad(
                at<float>(table), at<float>(sums), at<const std::int64_t>(rows),
                at<const float>(gradient), count, D, V, {lr, eps, weight_decay}, threads))
          throw std::invalid_argument("rows: outside of 0 to " + std::to_string(V - 1));
      },
      py::call_guard<py::gil_scoped_release>());
}
