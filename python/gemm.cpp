// Bindings of csrc/gemm.h: addresses become pointers, nothing else happens here.
#include "gemm.h"

#include <pybind11/pybind11.h>

#include "address.h"

namespace py = pybind11;

void bind_gemm(py::module_& m) {
  const auto release = py::call_guard<py::gil_scoped_release>();
  m.def("gemm_is_fast", [] { return ems::active_gemm_table().fast; });
  m.def("gemm_packed_size", [](std::int64_t K, std::int64_t N) {
    return ems::active_gemm_table().packed_size(K, N);
  });
  m.def("gemm_pack",
        [](Address packed, Address from, std::int64_t stride, bool transposed, std::int64_t K,
           std::int64_t N, int threads) {
          ems::active_gemm_table().pack(at<float>(packed), at<float>(from), stride, transposed, K,
                                        N, threads);
        }, release);
  m.def("gemm_multiply",
        [](Address c, std::int64_t c_stride, Address a, std::int64_t a_stride, Address packed,
           std::int64_t M, std::int64_t N, std::int64_t K, bool add, int threads) {
          ems::active_gemm_table().multiply(at<float>(c), c_stride, at<float>(a), a_stride,
                                            at<float>(packed), M, N, K, add, threads);
        }, release);
  m.def("gemm_multiply_transposed",
        [](Address c, std::int64_t c_stride, Address a, std::int64_t a_stride, Address b,
           std::int64_t b_stride, std::int64_t M, std::int64_t N, std::int64_t K, bool add,
           int threads) {
          ems::active_gemm_table().multiply_transposed(at<float>(c), c_stride, at<float>(a),
                                                       a_stride, at<float>(b), b_stride, M, N, K,
                                                       add, threads);
        }, release);
}
