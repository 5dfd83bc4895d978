// Bindings of csrc/align.h: addresses become pointers, nothing else happens here.
#include "align.h"

#include <pybind11/pybind11.h>

#include "address.h"

namespace py = pybind11;

void bind_align(py::module_& m) {
  m.attr("align_most_lines") = ems::align_most_lines;
  m.def(
      "align_path",
      [](Address source_ends, Address target_ends, Address total, Address source,
         Address source_distances, Address source_lengths, Address target, Address target_distances,
         Address target_lengths, Address begins, Address offsets, std::int64_t source_lines,
         std::int64_t target_lines, std::int64_t S, std::int64_t D, double skip, int threads) {
        return ems::align_path(
            at<std::int64_t>(source_ends), at<std::int64_t>(target_ends), at<double>(total),
            {at<const float>(source), at<const float>(source_distances),
             at<const float>(source_lengths), source_lines},
            {at<const float>(target), at<const float>(target_distances),
             at<const float>(target_lengths), target_lines},
            {at<const std::int64_t>(begins), at<const std::int64_t>(offsets)}, S, D, skip, threads);
      },
      py::call_guard<py::gil_scoped_release>());
}
