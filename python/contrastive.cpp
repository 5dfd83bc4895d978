// Bindings of csrc/contrastive.h: addresses become pointers, nothing else happens here. Functions
// of the same names in python/cuda.cpp take the same arguments up to the number of threads; those
// that have no name here are for the GPU.
#include "contrastive.h"

#include <pybind11/pybind11.h>

#include "address.h"

namespace py = pybind11;

namespace {

using Size = std::int64_t;

// int32 [3, M] as group_duplicates filled it, or 0.
ems::DuplicateGroups groups_at(Address address, Size M) {
  if (!address.value) return {};
  const int32_t* order = at<const int32_t>(address);
  return {order, order + M, order + 2 * M};
}

}  // namespace

void bind_contrastive(py::module_& m) {
  const auto def = [&](const char* name, auto function) {
    m.def(name, function, py::call_guard<py::gil_scoped_release>());
  };
  def("contrastive_group_duplicates", [](Address groups, Address ids, Size M, int) {
    int32_t* order = at<int32_t>(groups);
    return ems::group_duplicates(order, order + M, order + 2 * M, at<const int64_t>(ids), M);
  });
  def("contrastive_workspace_size", [](Size rows, Size columns, bool bounded, int) {
    return ems::accumulate_workspace_size(rows, columns, bounded);
  });
  def("contrastive_normalise", [](Address unit, Address inverse_norm, Address x, int dtype,
                                  Size rows, Size width, double eps, int threads) {
    with_real(dtype, [&](auto zero) {
      using T = decltype(zero);
      ems::contrastive_kernels<T>().normalise(at<T>(unit), at<T>(inverse_norm), at<const T>(x),
                                              rows, width, eps, threads);
    });
  });
  // sums: double [B + M], rows and then columns; maximum and weight: T [B + M] likewise, maximum
  // may be 0.
  def("contrastive_accumulate", [](Address sums, Address maximum, Address positive, Address tile,
                                   Address workspace, Address sources, Address targets, double k,
                                   int dtype, Size row, Size rows, Size column, Size columns,
                                   Size stride, Size B, Size M, bool keep, int threads) {
    with_real(dtype, [&](auto zero) {
      using T = decltype(zero);
      ems::contrastive_kernels<T>().accumulate(
          at<double>(sums), at<double>(sums) + B, at<T>(maximum), columns_of<T>(maximum, B),
          at<T>(positive), at<T>(tile), at<T>(workspace), groups_at(sources, M),
          groups_at(targets, M), {row, rows, column, columns, stride}, k, keep, threads);
    });
  });
  def("contrastive_finish", [](Address loss, Address sums, Address maximum, double k, int dtype,
                               Size B, int) {
    with_real(dtype, [&](auto zero) {
      using T = decltype(zero);
      ems::contrastive_kernels<T>().finish(at<T>(loss), at<double>(sums), at<double>(sums) + B,
                                           at<const T>(maximum), columns_of<T>(maximum, B), B, k);
    });
  });
  def("contrastive_weigh", [](Address weight, Address sums, Address grad_loss, double k, int dtype,
                              Size B, Size M, int) {
    with_real(dtype, [&](auto zero) {
      using T = decltype(zero);
      ems::contrastive_kernels<T>().weigh(at<T>(weight), at<T>(weight) + B, at<const double>(sums),
                                          at<const double>(sums) + B, at<const T>(grad_loss), B, M,
                                          k);
    });
  });
  def("contrastive_gradient", [](Address gradient, Address tile, Address weight, Address maximum,
                                 Address grad_loss, double slope, Address sources,
                                 Address targets, double k, int dtype, Size row, Size rows, Size column, Size columns,
                                 Size stride, Size B, Size M, bool kept, int threads) {
    with_real(dtype, [&](auto zero) {
      using T = decltype(zero);
      ems::contrastive_kernels<T>().gradient(
          at<T>(gradient), at<const T>(tile), at<const T>(weight), at<const T>(weight) + B,
          at<const T>(maximum), columns_of<T>(maximum, B), at<const T>(grad_loss),
          groups_at(sources, M), groups_at(targets, M), {row, rows, column, columns, stride}, k,
          slope, kept, threads);
    });
  });
  // sums and counts: double [B + M], both may be 0; pull: T [B + M]; along: double [B].
  def("contrastive_gather_positives", [](Address tile, Address sums, Address counts, double margin,
                                         double share, Address sources, Address targets, int dtype,
                                         Size row, Size rows, Size column, Size columns,
                                         Size stride, Size B, Size M, int threads) {
    with_real(dtype, [&](auto zero) {
      using T = decltype(zero);
      ems::contrastive_kernels<T>().gather_positives(
          at<T>(tile), at<double>(sums), at<double>(counts), columns_of<double>(sums, B),
          columns_of<double>(counts, B), groups_at(sources, M), groups_at(targets, M),
          {row, rows, column, columns, stride}, margin, share, threads);
    });
  });
  def("contrastive_pull_positives", [](Address gradient, Address along, Address pull,
                                       Address sources, Address targets, int dtype, Size row,
                                       Size rows, Size column, Size columns, Size stride, Size B,
                                       Size M, int threads) {
    with_real(dtype, [&](auto zero) {
      using T = decltype(zero);
      ems::contrastive_kernels<T>().pull_positives(
          at<T>(gradient), at<double>(along), at<const T>(pull), at<const T>(pull) + B,
          groups_at(sources, M), groups_at(targets, M), {row, rows, column, columns, stride},
          threads);
    });
  });
  def("contrastive_normalise_backward", [](Address grad, Address along, Address, Address unit,
                                           Address inverse_norm, int dtype, Size rows, Size width,
                                           double eps, int threads) {
    with_real(dtype, [&](auto zero) {
      using T = decltype(zero);
      *at<double>(along) = ems::contrastive_kernels<T>().normalise_backward(
          at<T>(grad), at<const T>(unit), at<const T>(inverse_norm), rows, width, eps, threads);
    });
  });
}
