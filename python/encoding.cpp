// ems_fast._encoding: what a token table needs to encode, for processes that may have neither torch
// nor OpenMP. Bindings, no logic; arrays arrive as addresses that the library has checked.
#include <pybind11/pybind11.h>

#include <cstdint>
#include <stdexcept>
#include <string>

#include "address.h"
#include "encoding/pooling.h"
#include "isa_binding.h"

namespace py = pybind11;

namespace {

// Lists of numbers one after another: NumPy's own ways through as many Python objects take several
// times as long. Where each list ends in ends [B], and how many numbers there are.
std::int64_t list_ends(Address ends, const py::list& lists) {
  std::int64_t n = 0, row = 0;
  for (const py::handle list : lists) {
    if (!PyList_Check(list.ptr())) throw py::type_error("lists: holds something that is no list");
    at<std::int64_t>(ends)[row++] = n += PyList_GET_SIZE(list.ptr());
  }
  return n;
}

// The numbers themselves, for `out` of as many as `list_ends` has found.
void flatten(Address out, const py::list& lists) {
  std::int64_t* next = at<std::int64_t>(out);
  for (const py::handle list : lists)
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(list.ptr()); ++i)
      *next++ = PyLong_AsLongLong(PyList_GET_ITEM(list.ptr(), i));
  if (PyErr_Occurred()) throw py::error_already_set();
}

}  // namespace

PYBIND11_MODULE(_encoding, m) {
  using Size = std::int64_t;
  m.doc() = "Kernels that encode with a token table.";
  bind_isa(m);
  m.def("list_ends", &list_ends);
  m.def("flatten", &flatten);
  m.def(
      "means",
      [](Address out, Address rows, Address scales, int type, Size V, Size D, Address keys,
         Address begins, Size K, Address ids, Address starts, Address lengths, Size B, Size dim,
         bool normalize, int threads) {
        const ems::TokenTable table = {
            at<const void>(rows), at<const float>(scales),
            static_cast<ems::RowType>(checked("type", type, ems::row_type_count)), V, D};
        const ems::Phrases phrases = {at<const Size>(keys), at<const Size>(begins), V - K, K};
        const ems::Sentences sentences = {at<const Size>(ids), at<const Size>(starts),
                                          at<const Size>(lengths), B};
        if (!ems::means(at<float>(out), table, phrases, sentences, dim, normalize, threads))
          throw std::invalid_argument("ids: outside of 0 to " + std::to_string(V - K - 1));
      },
      py::call_guard<py::gil_scoped_release>());
}
