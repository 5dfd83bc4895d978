// ems_fast._cuda: bindings of the CUDA kernels, no logic. A module of its own, so that a machine
// without a driver imports everything else. Tensors arrive as addresses and sizes that ems_fast/ops
// has checked; a stream is an address too. Every function only enqueues. Names and arguments are
// those of ems_fast._kernels up to device and stream; arguments that have no name here are for the
// CPU.
//
// Compiled with EMS_SHIM, the same bindings drive the same kernels on the CPU, for tests.
#include <pybind11/pybind11.h>

#include <cstdint>
#include <string>
#include <utility>

#include "address.h"
#include "contrastive_cuda.h"
#include "device_count.h"
#include "xtr_cuda.h"
#if defined(EMS_SHIM)
#include "shim/cuda.h"
#endif

namespace py = pybind11;

namespace {

using Size = std::int64_t;

ems::Queue queue_of(int device, Address stream) { return {device, at<CUstream_st>(stream)}; }

void bind_contrastive(py::module_& m) {
  const auto def = [&](const char* name, auto function) {
    m.def(name, function, py::call_guard<py::gil_scoped_release>());
  };
  def("contrastive_workspace_size", [](Size rows, Size columns, bool, int, Address) {
    return ems::cuda::accumulate_workspace_size(rows, columns);
  });
  def("contrastive_normalise", [](Address unit, Address inverse_norm, Address x, int dtype,
                                  Size rows, Size width, double eps, int device, Address stream) {
    with_real(dtype, [&](auto zero) {
      using T = decltype(zero);
      ems::cuda::normalise(at<T>(unit), at<T>(inverse_norm), at<const T>(x), rows, width, eps,
                           queue_of(device, stream));
    });
  });
  // sums: double [B + M], rows and then columns; maximum and weight: T [B + M] likewise, maximum
  // may be 0.
  def("contrastive_accumulate", [](Address sums, Address maximum, Address positive, Address tile,
                                   Address workspace, Address sources, Address targets, Address k,
                                   int dtype, Size row, Size rows, Size column, Size columns,
                                   Size stride, Size B, Size, bool keep, int device,
                                   Address stream) {
    with_real(dtype, [&](auto zero) {
      using T = decltype(zero);
      ems::cuda::accumulate(at<double>(sums), at<double>(sums) + B, at<T>(maximum),
                            columns_of<T>(maximum, B), at<T>(positive), at<T>(tile),
                            at<T>(workspace), at<const double>(k),
                            {at<const Size>(sources), at<const Size>(targets)},
                            {row, rows, column, columns, stride}, keep, queue_of(device, stream));
    });
  });
  def("contrastive_finish", [](Address loss, Address sums, Address maximum, Address k, int dtype,
                               Size B, int device, Address stream) {
    with_real(dtype, [&](auto zero) {
      using T = decltype(zero);
      ems::cuda::finish(at<T>(loss), at<const double>(sums), at<const double>(sums) + B,
                        at<const T>(maximum), columns_of<const T>(maximum, B),
                        at<const double>(k), B, queue_of(device, stream));
    });
  });
  def("contrastive_weigh", [](Address weight, Address sums, Address grad_loss, Address k,
                              int dtype, Size B, Size M, int device, Address stream) {
    with_real(dtype, [&](auto zero) {
      using T = decltype(zero);
      ems::cuda::weigh(at<T>(weight), at<T>(weight) + B, at<const double>(sums),
                       at<const double>(sums) + B, at<const T>(grad_loss), at<const double>(k), B,
                       M, queue_of(device, stream));
    });
  });
  def("contrastive_gradient", [](Address gradient, Address tile, Address weight, Address maximum,
                                 Address grad_loss, Address slope, Address sources,
                                 Address targets, Address k, int dtype, Size row, Size rows,
                                 Size column, Size columns, Size stride, Size B, Size, bool kept,
                                 int device, Address stream) {
    with_real(dtype, [&](auto zero) {
      using T = decltype(zero);
      ems::cuda::gradient(at<T>(gradient), at<const T>(tile), at<const T>(weight),
                          at<const T>(weight) + B, at<const T>(maximum),
                          columns_of<const T>(maximum, B), at<const T>(grad_loss),
                          at<const double>(slope), at<const double>(k),
                          {at<const Size>(sources), at<const Size>(targets)},
                          {row, rows, column, columns, stride}, kept, queue_of(device, stream));
    });
  });
  // sums and counts: double [B + M], both may be 0; pull: T [B + M]; along: double [B].
  def("contrastive_gather_positives", [](Address tile, Address sums, Address counts, double margin,
                                         Address share, Address sources, Address targets,
                                         int dtype, Size row, Size rows, Size column, Size columns,
                                         Size stride, Size B, Size, int device, Address stream) {
    with_real(dtype, [&](auto zero) {
      using T = decltype(zero);
      ems::cuda::gather_positives(at<T>(tile), at<double>(sums), at<double>(counts),
                                  columns_of<double>(sums, B), columns_of<double>(counts, B),
                                  at<const double>(share),
                                  {at<const Size>(sources), at<const Size>(targets)},
                                  {row, rows, column, columns, stride}, margin,
                                  queue_of(device, stream));
    });
  });
  def("contrastive_pull_positives", [](Address gradient, Address along, Address pull,
                                       Address sources, Address targets, int dtype, Size row,
                                       Size rows, Size column, Size columns, Size stride, Size B,
                                       Size, int device, Address stream) {
    with_real(dtype, [&](auto zero) {
      using T = decltype(zero);
      ems::cuda::pull_positives(at<T>(gradient), at<double>(along), at<const T>(pull),
                                at<const T>(pull) + B,
                                {at<const Size>(sources), at<const Size>(targets)},
                                {row, rows, column, columns, stride}, queue_of(device, stream));
    });
  });
  def("contrastive_normalise_backward", [](Address grad, Address along, Address workspace,
                                           Address unit, Address inverse_norm, int dtype,
                                           Size rows, Size width, double eps, int device,
                                           Address stream) {
    with_real(dtype, [&](auto zero) {
      using T = decltype(zero);
      ems::cuda::normalise_backward(at<T>(grad), at<double>(along), at<double>(workspace),
                                    at<const T>(unit), at<const T>(inverse_norm), rows, width, eps,
                                    queue_of(device, stream));
    });
  });
}

ems::cuda::Dtype dtype_of(int dtype) {
  return static_cast<ems::cuda::Dtype>(checked("dtype", dtype, ems::cuda::dtype_count));
}

void bind_xtr(py::module_& m) {
  const auto def = [&](const char* name, auto function) {
    m.def(name, function, py::call_guard<py::gil_scoped_release>());
  };
  def("xtr_softmax_workspace_size",
      [](Size n, Size B, int, Address) { return ems::cuda::softmax_workspace_size(n, B); });
  def("xtr_softmax", [](Address z, Address shift, Address total, Address rescale,
                        Address workspace, int dtype, Size n, Size B, int device, Address stream) {
    ems::cuda::softmax(at<void>(z), at<void>(shift), at<double>(total), at<void>(rescale),
                       at<void>(workspace), dtype_of(dtype), n, B, queue_of(device, stream));
  });
  def("xtr_probabilities", [](Address z, Address logsumexp, int dtype, Size n, Size B, int device,
                              Address stream) {
    ems::cuda::probabilities(at<void>(z), at<void>(logsumexp), dtype_of(dtype), n, B,
                             queue_of(device, stream));
  });
  def("xtr_accumulate", [](Address out, Address in, Address scale, int dtype, bool add, Size size,
                           int device, Address stream) {
    ems::cuda::accumulate(at<void>(out), at<void>(in), at<void>(scale), checked("dtype", dtype, 2),
                          add, size, queue_of(device, stream));
  });
  def("xtr_gather", [](Address out, Address mass, Address entropy, Address indptr, Address indices,
                       Address q, Address weight, int dtype, Size B, Size D, Size V, Size K,
                       int device, Address stream) {
    ems::cuda::gather(at<void>(out), at<double>(mass), at<double>(entropy), at<const Size>(indptr),
                      at<const Size>(indices), at<const float>(q), at<void>(weight),
                      dtype_of(dtype), B, D, V, K, queue_of(device, stream));
  });
  def("xtr_scatter", [](Address out, Address words, Address ends, Address rows, Address values,
                        Address scale, Address hidden, int dtype, Size first_word, Size n, Size B,
                        Size D, Size K, int device, Address stream) {
    ems::cuda::scatter(at<void>(out), at<const Size>(words), at<const Size>(ends),
                       at<const Size>(rows), at<void>(values), at<void>(scale), at<void>(hidden),
                       checked("dtype", dtype, 2), first_word, n, B, D, K,
                       queue_of(device, stream));
  });
}

}  // namespace

PYBIND11_MODULE(_cuda, m) {
  m.doc() = "CUDA kernels of ems-fast.";
  m.attr("architectures") = EMS_CUDA_ARCHITECTURES;  // for example "75 80 90 120+"; + is PTX
  m.def("device_count", [] {
    const char* problem;
    const int count = ems::device_count(&problem);
    return std::pair(count, std::string(problem));
  });
  bind_contrastive(m);
  bind_xtr(m);
#if defined(EMS_SHIM)
  m.def("seed", [](std::uint64_t seed) { ems::shim::Machine::instance().seed(seed); });
#endif
}
