#include "contrastive.h"

#include <cmath>
#include <limits>

#include "vector_math.h"

namespace ems {
namespace EMS_ISA {
namespace {

// Below this many elements a second thread costs more than it saves.
constexpr int64_t serial_elements = 1 << 15;

int threads_for(int64_t elements, int threads) { return elements < serial_elements ? 1 : threads; }

int64_t slabs_of(int64_t rows) { return (rows + slab_rows - 1) / slab_rows; }

int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }

// The first of the ascending members at or after `least`.
const int32_t* first_from(const int32_t* from, const int32_t* to, int64_t least) {
  for (int64_t length = to - from; length > 0;) {
    const int64_t half = length / 2;
    if (from[half] < least) {
      from += half + 1;
      length -= half + 1;
    } else {
      length = half;
    }
  }
  return from;
}

// Writes `value` to the entries of row i's tile row that are no negatives of it.
template <typename T>
void overwrite_masked(T* row, const DuplicateGroups& groups, const TilePlace& place, int64_t i,
                      T value) {
  if (!groups.order) return;
  const int32_t* from = groups.order + groups.begin[i];
  const int32_t* to = groups.order + groups.end[i];
  if (to - from == 1) return;
  const int32_t* low = first_from(from, to, place.column);
  const int64_t last = place.column + place.columns;
  for (; low < to && *low < last; ++low)
    if (*low != i) row[*low - place.column] = value;
}

// Calls visit(j) for i itself and for all that share an id with it, once each, in [first, last).
template <typename Visit>
void visit_positives(const DuplicateGroups& sources, const DuplicateGroups& targets, int64_t i,
                     int64_t first, int64_t last, Visit visit) {
  if (sources.order) {
    const int32_t* const end = sources.order + sources.end[i];
    const int32_t* j = first_from(sources.order + sources.begin[i], end, first);
    for (; j < end && *j < last; ++j) visit(static_cast<int64_t>(*j));
  } else if (i >= first && i < last) {
    visit(i);
  }
  if (!targets.order) return;
  const int32_t* const end = targets.order + targets.end[i];
  const int32_t* j = first_from(targets.order + targets.begin[i], end, first);
  for (; j < end && *j < last; ++j) {
    const bool visited = *j == i || (sources.order && sources.begin[*j] == sources.begin[i]);
    if (!visited) visit(static_cast<int64_t>(*j));
  }
}

template <typename T>
void normalise(T* unit, T* inverse_norm, const T* x, int64_t rows, int64_t width, double eps,
               int threads) {
#pragma omp parallel for schedule(static) num_threads(threads_for(rows * width, threads))
  for (int64_t r = 0; r < rows; ++r) {
    const T* in = x + r * width;
    T* out = unit + r * width;
    double square = 0;
#pragma omp simd reduction(+ : square)
    for (int64_t e = 0; e < width; ++e) square += static_cast<double>(in[e]) * in[e];
    const double norm = std::sqrt(square);
    const T inverse = static_cast<T>(1 / (norm < eps ? eps : norm));
    inverse_norm[r] = inverse;
#pragma omp simd
    for (int64_t e = 0; e < width; ++e) out[e] = in[e] * inverse;
  }
}

template <typename T>
T exponentials(T* __restrict row, T* __restrict column_sum, int64_t columns, T k, bool keep) {
  T sum = 0;
  if (keep) {
#pragma omp simd reduction(+ : sum)
    for (int64_t j = 0; j < columns; ++j) {
      const T e = vexp(row[j] * k - k);
      row[j] = e;
      column_sum[j] += e;
      sum += e;
    }
  } else {
#pragma omp simd reduction(+ : sum)
    for (int64_t j = 0; j < columns; ++j) {
      const T e = vexp(row[j] * k - k);
      column_sum[j] += e;
      sum += e;
    }
  }
  return sum;
}

// Adds the sum `sum` relative to the maximum `max` to a running pair of the same kind.
template <typename T>
void merge(double& total, T& running, double sum, T max, double k) {
  if (max > running) {
    total = total * std::exp(k * (static_cast<double>(running) - max)) + sum;
    running = max;
  } else {
    total += sum * std::exp(k * (static_cast<double>(max) - running));
  }
}

template <typename T>
void accumulate(double* row_sum, double* column_sum, T* row_max, T* column_max, T* positive,
                T* tile, T* workspace, DuplicateGroups sources, DuplicateGroups targets,
                TilePlace place, double k, bool keep, int threads) {
  const int64_t rows = place.rows, columns = place.columns, slabs = slabs_of(rows);
  const bool bounded = row_max == nullptr;
  const T scale = static_cast<T>(k);
  T* const slab_sum = workspace;                     // [slabs, columns]
  T* const slab_max = workspace + slabs * columns;   // [slabs, columns], not bounded only
#pragma omp parallel num_threads(threads_for(rows * columns, threads))
  {
#pragma omp for schedule(static)
    for (int64_t slab = 0; slab < slabs; ++slab) {
      const int64_t from = slab * slab_rows, to = smaller(rows, from + slab_rows);
      T* const sums = slab_sum + slab * columns;
      for (int64_t j = 0; j < columns; ++j) sums[j] = 0;
      for (int64_t r = from; r < to; ++r) {
        T* const row = tile + r * place.stride;
        const int64_t i = place.row + r;
        const int64_t p = i - place.column;
        if (p >= 0 && p < columns) positive[i] = row[p];
        const T masked = -std::numeric_limits<T>::infinity();
        overwrite_masked(row, sources, place, i, masked);
        overwrite_masked(row, targets, place, i, masked);
        if (bounded) row_sum[i] += exponentials(row, sums, columns, scale, keep);
      }
      if (bounded) continue;
      T* const highest = slab_max + slab * columns;
      for (int64_t j = 0; j < columns; ++j) highest[j] = column_max[place.column + j];
      for (int64_t r = from; r < to; ++r) {
        const T* const row = tile + r * place.stride;
#pragma omp simd
        for (int64_t j = 0; j < columns; ++j)
          highest[j] = row[j] > highest[j] ? row[j] : highest[j];
      }
      for (int64_t r = from; r < to; ++r) {
        const T* const row = tile + r * place.stride;
        const int64_t i = place.row + r;
        T max = row_max[i], sum = 0;
#pragma omp simd reduction(max : max)
        for (int64_t j = 0; j < columns; ++j) max = row[j] > max ? row[j] : max;
#pragma omp simd reduction(+ : sum)
        for (int64_t j = 0; j < columns; ++j) {
          sum += vexp((row[j] - max) * scale);
          sums[j] += vexp((row[j] - highest[j]) * scale);
        }
        merge(row_sum[i], row_max[i], sum, max, k);
      }
    }
#pragma omp for schedule(static)
    for (int64_t j = 0; j < columns; ++j) {
      const int64_t c = place.column + j;
      for (int64_t slab = 0; slab < slabs; ++slab) {
        const int64_t at = slab * columns + j;
        if (bounded)
          column_sum[c] += slab_sum[at];
        else
          merge(column_sum[c], column_max[c], slab_sum[at], slab_max[at], k);
      }
    }
  }
}

template <typename T>
void finish(T* loss, const double* row_sum, const double* column_sum, const T* row_max,
            const T* column_max, int64_t B, double k) {
  for (int64_t i = 0; i < B; ++i) {
    const double cosine = loss[i];
    // Maxima first: where the positive is the maximum they cancel without error.
    const double above_row = (row_max ? row_max[i] : 1) - cosine;
    const double above_column = (column_max ? column_max[i] : 1) - cosine;
    loss[i] = static_cast<T>(
        (std::log(row_sum[i]) + std::log(column_sum[i]) + k * (above_row + above_column)) / 2);
  }
}

template <typename T>
void weigh(T* row_weight, T* column_weight, const double* row_sum, const double* column_sum,
           const T* grad_loss, int64_t B, int64_t M, double k) {
  for (int64_t j = 0; j < M; ++j) column_weight[j] = 0;
  for (int64_t i = 0; i < B; ++i) {
    const double half = k * grad_loss[i] / 2;
    row_weight[i] = static_cast<T>(half / row_sum[i]);
    column_weight[i] = static_cast<T>(half / column_sum[i]);
  }
}

template <typename T>
void gradient(T* gradient, const T* tile, const T* row_weight, const T* column_weight,
              const T* row_max, const T* column_max, const T* grad_loss, DuplicateGroups sources,
              DuplicateGroups targets, TilePlace place, double k, double slope, bool kept,
              int threads) {
  const int64_t columns = place.columns;
  const bool bounded = row_max == nullptr;
  const T scale = static_cast<T>(k);
  const T* const weight = column_weight + place.column;
  const T* const highest = bounded ? nullptr : column_max + place.column;
#pragma omp parallel for schedule(static) num_threads(threads_for(place.rows * columns, threads))
  for (int64_t r = 0; r < place.rows; ++r) {
    const int64_t i = place.row + r;
    const T* const in = tile + r * place.stride;
    T* const out = gradient + r * place.stride;
    const T w = row_weight[i];
    if (!bounded) {
      const T max = row_max[i];
#pragma omp simd
      for (int64_t j = 0; j < columns; ++j)
        out[j] = w * vexp((in[j] - max) * scale) +
                 weight[j] * vexp((in[j] - highest[j]) * scale);
    } else if (kept) {
#pragma omp simd
      for (int64_t j = 0; j < columns; ++j) out[j] = in[j] * (w + weight[j]);
    } else {
#pragma omp simd
      for (int64_t j = 0; j < columns; ++j)
        out[j] = vexp(in[j] * scale - scale) * (w + weight[j]);
    }
    overwrite_masked(out, sources, place, i, T(0));
    overwrite_masked(out, targets, place, i, T(0));
    const int64_t p = i - place.column;
    if (p >= 0 && p < columns) out[p] -= static_cast<T>(slope) * grad_loss[i];
  }
}

template <typename T>
void gather_positives(T* tile, double* row_sum, double* row_count, double* column_sum,
                      double* column_count, DuplicateGroups sources, DuplicateGroups targets,
                      TilePlace place, double margin, double share, int threads) {
  const int64_t last_row = place.row + place.rows, last_column = place.column + place.columns;
  const T lower = static_cast<T>(margin), scale = static_cast<T>(share);
#pragma omp parallel num_threads(threads_for(place.rows * place.columns, threads))
  {
#pragma omp for schedule(static)
    for (int64_t i = place.row; i < last_row; ++i) {
      T* const row = tile + (i - place.row) * place.stride;
      double sum = 0, count = 0;
      visit_positives(sources, targets, i, place.column, last_column, [&](int64_t j) {
        T& entry = row[j - place.column];
        entry = (entry - lower) * scale;
        sum += entry;
        ++count;
      });
      if (!row_sum) continue;
      row_sum[i] += sum;
      row_count[i] += count;
    }
    // Who shares an id with column j shares it as row j: groups serve both directions.
    if (row_sum) {
#pragma omp for schedule(static)
      for (int64_t j = place.column; j < last_column; ++j) {
        double sum = 0, count = 0;
        visit_positives(sources, targets, j, place.row, last_row, [&](int64_t i) {
          sum += tile[(i - place.row) * place.stride + j - place.column];
          ++count;
        });
        column_sum[j] += sum;
        column_count[j] += count;
      }
    }
  }
}

template <typename T>
void pull_positives(T* gradient, double* along, const T* row_pull, const T* column_pull,
                    DuplicateGroups sources, DuplicateGroups targets, TilePlace place,
                    int threads) {
#pragma omp parallel for schedule(static) \
    num_threads(threads_for(place.rows * place.columns, threads))
  for (int64_t r = 0; r < place.rows; ++r) {
    const int64_t i = place.row + r;
    T* const row = gradient + r * place.stride;
    double sum = 0;
    visit_positives(sources, targets, i, place.column, place.column + place.columns,
                    [&](int64_t j) {
                      T& entry = row[j - place.column];
                      entry -= row_pull[i] + column_pull[j];
                      sum += entry;
                    });
    along[i] += sum;
  }
}

template <typename T>
double normalise_backward(T* grad, const T* unit, const T* inverse_norm, int64_t rows,
                          int64_t width, double eps, int threads) {
  // Slabs of fixed size, so that the sum does not depend on the number of threads.
  const int64_t slabs = slabs_of(rows);
  double total = 0;
#pragma omp parallel for ordered schedule(static, 1) num_threads(threads_for(rows * width, threads))
  for (int64_t slab = 0; slab < slabs; ++slab) {
    double along = 0;
    const int64_t to = smaller(rows, (slab + 1) * slab_rows);
    for (int64_t r = slab * slab_rows; r < to; ++r) {
      T* const g = grad + r * width;
      const T* const u = unit + r * width;
      const T inverse = inverse_norm[r];
      double dot = 0;
#pragma omp simd reduction(+ : dot)
      for (int64_t e = 0; e < width; ++e) dot += static_cast<double>(g[e]) * u[e];
      along += dot;
      // A norm that was raised to eps is a constant: nothing is projected out.
      const T radial = inverse < static_cast<T>(1 / eps) ? static_cast<T>(dot) : T(0);
#pragma omp simd
      for (int64_t e = 0; e < width; ++e) g[e] = (g[e] - u[e] * radial) * inverse;
    }
#pragma omp ordered
    total += along;
  }
  return total;
}

}  // namespace

template <typename T>
static constexpr ContrastiveKernels<T> kernels_of = {
    normalise<T>, accumulate<T>,       finish<T>,         weigh<T>,
    gradient<T>,  gather_positives<T>, pull_positives<T>, normalise_backward<T>};

extern const ContrastiveTable contrastive_table;
const ContrastiveTable contrastive_table = {kernels_of<float>, kernels_of<double>};

}  // namespace EMS_ISA
}  // namespace ems
