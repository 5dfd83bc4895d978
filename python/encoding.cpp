// ems_fast._encoding: bindings, no logic. What a token table needs to encode, for processes that may
// have neither torch nor OpenMP; arrays arrive as addresses that ems_fast/model has checked.
#include <pybind11/pybind11.h>

#include <cstdint>
#include <stdexcept>
#include <string>

#include "address.h"
#include "encoding/pooling.h"
#include "isa_binding.h"

namespace py = pybind11;

PYBIND11_MODULE(_encoding, m) {
  using Size = std::int64_t;
  m.doc() = "Kernels that encode with a token table.";
  bind_isa(m);
  m.def(
      "means",
      [](Address out, Address rows, Address scales, int type, Size V, Size D, Address ids,
         Address starts, Address lengths, Size B, Size dim, bool normalize, int threads) {
        const ems::TokenTable table = {
            at<const void>(rows), at<const float>(scales),
            static_cast<ems::RowType>(checked("type", type, ems::row_type_count)), V, D};
        const ems::Sentences sentences = {at<const Size>(ids), at<const Size>(starts),
                                          at<const Size>(lengths), B};
        if (!ems::means(at<float>(out), table, sentences, dim, normalize, threads))
          throw std::invalid_argument("ids: outside of 0 to " + std::to_string(V - 1));
      },
      py::call_guard<py::gil_scoped_release>());
}
