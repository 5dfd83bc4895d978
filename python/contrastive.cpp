// Bindings of csrc/contrastive.h: addresses become pointers, nothing else happens here.
#include "contrastive.h"

#include <pybind11/pybind11.h>

#include <string>

#include "address.h"

namespace py = pybind11;

namespace {

// int32 [3, M] as group_duplicates filled it, or 0.
ems::DuplicateGroups groups_at(Address address, int64_t M) {
  if (!address) return {};
  const int32_t* order = at<const int32_t>(address);
  return {order, order + M, order + 2 * M};
}

template <typename T>
void bind_dtype(py::module_& m, const std::string& suffix) {
  auto def = [&](const char* name, auto function) {
    m.def(("contrastive_" + (name + suffix)).c_str(), function,
          py::call_guard<py::gil_scoped_release>());
  };
  def("normalise", [](Address unit, Address inverse_norm, Address x, int64_t rows, int64_t width,
                      double eps, int threads) {
    ems::contrastive_kernels<T>().normalise(at<T>(unit), at<T>(inverse_norm), at<const T>(x), rows,
                                            width, eps, threads);
  });
  // sums: double [B + M], rows and then columns; maximum and weight: T [B + M] likewise, maximum
  // may be 0.
  def("accumulate", [](Address sums, Address maximum, Address positive, Address tile,
                       Address workspace, Address sources, Address targets, int64_t row,
                       int64_t rows, int64_t column, int64_t columns, int64_t stride,
                       int64_t B, int64_t M, double k, bool keep, int threads) {
    ems::contrastive_kernels<T>().accumulate(
        at<double>(sums), at<double>(sums) + B, at<T>(maximum), columns_of<T>(maximum, B),
        at<T>(positive), at<T>(tile), at<T>(workspace), groups_at(sources, M),
        groups_at(targets, M), {row, rows, column, columns, stride}, k, keep, threads);
  });
  def("finish", [](Address loss, Address sums, Address maximum, int64_t B, int64_t,
                   double k) {
    ems::contrastive_kernels<T>().finish(at<T>(loss), at<double>(sums), at<double>(sums) + B,
                                         at<const T>(maximum), columns_of<T>(maximum, B), B, k);
  });
  def("weigh", [](Address weight, Address sums, Address grad_loss, int64_t B,
                  int64_t M, double k) {
    ems::contrastive_kernels<T>().weigh(at<T>(weight), at<T>(weight) + B, at<const double>(sums),
                                        at<const double>(sums) + B, at<const T>(grad_loss), B, M, k);
  });
  def("gradient", [](Address gradient, Address tile, Address weight, Address maximum,
                     Address grad_loss, Address sources, Address targets, int64_t row, int64_t rows,
                     int64_t column, int64_t columns, int64_t stride, int64_t B,
                     int64_t M, double k, bool kept, int threads) {
    ems::contrastive_kernels<T>().gradient(
        at<T>(gradient), at<const T>(tile), at<const T>(weight), at<const T>(weight) + B,
        at<const T>(maximum), columns_of<T>(maximum, B), at<const T>(grad_loss),
        groups_at(sources, M), groups_at(targets, M),
        {row, rows, column, columns, stride}, k, kept, threads);
  });
  def("normalise_backward", [](Address grad, Address unit, Address inverse_norm, int64_t rows,
                               int64_t width, double eps, int threads) {
    return ems::contrastive_kernels<T>().normalise_backward(
        at<T>(grad), at<const T>(unit), at<const T>(inverse_norm), rows, width, eps, threads);
  });
}

}  // namespace

void bind_contrastive(py::module_& m) {
  m.def(
      "contrastive_group_duplicates",
      [](Address groups, Address ids, int64_t M) {
        int32_t* order = at<int32_t>(groups);
        return ems::group_duplicates(order, order + M, order + 2 * M, at<const int64_t>(ids), M);
      },
      py::call_guard<py::gil_scoped_release>());
  m.def("contrastive_workspace_size", &ems::accumulate_workspace_size);
  bind_dtype<float>(m, "_f32");
  bind_dtype<double>(m, "_f64");
}
