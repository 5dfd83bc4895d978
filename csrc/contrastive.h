// Symmetric InfoNCE over cosines, one tile of the similarity matrix at a time.
//
// Rows are a's B sentences, columns b's M; the positive of row i is column i. A tile holds
// the cosines of a block of rows and a block of columns, in row-major order; the caller computes it
// with its BLAS. With k = 1 / temperature the forward pass sums exp over rows and over columns, the
// backward pass turns a tile into the gradient of its cosines.
//
// Cosines are at most 1, so exp(k · cos − k) cannot overflow, and while 2k is small it cannot
// underflow either: then ("bounded") one exp serves both sums. Otherwise each row and each column
// carries its running maximum, passed as `row_max` and `column_max`; null means bounded.
//
// A row may have several positives: those that share an id with it. Then `gather_positives` and
// `pull_positives` treat them, and the other kernels are given no groups and a slope of 0.
//
// Results do not depend on the number of threads: rows are cut into slabs of fixed size, whose
// partial sums are added in order.
#pragma once

#include <cstdint>

#include "isa.h"

namespace ems {

// The columns that share an id: those of column j are order[begin[j]] ... order[end[j] - 1],
// ascending. All null: no two columns share one.
struct DuplicateGroups {
  const int32_t* order = nullptr;
  const int32_t* begin = nullptr;
  const int32_t* end = nullptr;
};

struct TilePlace {
  int64_t row, rows, column, columns;  // first row and column of the tile, and its size
  int64_t stride;                      // elements from one row of the tile to the next
};

// Groups equal ids; order, begin and end are int32 [count]. False: all ids differ.
bool group_duplicates(int32_t* order, int32_t* begin, int32_t* end, const int64_t* ids,
                      int64_t count);

template <typename T>
struct ContrastiveKernels {
  // unit[r] = x[r] / max(|x[r]|, eps), inverse_norm[r] = 1 / max(|x[r]|, eps); x is [rows, width].
  void (*normalise)(T* unit, T* inverse_norm, const T* x, int64_t rows, int64_t width, double eps,
                    int threads);

  // Adds a tile to row_sum [B] and column_sum [M], and raises row_max [B] and column_max [M] (both
  // null: bounded; they start at any value that no cosine falls below). Writes the positives it
  // meets to positive [B]. Masked entries of the tile become -inf. With `keep` the tile is left as
  // `gradient` wants it back: exponentials if bounded, otherwise the masked cosines. `workspace`
  // holds accumulate_workspace_size() elements.
  void (*accumulate)(double* row_sum, double* column_sum, T* row_max, T* column_max, T* positive,
                     T* tile, T* workspace, DuplicateGroups sources, DuplicateGroups targets,
                     TilePlace place, double k, bool keep, int threads);

  // loss[i], which holds the positive's cosine, becomes the loss of pair i.
  void (*finish)(T* loss, const double* row_sum, const double* column_sum, const T* row_max,
                 const T* column_max, int64_t B, double k);

  // What an exponential of row i or of column j weighs in the gradient, given grad_loss [B]: row
  // weights [B], column weights [M]. A column that is nobody's positive weighs nothing.
  void (*weigh)(T* row_weight, T* column_weight, const double* row_sum, const double* column_sum,
                const T* grad_loss, int64_t B, int64_t M, double k);

  // tile → gradient of the loss with respect to its cosines. `kept`: the tile is what `accumulate`
  // left with keep. gradient may be the tile itself. slope · grad_loss[i] is what positives lose:
  // the derivative of their exponent, which is not k where negatives are weighted.
  void (*gradient)(T* gradient, const T* tile, const T* row_weight, const T* column_weight,
                   const T* row_max, const T* column_max, const T* grad_loss,
                   DuplicateGroups sources, DuplicateGroups targets, TilePlace place, double k,
                   double slope, bool kept, int threads);

  // Each positive t of the tile becomes (t - margin) · share, and is added to the sums of its row
  // and of its column, [B] and [M], and counted in the counts; all four may be null together.
  void (*gather_positives)(T* tile, double* row_sum, double* row_count, double* column_sum,
                           double* column_count, DuplicateGroups sources, DuplicateGroups targets,
                           TilePlace place, double margin, double share, int threads);

  // Subtracts row_pull + column_pull, [B] and [M], from the gradient of each positive of the tile,
  // and adds what is left of them to along [B], row by row.
  void (*pull_positives)(T* gradient, double* along, const T* row_pull, const T* column_pull,
                         DuplicateGroups sources, DuplicateGroups targets, TilePlace place,
                         int threads);

  // Through the normalisation, in place: grad holds the gradient of unit and becomes that of x.
  // Returns Σ grad · unit.
  double (*normalise_backward)(T* grad, const T* unit, const T* inverse_norm, int64_t rows,
                               int64_t width, double eps, int threads);
};

// Elements of the workspace that `accumulate` needs for a tile of this size.
int64_t accumulate_workspace_size(int64_t rows, int64_t columns, bool bounded);

struct ContrastiveTable {
  ContrastiveKernels<float> f32;
  ContrastiveKernels<double> f64;
};

EMS_SELECT_TABLE(ContrastiveTable, contrastive_table)

template <typename T>
const ContrastiveKernels<T>& contrastive_kernels();
template <>
inline const ContrastiveKernels<float>& contrastive_kernels<float>() {
  return active_contrastive_table().f32;
}
template <>
inline const ContrastiveKernels<double>& contrastive_kernels<double>() {
  return active_contrastive_table().f64;
}

constexpr int64_t slab_rows = 64;

}  // namespace ems
