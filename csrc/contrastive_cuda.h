// The kernels of contrastive.h for CUDA. They are enqueued in order, nothing waits for the device,
// and no memory is allocated: what they need comes from the caller.
//
// All pointers are to device memory, k = 1 / temperature too: so a learnt temperature need not be
// read by the host. Duplicates are found by comparing the ids of a row and a column, which on a GPU
// costs less than walking lists. Sums are added in a fixed order, without atomics: the same input
// gives the same bits. T is float or double.
#pragma once

#include <cstdint>

#include "contrastive.h"
#include "queue.h"

namespace ems {
namespace cuda {

struct PairIds {
  const int64_t* sources;  // [M] or null
  const int64_t* targets;  // [M] or null
};

// Elements of T that `accumulate` needs for a tile of this size, and doubles that
// `normalise_backward` needs.
int64_t accumulate_workspace_size(int64_t rows, int64_t columns);

// unit[r] = x[r] / max(|x[r]|, eps), inverse_norm[r] = 1 / max(|x[r]|, eps); x is [rows, width].
template <typename T>
void normalise(T* unit, T* inverse_norm, const T* x, int64_t rows, int64_t width, double eps,
               Queue queue);

// As ContrastiveKernels::accumulate. row_max and column_max null: bounded.
template <typename T>
void accumulate(double* row_sum, double* column_sum, T* row_max, T* column_max, T* positive,
                T* tile, T* workspace, const double* k, PairIds ids, TilePlace place, bool keep,
                Queue queue);

// loss[i], which holds the positive's cosine, becomes the loss of pair i.
template <typename T>
void finish(T* loss, const double* row_sum, const double* column_sum, const T* row_max,
            const T* column_max, const double* k, int64_t B, Queue queue);

// What an exponential of a row or of a column weighs in the gradient: weights [B] and [M].
template <typename T>
void weigh(T* row_weight, T* column_weight, const double* row_sum, const double* column_sum,
           const T* grad_loss, const double* k, int64_t B, int64_t M, Queue queue);

// As ContrastiveKernels::gradient.
template <typename T>
void gradient(T* gradient, const T* tile, const T* row_weight, const T* column_weight,
              const T* row_max, const T* column_max, const T* grad_loss, const double* slope,
              const double* k, PairIds ids, TilePlace place, bool kept, Queue queue);

// As ContrastiveKernels::gather_positives; `share` is on the device too.
template <typename T>
void gather_positives(T* tile, double* row_sum, double* row_count, double* column_sum,
                      double* column_count, const double* share, PairIds ids, TilePlace place,
                      double margin, Queue queue);

// As ContrastiveKernels::pull_positives.
template <typename T>
void pull_positives(T* gradient, double* along, const T* row_pull, const T* column_pull,
                    PairIds ids, TilePlace place, Queue queue);

// Through the normalisation, in place; along [1] = Σ grad · unit, workspace: rows doubles.
template <typename T>
void normalise_backward(T* grad, double* along, double* workspace, const T* unit,
                        const T* inverse_norm, int64_t rows, int64_t width, double eps,
                        Queue queue);

}  // namespace cuda
}  // namespace ems
