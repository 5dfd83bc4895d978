// ems_fast._kernels: bindings, no logic. Tensors arrive as addresses and sizes that ems_fast/ops
// has checked; nothing here knows torch.
#if defined(_OPENMP)
#include <omp.h>
#endif
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <array>
#include <cstdint>
#include <iterator>
#include <stdexcept>
#include <string>
#include <vector>

#include "address.h"
#include "bag_of_words.h"
#include "isa.h"
#include "isa_binding.h"
#include "xtr.h"

namespace py = pybind11;

void bind_align(py::module_& m);        // align.cpp
void bind_contrastive(py::module_& m);  // contrastive.cpp
void bind_gemm(py::module_& m);         // gemm.cpp
void bind_table(py::module_& m);        // table.cpp

namespace {

using Size = std::int64_t;

void bind_machine(py::module_& m) {
  bind_isa(m);
  m.def("has_fast_bfloat16", &ems::has_fast_bfloat16);
  m.def("openmp_max_threads", [] {  // 0: compiled without OpenMP
#if defined(_OPENMP)
    return omp_get_max_threads();
#else
    return 0;
#endif
  });
}

void bind_bag_of_words(py::module_& m) {
  m.def("bag_of_words",
        [](Address indptr, Address indices, Address weights, Address ids, Address begins,
           Address lengths, bool wide_ids, int weighting, Size vocabulary, Size B) {
          const auto count = [&](auto* typed_ids) {
            const ems::BagResult result = ems::bag_of_words(
                at<Size>(indptr), at<Size>(indices), at<float>(weights), typed_ids,
                at<const Size>(begins), at<const Size>(lengths), 0, B, vocabulary,
                static_cast<ems::Weighting>(
                    checked("weighting", weighting, ems::weighting_count)));
            return std::array{result.entries, result.bad_row, result.bad_position};
          };
          py::gil_scoped_release release;
          return wide_ids ? count(at<const Size>(ids)) : count(at<const std::int32_t>(ids));
        });
  m.def("bag_of_words_is_valid",
        [](Address indptr, Address indices, Address weights, Size B, Size V, Size K) {
          return ems::is_bag_of_words(at<const Size>(indptr), at<const Size>(indices),
                                      at<const float>(weights), B, V, K);
        }, py::call_guard<py::gil_scoped_release>());
}

const ems::XtrKernels& xtr_kernels(int dtype) {
  const ems::XtrTable& table = ems::active_xtr_table();
  return table.kernels[checked("dtype", dtype, std::size(table.kernels))];
}

// The functions of python/cuda.cpp have the same names and take the same arguments up to the number
// of threads; those that have no name here are for the GPU.
void bind_xtr(py::module_& m) {
  const auto def = [&](const char* name, auto function) {
    m.def(name, function, py::call_guard<py::gil_scoped_release>());
  };
  def("xtr_softmax_workspace_size", [](Size, Size, int) { return Size{0}; });
  def("xtr_softmax", [](Address z, Address shift, Address total, Address rescale, Address,
                        int dtype, Size n, Size B, int threads) {
    xtr_kernels(dtype).softmax(at<void>(z), at<void>(shift), at<double>(total), at<void>(rescale),
                               n, B, threads);
  });
  def("xtr_probabilities",
      [](Address z, Address logsumexp, int dtype, Size n, Size B, int threads) {
        xtr_kernels(dtype).probabilities(at<void>(z), at<void>(logsumexp), n, B, threads);
      });
  def("xtr_exponentials", [](Address e, Address weight, Address hidden, Address shift,
                             Address total, Size n, Size B, Size D, int threads) {
    return ems::active_xtr_table().exponentials(at<float>(e), at<float>(weight), at<float>(hidden),
                                                at<float>(shift), at<double>(total), n, B, D,
                                                threads);
  });
  def("xtr_accumulate",
      [](Address out, Address in, Address, int dtype, bool add, Size size, int threads) {
        xtr_kernels(dtype).accumulate(at<void>(out), at<void>(in), add, size, threads);
      });
  def("xtr_gather", [](Address out, Address mass, Address entropy, Address indptr, Address indices,
                       Address q, Address weight, int dtype, Size B, Size D, Size, Size,
                       int threads) {
    xtr_kernels(dtype).gather(at<void>(out), at<double>(mass), at<double>(entropy),
                              at<Size>(indptr), at<Size>(indices), at<float>(q), at<void>(weight),
                              B, D, threads);
  });
  // words: where each word's entries begin, [V + 1].
  def("xtr_scatter", [](Address out, Address words, Address, Address rows, Address values,
                        Address scale, Address hidden, int dtype, Size first_word, Size n, Size,
                        Size D, Size, int threads) {
    const auto run = [&](auto* kernel, auto zero) {
      using T = decltype(zero);
      kernel(at<T>(out), at<Size>(words) + first_word, at<std::int32_t>(rows), at<T>(values),
             at<T>(scale), at<T>(hidden), n, D, threads);
    };
    const ems::XtrScatter& scatter = ems::active_xtr_table().scatter;
    checked("dtype", dtype, 2) ? run(scatter.float64, 0.0) : run(scatter.float32, 0.0f);
  });
  def("xtr_transpose", [](Address words, Address rows, Address values, Address indptr,
                          Address indices, Address q, int dtype, Size B, Size V, int) {
    with_real(dtype, [&](auto zero) {
      ems::xtr_transpose(at<Size>(words), at<std::int32_t>(rows), at<decltype(zero)>(values),
                         at<Size>(indptr), at<Size>(indices), at<float>(q), B, V);
    });
  });
}

}  // namespace

PYBIND11_MODULE(_kernels, m) {
  m.doc() = "CPU kernels of ems-fast.";
  m.attr("cuda_build") = EMS_CUDA_BUILD;  // "built", or why ems_fast._cuda is not
  bind_machine(m);
  bind_bag_of_words(m);
  bind_xtr(m);
  bind_contrastive(m);
  bind_gemm(m);
  bind_table(m);
  bind_align(m);
}
