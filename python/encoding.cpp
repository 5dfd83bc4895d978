// ems_fast._encoding: what a token table needs to encode, for processes that may have neither torch
// nor OpenMP. Bindings, no logic; arrays arrive as addresses that the library has checked.
#include <pybind11/pybind11.h>

#include <algorithm>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "address.h"
#include "encoding/pooling.h"
#include "encoding/unigram.h"
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

// The ids of some sentences, until the caller has an array of their size.
class Ids {
 public:
  // Where each sentence's ids end goes to ends [B].
  Ids(const ems::Unigram& model, Address ends, const py::list& sentences, int threads) {
    std::vector<ems::Text> texts;
    texts.reserve(sentences.size());
    for (const py::handle sentence : sentences) {
      if (!PyUnicode_Check(sentence.ptr()))
        throw py::type_error("sentences: holds something that is no string");
#if PY_VERSION_HEX < 0x030C0000
      if (PyUnicode_READY(sentence.ptr())) throw py::error_already_set();
#endif
      texts.push_back({PyUnicode_DATA(sentence.ptr()), PyUnicode_GET_LENGTH(sentence.ptr()),
                       static_cast<int>(PyUnicode_KIND(sentence.ptr()))});
    }
    const auto B = static_cast<std::int64_t>(texts.size());
    std::int64_t failed;
    {
      const py::gil_scoped_release release;
      failed = model.encode(texts.data(), B, threads, at<std::int64_t>(ends), parts_);
    }
    if (failed < 0) return;
    const py::handle sentence = PyList_GET_ITEM(sentences.ptr(), failed);
    if (!PyUnicode_AsUTF8(sentence.ptr())) throw py::error_already_set();
    throw std::overflow_error("sentences: holds one of more than 2 GB");
  }

  std::int64_t size() const {
    std::int64_t size = 0;
    for (const auto& part : parts_) size += static_cast<std::int64_t>(part.size());
    return size;
  }

  void copy(Address out) const {
    std::int64_t* next = at<std::int64_t>(out);
    for (const auto& part : parts_) next = std::copy(part.begin(), part.end(), next);
  }

 private:
  std::vector<std::vector<std::int64_t>> parts_;
};

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
  py::register_local_exception<ems::MalformedModel>(m, "MalformedModelError", PyExc_ValueError);
  py::register_local_exception<ems::NotCovered>(m, "NotCoveredError", PyExc_NotImplementedError);
  py::class_<Ids>(m, "Ids").def_property_readonly("size", &Ids::size).def("copy", &Ids::copy);
  py::class_<ems::Unigram>(m, "Unigram")
      .def(py::init([](const py::bytes& model) {
        return ems::Unigram(static_cast<std::string_view>(model));
      }))
      .def_property_readonly("vocab_size", &ems::Unigram::vocab_size)
      .def_property_readonly("pad_id", &ems::Unigram::pad_id)
      .def_property_readonly("unk_id", &ems::Unigram::unknown_id)
      .def("encode", [](const ems::Unigram& model, Address ends, const py::list& sentences,
                        int threads) { return Ids(model, ends, sentences, threads); });
}
