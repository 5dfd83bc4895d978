// Bindings of csrc/gemm.h: addresses become pointers, nothing else happens here.
#include "gemm.h"

#include <pybind11/pybind11.h>

#include <stdexcept>

#include "address.h"

namespace py = pybind11;

namespace {

const ems::GemmProducts& products(bool rounded) {
  if (rounded && !ems::has_rounded_gemm())
    throw std::invalid_argument("rounded: this processor has no products in bfloat16");
  const ems::GemmTable& table = ems::active_gemm_table();
  return rounded ? table.rounded : table.exact;
}

}  // namespace

void bind_gemm(py::module_& m) {
  const auto release = py::call_guard<py::gil_scoped_release>();
  m.def("gemm_is_fast", [] { return ems::active_gemm_table().fast; });
  m.def("gemm_has_rounded", &ems::has_rounded_gemm);
  m.def("gemm_packed_size", [](std::int64_t K, std::int64_t N, bool rounded) {
    return products(rounded).packed_size(K, N);
  });
  m.def("gemm_pack",
        [](Address packed, Address from, std::int64_t stride, bool transposed, std::int64_t K,
           std::int64_t N, bool rounded, int threads) {
          products(rounded).pack(at<void>(packed), at<float>(from), stride, transposed, K, N,
                                 threads);
        }, release);
  m.def("gemm_multiply",
        [](Address c, std::int64_t c_stride, Address a, std::int64_t a_stride, Address packed,
           std::int64_t M, std::int64_t N, std::int64_t K, bool add, bool rounded,
           int threads) {
          products(rounded).multiply(at<float>(c), c_stride, at<float>(a), a_stride,
                                     at<void>(packed), M, N, K, add, threads);
        }, release);
  m.def("gemm_multiply_transposed",
        [](Address c, std::int64_t c_stride, Address a, std::int64_t a_stride, Address b,
           std::int64_t b_stride, std::int64_t M, std::int64_t N, std::int64_t K, bool add,
           bool rounded, int threads) {
          products(rounded).multiply_transposed(at<float>(c), c_stride, at<float>(a), a_stride,
                                                at<float>(b), b_stride, M, N, K, add, threads);
        }, release);
}
